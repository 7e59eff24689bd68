"""How much memory processes cost (proc_pid_smaps(5)), and how much processor time.

``smaps_rollup`` is read and not ``smaps``: the kernel sums up while it walks the page tables once, and no text of a
thousand lines is made for each process.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tare.runners.container.cgroup import hierarchies

#: Our metric -> the lines of smaps_rollup that make it up.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "rss_bytes": ("Rss",),
    "pss_bytes": ("Pss",),
    "uss_bytes": ("Private_Clean", "Private_Dirty", "Private_Hugetlb"),
    "pss_anon_bytes": ("Pss_Anon",),
    "pss_file_bytes": ("Pss_File",),
    "pss_shmem_bytes": ("Pss_Shmem",),
}


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional set size of *pids*: a shared page counts by its share, a process that just ended not at all."""
    return sum(int(parse_rollup(text)["pss_bytes"]) for pid in pids if (text := _rollup(pid)))


def cpu_ns(pids: Iterable[int]) -> int:
    """Processor time that *pids* have used, their ended threads included; a process that is gone has none.

    By their own clocks (clock_getcpuclockid(3)), which are exact; proc_pid_stat(5) counts in hundredths of a second.
    """
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += time.clock_gettime_ns((~pid << 3) | 2)
    return total


def by_role(pids: Iterable[int]) -> dict[str, dict[str, float]]:
    """For each program among *pids* (``/proc/PID/comm``) the sums of :data:`FIELDS`, and how many processes it has."""
    found: dict[str, dict[str, float]] = {}
    for pid in pids:
        text = _rollup(pid)
        if not text:
            continue
        sums = found.setdefault(_comm(pid), dict.fromkeys((*FIELDS, "processes_count"), 0.0))
        for metric, value in parse_rollup(text).items():
            sums[metric] += value
        sums["processes_count"] += 1
    return found


def parse_rollup(text: str) -> dict[str, float]:
    """The metrics of :data:`FIELDS` in a smaps_rollup text, in bytes. Kernels before 5.4 do not split Pss: zeros."""
    values: dict[str, int] = {}
    for line in text.splitlines()[1:]:
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0]) * 1024
    return {metric: float(sum(values.get(name, 0) for name in names)) for metric, names in FIELDS.items()}


def guest_ram_bytes(pid: int, granted_bytes: int) -> int | None:
    """Resident size of the mapping that is the guest's memory: the one as large as the grant. None if there is none."""
    try:
        return parse_mapping_rss_bytes(Path(f"/proc/{pid}/smaps").read_text(encoding="utf-8"), granted_bytes)
    except (FileNotFoundError, ProcessLookupError):
        return None


def parse_mapping_rss_bytes(smaps: str, size_bytes: int) -> int | None:
    """The Rss of the first mapping of exactly *size_bytes* in a smaps text."""
    found = False
    for line in smaps.split("\n"):
        if line.startswith("Size:"):
            found = int(line.split()[1]) * 1024 == size_bytes
        elif found and line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    return None


def _rollup(pid: int) -> str:
    """Empty for a process that is gone, or a zombie: its file reads as nothing."""
    return _read(f"/proc/{pid}/smaps_rollup")


def _comm(pid: int) -> str:
    return _read(f"/proc/{pid}/comm").strip() or "?"


def _read(path: str) -> str:
    try:
        return hierarchies.read(path)
    except (FileNotFoundError, ProcessLookupError):
        return ""
