"""A container's network: ``none`` (loopback alone), ``host`` (no namespace), ``bridge`` (a veth pair to a bridge).

The bridge ``tare-br0`` is made for the first container that asks for it, and removed with the last. One file of leases
says which container has which address; it is changed under a lock. All that a container gets can be removed by its name
alone, so ``teardown`` finds all that a killed runtime has left.

NAT is an option: it needs forwarding, a setting of the whole host, which this module never changes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys

from ..light.dataclasses import record
from .netlink import Netlink, in_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

MODES = ("none", "host", "bridge")
BRIDGE = "tare-br0"
#: The name of the link in the container.
INTERFACE = "eth0"
#: Where leases are kept; like the links, they are gone after a reboot.
STATE = "/run/tare-network"
#: A network has room for 1021 containers: a bridge has at most 1024 ports (net/bridge/br_private.h, BR_MAX_PORTS).
BITS = 22
_SIZE = 1 << 32 - BITS
#: Networks to choose from, in 10.214.0.0/16.
_FIRST, _CHOICES = 10 << 24 | 214 << 16, 1 << BITS - 16


@record(kw_only=True)
class Lease:
    """The lease of one container: its address is *base*, the network's, plus *offset*."""

    name: str
    base: int
    offset: int
    nat: bool

    @property
    def address(self) -> str:
        """The container's address."""
        return dotted(self.base + self.offset)

    @property
    def gateway(self) -> str:
        """The bridge's address."""
        return dotted(self.base + 1)

    @property
    def link(self) -> str:
        """The name of the host's end of its veth pair."""
        return f"tare-v{self.offset}"

    @property
    def network(self) -> str:
        """The network of all containers, such as 10.214.0.0/22."""
        return f"{dotted(self.base)}/{BITS}"


def dotted(number: int) -> str:
    """An IPv4 address as text."""
    return ".".join(str(number >> shift & 0xFF) for shift in (24, 16, 8, 0))


def configure(config: Mapping[str, Any], mode: str) -> dict[str, Any]:
    """*config* with the network namespace that *mode* needs: none for ``host``, a new one otherwise."""
    if mode not in MODES:
        raise ValueError(f"unknown network {mode!r}; known: {', '.join(MODES)}")
    linux = dict(config.get("linux") or {})
    others = [each for each in linux.get("namespaces") or [] if each.get("type") != "network"]
    linux["namespaces"] = others if mode == "host" else [*others, {"type": "network"}]
    return {**config, "linux": linux}


def setup(pid: int, name: str, *, nat: bool = False, state: str = STATE) -> Lease:
    """Connect the network namespace of process *pid*, container *name*, to the bridge. Raises OSError.

    If it fails, nothing is left. *name* must be free. With *nat*, packets leave the host with the host's address.
    """
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(namespace).st_ino == os.stat("/proc/self/ns/net").st_ino:
            raise OSError(errno.EINVAL, "has no network namespace of its own", name)
        with _Leases(state) as leases, Netlink() as here, in_namespace(namespace) as there:
            lease = leases.add(name, nat=nat)
            try:
                _connect(here, there, lease, namespace)
                if nat and sum(each.nat for each in leases.all) == 1:
                    _add_nat(lease.network)
            except BaseException:
                _disconnect(here, leases, lease)
                raise
            return lease
    finally:
        os.close(namespace)


def teardown(name: str, *, state: str = STATE) -> bool:
    """Remove all that :func:`setup` made for *name*, and after the last the bridge; whether there was anything."""
    if not os.path.exists(f"{state}/leases"):
        return False
    with _Leases(state) as leases, Netlink() as here:
        lease = leases.find(name)
        if lease is None:
            return False
        _disconnect(here, leases, lease)
        return True


def names(*, state: str = STATE) -> list[str]:
    """The names of all connected containers."""
    if not os.path.exists(f"{state}/leases"):
        return []
    with _Leases(state) as leases:
        return [each.name for each in leases.all]


def _connect(here: Netlink, there: Netlink, lease: Lease, namespace: int) -> None:
    bridge = here.index(BRIDGE)
    if not bridge:
        # A locally administered address (the second bit), which is always the same for the same network.
        here.add_bridge(BRIDGE, b"\x02\x54" + (lease.base + 1).to_bytes(4, "big"))
        bridge = here.index(BRIDGE)
        here.add_address(bridge, lease.gateway, BITS)
        here.up(bridge)
    here.add_veth(lease.link, master=bridge, peer=INTERFACE, namespace=namespace)
    there.up(there.index("lo"))
    inner = there.index(INTERFACE)
    there.add_address(inner, lease.address, BITS)
    there.up(inner)
    there.add_default_route(lease.gateway)


def _disconnect(here: Netlink, leases: _Leases, lease: Lease) -> None:
    here.delete(lease.link)
    leases.remove(lease)
    if lease.nat and not any(each.nat for each in leases.all):
        _remove_nat(lease.network)
    if not leases.all:
        here.delete(BRIDGE)


class _Leases:
    """The file of leases, locked: the network's line, then one line for each lease, ``OFFSET NAT NAME``."""

    def __init__(self, state: str) -> None:
        self._file = f"{state}/leases"
        os.makedirs(state, mode=0o700, exist_ok=True)
        self._lock = os.open(f"{state}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.all: list[Lease] = []

    def __enter__(self) -> _Leases:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            with open(self._file, encoding="utf-8") as file:
                head, *rows = file.read().splitlines()
        except FileNotFoundError:
            return self
        for row in rows:
            offset, nat, name = row.split(" ", 2)
            self.all.append(Lease(name=name, base=int(head), offset=int(offset), nat=nat == "nat"))
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def find(self, name: str) -> Lease | None:
        return next((each for each in self.all if each.name == name), None)

    def add(self, name: str, *, nat: bool) -> Lease:
        if self.find(name) is not None:
            raise FileExistsError(errno.EEXIST, "is connected already", name)
        if not name or "\n" in name:
            raise OSError(errno.EINVAL, "cannot be the name of a container", name)
        taken = {each.offset for each in self.all}
        # 0 is the network, 1 the bridge, the last one the broadcast address.
        offset = next((each for each in range(2, _SIZE - 1) if each not in taken), 0)
        if not offset:
            raise OSError(errno.EADDRNOTAVAIL, "all addresses are taken: delete containers", self._file)
        base = self.all[0].base if self.all else free_network(_routes())
        lease = Lease(name=name, base=base, offset=offset, nat=nat)
        # Before anything is made: then what a kill leaves can be removed by this name.
        self._write([*self.all, lease])
        return lease

    def remove(self, lease: Lease) -> None:
        self._write([each for each in self.all if each != lease])

    def _write(self, leases: list[Lease]) -> None:
        if leases:
            rows = [f"{each.offset} {'nat' if each.nat else 'plain'} {each.name}" for each in leases]
            with open(f"{self._file}.new", "w", encoding="utf-8") as file:
                file.write("\n".join([str(leases[0].base), *rows]) + "\n")
            os.rename(f"{self._file}.new", self._file)
        else:
            os.unlink(self._file)
        self.all = leases


def _routes() -> str:
    with open("/proc/net/route", encoding="ascii") as file:
        return file.read()


def free_network(routes: str) -> int:
    """The first of our networks that overlaps no network in *routes* (the text of /proc/net/route)."""
    taken = list(_networks(routes))
    for base in range(_FIRST, _FIRST + _CHOICES * _SIZE, _SIZE):
        if not any(start < base + _SIZE and base <= start + (~mask & 0xFFFFFFFF) for start, mask in taken):
            return base
    raise OSError(errno.EADDRINUSE, "the host has routes into all of 10.214.0.0/16", "/proc/net/route")


def _networks(routes: str) -> Iterable[tuple[int, int]]:
    for row in routes.splitlines()[1:]:
        fields = row.split()
        # The kernel prints the four bytes as a number of its own byte order.
        start, mask = (int.from_bytes(bytes.fromhex(fields[i])[::_ORDER], "big") for i in (1, 7))
        if mask:  # a default route, which leads to no network
            yield start, mask


_ORDER = -1 if sys.byteorder == "little" else 1


def _add_nat(network: str) -> None:
    with open("/proc/sys/net/ipv4/ip_forward", encoding="ascii") as file:
        if file.read().strip() != "1":
            raise OSError(
                errno.EPERM, "this host does not forward: sysctl -w net.ipv4.ip_forward=1", "net.ipv4.ip_forward"
            )
    tool = nat_tool()
    if tool.endswith("nft"):
        for words in (
            "add table ip tare-network",
            "add chain ip tare-network out { type nat hook postrouting priority 100 ; }",
            f"add rule ip tare-network out ip saddr {network} ip daddr != {network} masquerade",
        ):
            _run(tool, *words.split())
    else:
        _run(tool, *_masquerade("-A", network))


def _remove_nat(network: str) -> None:
    tool = nat_tool()
    if tool.endswith("nft"):
        _run(tool, "delete", "table", "ip", "tare-network", absent_is_fine=True)
    else:
        _run(tool, *_masquerade("-D", network), absent_is_fine=True)


def _masquerade(action: str, network: str) -> list[str]:
    return ["-w", "-t", "nat", action, "POSTROUTING", "-s", network, "!", "-d", network, "-j", "MASQUERADE"]


def nat_tool() -> str:
    """The program for NAT: nft, else iptables; the first that is there. Raises FileNotFoundError."""
    for name in ("nft", "iptables", "iptables-legacy"):
        for directory in (*os.environ.get("PATH", "").split(":"), "/usr/sbin", "/sbin"):
            if directory and os.access(f"{directory}/{name}", os.X_OK):
                return f"{directory}/{name}"
    raise FileNotFoundError(errno.ENOENT, "NAT needs nft or iptables: install nftables", "nft")


def _run(*words: str, absent_is_fine: bool = False) -> None:
    reader, writer = os.pipe()
    try:
        try:
            redirections = ((os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, writer, 2))
            pid = os.posix_spawn(words[0], words, os.environ, file_actions=redirections, setsigmask=())
        finally:
            os.close(writer)
        said = b""
        while data := os.read(reader, 4096):
            said += data
    finally:
        os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status and not absent_is_fine:
        why = said.decode(errors="replace").strip()[-300:]
        raise OSError(errno.EIO, why or f"ended with {status}", " ".join(words))
