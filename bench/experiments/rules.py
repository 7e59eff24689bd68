"""``[stack]``: when a ramp is read, and when it ends. The rules are pure; the first that holds is named."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from tare.bench.records.metrics import show
from tare.bench.records.rows import Rule, Stop
from tare.bench.scenario.design import Table
from tare.bench.scenario.file import Touched

#: Starts that the latency objective looks back on, and fewer than which it does not speak.
WINDOW = 20
#: Fewer lost starts than this are no rate.
LEAST_LOST = 3


Counts = tuple[Annotated[int, Meta(ge=1, le=100_000)], ...]


class StackTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[stack]``: for the experiments that keep many instances alive at once; when to read, and when to stop.

    A ramp ends by the first stop rule that holds, or by any swap-in. 0 turns a rule off.

    counts: the numbers of living instances at which everything is read
    most: stop rule: this many instances are alive; 0: the largest of ``counts``
    floor_percent: stop rule: less than this share of the host's memory is available, or would be after the next
        instance
    cpu_floor_percent: stop rule: less than this share of the host's processor time was idle in the window before a
        reading
    budget_mib: stop rule: all instances together use more than this
    latency_s: stop rule: the p95 of the last 20 starts is longer than this many seconds
    error_percent: stop rule: more than this share of the starts failed
    pressure_percent: stop rule: full memory pressure (PSI, mean of 10 s) is above this
    at_once: how many instances are started together, from the second on; rules are checked between these batches
    window_s: how long the host is watched before each reading, while the instances do as they are told; 0 leaves this
        out
    ksm: switch samepage merging on during each ramp, wait for it before each reading, and restore the host's setting
        afterwards
    reclaim_mib: the host asks each instance for this much memory once it is ready
    """

    counts: Counts = (1, 2, 5, 10, 20)
    most: Annotated[int, Meta(ge=0, le=100_000)] = 0
    floor_percent: Annotated[float, Meta(ge=5, le=95)] = 15.0
    cpu_floor_percent: Annotated[float, Meta(ge=0, le=95)] = 0.0
    budget_mib: Annotated[int, Meta(ge=0, le=1 << 30)] = 0
    latency_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    error_percent: Annotated[float, Meta(ge=0, le=100)] = 5.0
    pressure_percent: Annotated[float, Meta(ge=0, le=100)] = 20.0
    at_once: Annotated[int, Meta(ge=1, le=64)] = 1
    window_s: Annotated[float, Meta(ge=0, le=60)] = 1.0
    ksm: bool = False
    reclaim_mib: Touched = 0


@dataclass(slots=True, kw_only=True)
class Seen:
    """What a ramp knows before its next start. Bytes and seconds; ``latencies_s`` in the order of the starts."""

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


def reason(rules: StackTable, most: int, seen: Seen) -> Stop | None:
    """Why the ramp ends here; None to go on."""
    floor = rules.floor_percent / 100 * seen.total_bytes
    left = seen.available_bytes - max(0.0, seen.next_bytes)
    idle = 100.0 if seen.idle_percent is None else seen.idle_percent
    tried = seen.alive + seen.lost
    checks: tuple[tuple[bool, Rule, str], ...] = (
        (bool(seen.limit), "limit", seen.limit),
        (seen.alive >= most, "count", f"{most}"),
        (left < floor, "memory floor", f"{_bytes(seen.available_bytes)} available, the floor is {_bytes(floor)}"),
        (
            0 < rules.budget_mib << 20 < seen.used_bytes + seen.next_bytes,
            "memory budget",
            f"{_bytes(seen.used_bytes)} of {rules.budget_mib} MiB used",
        ),
        (
            idle < rules.cpu_floor_percent,
            "processor floor",
            f"{idle:.3g} % of processor time idle, the floor is {rules.cpu_floor_percent:g} %",
        ),
        (
            0 < rules.latency_s < _p95(seen.latencies_s),
            "start latency",
            f"p95 of the last {WINDOW} starts is {show(_p95(seen.latencies_s), 'seconds')}",
        ),
        (
            seen.lost >= LEAST_LOST and 100 * seen.lost > rules.error_percent * tried,
            "error rate",
            f"{seen.lost} of {tried} starts failed",
        ),
        (
            0 < rules.pressure_percent < seen.pressure_percent,
            "memory pressure",
            f"full {seen.pressure_percent:.1f} % of the last 10 s",
        ),
        (seen.swapped_in > 0, "swap-in", f"{seen.swapped_in} pages"),
    )
    return next((Stop(rule=rule, detail=detail) for holds, rule, detail in checks if holds), None)


def _p95(latencies_s: Sequence[float]) -> float:
    """Of the last starts, the one that 95 % are not above; 0 while there are too few."""
    last = sorted(latencies_s[-WINDOW:])
    return last[math.ceil(0.95 * WINDOW) - 1] if len(last) == WINDOW else 0.0


def _bytes(value: float) -> str:
    return show(value, "bytes")
