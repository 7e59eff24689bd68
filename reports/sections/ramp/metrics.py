"""The metrics of a ramp, two of which are not read but fitted: one value a round (docs/explanation/method.md)."""

from __future__ import annotations

from tare.bench.records.metrics import METRICS, Metric

MARGIN = Metric(
    name="margin_bytes",
    unit="bytes",
    title="marginal cost",
    meaning="host memory that one more instance takes: the b of the line a + b × n through the readings above one",
    most=2.0**46,
)
FIRST = Metric(
    name="first_bytes",
    unit="bytes",
    title="the first",
    meaning="host memory that the first instance takes",
    most=2.0**46,
)
ALL = (MARGIN, FIRST, METRICS["ready_seconds"], METRICS["teardown_seconds"])
