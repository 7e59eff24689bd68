"""How busy the host is while it should idle: processor time, and the time that tasks stood still for want of something.

Both are running totals, read twice and differenced: an average that the kernel keeps itself would remember the starts
before. Sources: proc_stat(5); Documentation/accounting/psi.rst.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Our metric -> (file below /proc/pressure, the line in it).
PRESSURES: Mapping[str, tuple[str, str]] = {
    "pressure_cpu_some_ratio": ("cpu", "some"),
    "pressure_memory_some_ratio": ("memory", "some"),
    "pressure_memory_full_ratio": ("memory", "full"),
    "pressure_io_some_ratio": ("io", "some"),
    "pressure_io_full_ratio": ("io", "full"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Since boot: processor time in ticks, and per metric of :data:`PRESSURES` the µs stood still, where known."""

    busy_ticks: int
    idle_ticks: int
    stalled_us: Mapping[str, int] = field(default_factory=dict)


def read() -> Totals:
    """The totals now."""
    busy, idle = parse_stat(Path("/proc/stat").read_text(encoding="ascii"))
    files = {name: parse_pressure(_text(Path("/proc/pressure", name))) for name, _ in PRESSURES.values()}
    stalled = {metric: files[name][line] for metric, (name, line) in PRESSURES.items() if line in files[name]}
    return Totals(busy_ticks=busy, idle_ticks=idle, stalled_us=stalled)


def difference(before: Totals, after: Totals, seconds: float) -> dict[str, float]:
    """The ratios for the time between two readings that were *seconds* apart.

    Totals of pressure are updated a moment apart from our clock: what would come out as 1.0002 is 1.
    """
    busy = max(0, after.busy_ticks - before.busy_ticks)
    idle = max(0, after.idle_ticks - before.idle_ticks)  # proc_stat(5): the idle counters may go back
    found = {"host_busy_ratio": busy / (busy + idle)} if busy + idle else {}
    for metric, stalled_us in after.stalled_us.items():
        if metric in before.stalled_us:
            found[metric] = min(1.0, max(0, stalled_us - before.stalled_us[metric]) / 1e6 / seconds)
    return found


def parse_stat(text: str) -> tuple[int, int]:
    """Ticks in which processors worked and idled. Stolen time was never there, and a guest's is part of ``user``."""
    for line in text.splitlines():
        if line.startswith("cpu "):
            user, nice, system, idle, iowait, irq, softirq = (*map(int, line.split()[1:8]), 0, 0, 0)[:7]
            return user + nice + system + irq + softirq, idle + iowait
    raise ValueError("no line 'cpu' in /proc/stat")


def parse_pressure(text: str) -> dict[str, int]:
    """``total=`` of each line of a pressure file, in µs, by the line's first word; empty for an empty text."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        kind, _, values = line.partition(" ")
        for word in values.split():
            if word.startswith("total="):
                found[kind] = int(word.removeprefix("total="))
    return found


def _text(path: Path) -> str:
    """Empty where the kernel has no PSI, or was booted with psi=0 (reading then fails with EOPNOTSUPP)."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
