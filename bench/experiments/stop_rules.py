"""When an ascent ends: rules on what was seen last, pure, the first that holds is named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tare.bench.records.metrics import show
from tare.bench.scenario.file import StackTable

#: Starts that the latency objective looks back on, and fewer than which it does not speak.
WINDOW = 20
#: Fewer lost starts than this are no rate.
LEAST_LOST = 3


@dataclass(slots=True, kw_only=True)
class Seen:
    """What an ascent knows before its next start. Bytes and seconds; ``latencies_s`` in the order of the starts."""

    alive: int = 0
    lost: int = 0
    available_bytes: float = 0.0
    total_bytes: float = 0.0
    used_bytes: float = 0.0
    pressure_percent: float = 0.0
    swapped_in: int = 0
    #: Of the host's processor time in the last window; None until one was watched.
    idle_percent: float | None = None
    #: How many are to be started next, together.
    starting: int = 1
    latencies_s: list[float] = field(default_factory=list)
    limit: str = ""

    @property
    def next_bytes(self) -> float:
        """What those to be started will take, judged by those that are there: the floor must hold after them, too."""
        return self.used_bytes / self.alive * self.starting if self.alive else 0.0


def reason(rules: StackTable, most: int, seen: Seen) -> str:
    """Why the ascent ends here, as ``rule: figures``; empty to go on."""
    floor = rules.floor_percent / 100 * seen.total_bytes
    left = seen.available_bytes - max(0.0, seen.next_bytes)
    idle = 100.0 if seen.idle_percent is None else seen.idle_percent
    tried = seen.alive + seen.lost
    checks = (
        (bool(seen.limit), f"limit: {seen.limit}"),
        (seen.alive >= most, f"count: {most}"),
        (left < floor, f"memory floor: {_bytes(seen.available_bytes)} available, {_bytes(floor)} must stay"),
        (
            0 < rules.budget_mib << 20 < seen.used_bytes + seen.next_bytes,
            f"memory budget: {_bytes(seen.used_bytes)} of {rules.budget_mib} MiB used",
        ),
        (
            idle < rules.cpu_floor_percent,
            f"processor floor: {idle:.3g} % of processor time idle, {rules.cpu_floor_percent:g} % must stay",
        ),
        (
            0 < rules.latency_s < _p95(seen.latencies_s),
            f"start latency: p95 of the last {WINDOW} starts is {show(_p95(seen.latencies_s), 'seconds')}",
        ),
        (
            seen.lost >= LEAST_LOST and 100 * seen.lost > rules.error_percent * tried,
            f"error rate: {seen.lost} of {tried} starts lost",
        ),
        (
            0 < rules.pressure_percent < seen.pressure_percent,
            f"memory pressure: full {seen.pressure_percent:.1f} % of the last 10 s",
        ),
        (seen.swapped_in > 0, f"swap-in: {seen.swapped_in} pages"),
    )
    return next((text for holds, text in checks if holds), "")


def _p95(latencies_s: Sequence[float]) -> float:
    """Of the last starts, the one that 95 % are not above; 0 while there are too few."""
    last = sorted(latencies_s[-WINDOW:])
    return last[math.ceil(0.95 * WINDOW) - 1] if len(last) == WINDOW else 0.0


def _bytes(value: float) -> str:
    return show(value, "bytes")
