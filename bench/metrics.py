"""The registry of metrics: what each name means, its unit, which way is better, and what cannot be true.

Names follow OpenMetrics: the base unit is the suffix, and a value is a float in that unit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Unit = Literal["seconds", "bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One measured quantity. ``most`` is the largest believable value, in ``unit``."""

    name: str
    unit: Unit
    title: str
    meaning: str
    lower_is_better: bool = True
    most: float

    def implausible(self, value: float) -> str:
        """Why *value* cannot be true, or an empty string."""
        if not math.isfinite(value):
            return f"{self.name} is {value}"
        if value < 0:
            return f"{self.name} is negative: {value!r} {self.unit}"
        if value > self.most:
            return f"{self.name} is {show(value, self.unit)}, more than the {show(self.most, self.unit)} it could be"
        return ""


_DAY_S = 86400.0
_TIB = 2.0**40

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="created_seconds",
            unit="seconds",
            title="created",
            meaning="from the request until the backend says that the instance exists",
            most=_DAY_S,
        ),
        Metric(
            name="first_seconds",
            unit="seconds",
            title="first instruction",
            meaning="from the request until the payload's first line arrives on its console: PID 1 runs",
            most=_DAY_S,
        ),
        Metric(
            name="ready_seconds",
            unit="seconds",
            title="ready",
            meaning="from the request until the readiness mark of the contract arrives on the console",
            most=_DAY_S,
        ),
        Metric(
            name="stopped_seconds",
            unit="seconds",
            title="stopped",
            meaning="from the forced stop (SIGKILL, virDomainDestroy) until no process of the instance runs",
            most=_DAY_S,
        ),
        Metric(
            name="removed_seconds",
            unit="seconds",
            title="removed",
            meaning="from the forced stop until nothing of the instance is left: cgroup, mounts, state, domain",
            most=_DAY_S,
        ),
        Metric(
            name="cpu_seconds",
            unit="seconds",
            title="processor time of the start",
            meaning="CPU time that the whole start cost the host until ready, the harness's own share included",
            most=_DAY_S,
        ),
        Metric(
            name="pss_bytes",
            unit="bytes",
            title="memory when ready (PSS)",
            meaning="proportional set size, summed over every process that the instance costs, read once after ready",
            most=_TIB,
        ),
    )
}

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))


def show(value: float, unit: str) -> str:
    """*value* for a reader: three significant digits and a scaled unit. Never feed the result to arithmetic."""
    scales = _SECONDS if unit == "seconds" else _BYTES
    factor, suffix = next((pair for pair in scales if abs(value) >= pair[0]), scales[-1])
    scaled = value / factor
    if value == 0:
        return f"0 {scales[0][1] if unit == 'seconds' else 'B'}"
    digits = max(0, 2 - math.floor(math.log10(abs(scaled))))
    return f"{scaled:.{digits}f} {suffix}"
