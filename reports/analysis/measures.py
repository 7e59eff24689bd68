"""What a run of each probe is judged by: its metrics, which of them the answer is about, and those that are derived."""

from __future__ import annotations

from collections.abc import Mapping

from tare.bench.records.metrics import METRICS, Metric
from tare.bench.records.rows import RunHeader

MARGIN, FIRST = "margin_bytes", "first_bytes"

#: Not read but fitted: one value a round. See reports/sections/ramp/memory/slopes.py and docs/method.md.
DERIVED: Mapping[str, Metric] = {
    MARGIN: Metric(
        name=MARGIN,
        unit="bytes",
        title="margin of one more",
        meaning="host memory that one more instance takes: the slope of the line through the readings above one",
        most=2.0**46,
    ),
    FIRST: Metric(
        name=FIRST,
        unit="bytes",
        title="the first",
        meaning="host memory that is no longer free once the first instance runs",
        most=2.0**46,
    ),
}
KNOWN: Mapping[str, Metric] = {**METRICS, **DERIVED}

ASCENTS = ("memory", "density")

_START = (
    "created_seconds", "first_seconds", "ready_seconds", "stopped_seconds", "removed_seconds", "cpu_seconds",
    "pss_bytes",
)  # fmt: skip
_ASCENT = (MARGIN, FIRST, "ready_seconds", "teardown_seconds")
_OF: Mapping[str, tuple[str, ...]] = {
    "startup": _START,
    "least-memory": ("least_memory_bytes", "attempts_count"),
    "memory": _ASCENT,
    "density": _ASCENT,
}
#: The metric that the answer is about.
_PRIMARY = {"least-memory": "least_memory_bytes", "memory": MARGIN, "density": MARGIN}


def probe(header: RunHeader) -> str:
    """The probe of a run; runs of an older tare knew one alone."""
    return str(header.scenario.get("probe", "startup"))


def of(header: RunHeader) -> tuple[Metric, ...]:
    """The metrics that a run of this probe is judged by."""
    return tuple(KNOWN[name] for name in _OF.get(probe(header), _START))


def primary(header: RunHeader) -> str:
    """The name of the metric that the answer is about."""
    return _PRIMARY.get(probe(header), "ready_seconds")
