"""Cold caches: drop what can be dropped, then wait until the disks are quiet (docs/explanation/method.md)."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tare.bench.errors import HostError

_DROP = Path("/proc/sys/vm/drop_caches")
_QUIET_BYTES = 1 << 20
_CAP_S = 5.0
_LOOK_S = 0.02


def require() -> None:
    """Raise HostError if this user cannot drop caches."""
    if not os.access(_DROP, os.W_OK):
        raise HostError(
            'cache = "cold" is not possible here', f"{_DROP} is not writable", "run as root, or with --cache warm"
        )


def drop() -> bool:
    """Write dirty pages back, drop page cache, dentries and inodes, and settle; False if the cap came first.

    Settled means: less than 1 MiB waits to be written back. Untimed.
    """
    os.sync()
    _DROP.write_text("3", encoding="ascii")
    deadline = time.monotonic() + _CAP_S
    while unwritten_bytes(Path("/proc/meminfo").read_text(encoding="ascii")) > _QUIET_BYTES:
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


def unwritten_bytes(meminfo: str) -> int:
    """Dirty + Writeback of a /proc/meminfo text (proc_meminfo(5)), in bytes."""
    values = {name: rest.split()[0] for name, _, rest in (line.partition(":") for line in meminfo.splitlines()) if rest}
    return (int(values["Dirty"]) + int(values["Writeback"])) * 1024
