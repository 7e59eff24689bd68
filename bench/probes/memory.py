"""How much memory processes cost, from /proc (proc_pid_smaps(5))."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional set size of *pids*: a shared page counts by its share, a process that just ended not at all."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += parse_pss_bytes(text)
    return total


def parse_pss_bytes(smaps_rollup: str) -> int:
    """The ``Pss:`` line of a smaps_rollup text, in bytes; 0 for a kernel thread, which has none."""
    for line in smaps_rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0
