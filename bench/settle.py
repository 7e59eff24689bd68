"""Settling: wait until the host's memory stands still, by a rule and not by a fixed sleep (docs/method.md)."""

from __future__ import annotations

import time
from pathlib import Path

#: Still means: between two looks free memory moved by less than this, so many times in a row.
STILL_BYTES = 128 << 10
LOOKS = 3
LOOK_S = 0.05
CAP_S = 3.0


def settle() -> bool:
    """Return once free memory stands still; False if the cap came first. Untimed."""
    deadline = time.monotonic() + CAP_S
    still, before = 0, free_bytes(Path("/proc/meminfo").read_text(encoding="ascii"))
    while still < LOOKS:
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_S)
        now = free_bytes(Path("/proc/meminfo").read_text(encoding="ascii"))
        still = still + 1 if abs(now - before) < STILL_BYTES else 0
        before = now
    return True


def free_bytes(meminfo: str) -> int:
    """MemFree of a /proc/meminfo text, in bytes."""
    for line in meminfo.splitlines():
        if line.startswith("MemFree:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no MemFree in /proc/meminfo")
