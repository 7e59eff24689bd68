"""The lead of a burst where some instances share a machine: when the last of them is ready, by where they run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tare.bench.records.header import RunHeader
from tare.bench.records.metrics import METRICS
from tare.reports.analysis import lead, shared
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Lead

_LAST = "slowest_seconds"


def opening(header: RunHeader, subjects: Sequence[SubjectFigures]) -> Lead | None:
    """None where each instance starts alone, none shares a machine, or there is nothing beside it."""
    table = next(iter(header.scenario.tables.values()), {})
    wanted = [one for one in subjects if one.has(_LAST) and one.figure(_LAST).median is not None]
    if len(wanted) < 2 or not any(map(shared.shares, wanted)):
        return None
    metric = METRICS[_LAST]
    bars = sorted((lead.bar(one, metric) for one in wanted), key=lambda bar: bar.value or 0.0)
    said = shared.answer(table["at_once"], "are ready after {}", bars, subjects, metric.unit)
    return msgspec.structs.replace(said, title="Time from the request until the last of them is ready")
