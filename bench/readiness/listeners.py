"""Who listens in a network namespace (proc_pid_net(5)): what to say of a port that did not answer."""

from __future__ import annotations

from pathlib import Path

from tare.runners.base import Address

#: TCP_LISTEN of the kernel's tcp_states.h.
_LISTEN = "0A"
_MOST_NAMED = 5


def ports(text: str) -> frozenset[int]:
    """The ports with a listener in *text*, the content of ``net/tcp`` or ``net/tcp6``."""
    rows = (line.split() for line in text.splitlines()[1:])
    return frozenset(int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == _LISTEN)


def hint(address: Address, port: int) -> str:
    """What explains that *port* inside does not answer; empty where nothing does."""
    old, new = (_read(address, name) for name in ("tcp", "tcp6"))
    if port in new and port not in old:
        return f"it listens on port {port} of IPv6 alone, and is asked by IPv4"
    others = sorted(old | new)
    if address.pid is None or not others:  # of the host's many listeners, none is known to be the workload
        return ""
    return f"it listens on port {', '.join(map(str, others[:_MOST_NAMED]))}"


def _read(address: Address, name: str) -> frozenset[int]:
    try:
        return ports(Path("/proc", str(address.pid or "self"), "net", name).read_text())
    except OSError:  # the instance has ended
        return frozenset()
