"""What a host becomes like as instances are stacked: starts, processors, pressure and memory, by count."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile

import numpy as np
import pandas as pd

from tare.bench.records.metrics import METRICS, show
from tare.reports import words
from tare.reports.sections.ramp.density import verification
from tare.reports.sections.ramp.density.model import Curve, CurvePoint, DensityRow
from tare.reports.sections.ramp.prediction import FIFTH
from tare.reports.sections.ramp.ramps import Ramps, chosen

TAKEN = "taken_bytes"
READY = "ready_seconds"
BUSY = verification.BUSY
OWN = "own_busy_ratio"
#: Shares of the window in which tasks stood still. Source: Documentation/accounting/psi.rst.
PRESSURES = (
    "pressure_cpu_some_ratio", "pressure_memory_some_ratio", "pressure_memory_full_ratio", "pressure_io_some_ratio",
    "pressure_io_full_ratio",
)  # fmt: skip
TITLES: Mapping[str, str] = {
    READY: "ready",
    TAKEN: "host memory taken",
    BUSY: "processors busy",
    OWN: "processors busy for the instances",
    **{metric: METRICS[metric].title for metric in PRESSURES},
}

#: A curve has left its beginning when it is above by so much: starts by half, shares by five points in a hundred.
_RISE = 0.5
_POINTS = 0.05
#: So many readings at the end must have left it; one alone is no knee.
_LEAST_OFF = 2

_Values = dict[int, list[float]]


def curves(read: Ramps, taken: pd.DataFrame, rows: Iterable[DensityRow], processors: int) -> Iterator[Curve]:
    """One curve for each subject and quantity that the run recorded; memory has the knee of its prediction.

    *taken* is what instances used of memory, *processors* how many the host has.
    """
    knees = {row.subject: row.knee for row in reversed(list(rows))}
    own = _own(read.window, processors)
    for subject in read.subjects():
        counts = sorted(set(_of(read.host, subject, "host_free_bytes")) - {0})
        found = {
            READY: _starts(read.starts, subject, counts),
            TAKEN: _of(taken, subject, "used"),
            BUSY: _of(read.window, subject, BUSY),
            OWN: _of(own, subject, OWN),
            **{metric: _of(read.window, subject, metric) for metric in PRESSURES},
        }
        for metric, values in found.items():
            if values:
                yield _curve(subject, metric, _joined(values), knees.get(subject))


def _curve(subject: str, metric: str, values: _Values, memory_knee: int | None) -> Curve:
    points = tuple(
        CurvePoint(n=n, value=float(np.median(some)), least=min(some), most=max(some), readings=len(some))
        for n, some in sorted(values.items())
    )
    unit = metric.rpartition("_")[2]
    knee, why = (memory_knee, "off the prediction by more than 5 %") if metric == TAKEN else _knee(points, unit)
    return Curve(
        subject=subject, metric=metric, title=TITLES[metric], unit=unit, points=points, knee=knee,
        why=why if knee else "",
    )  # fmt: skip


def _knee(points: tuple[CurvePoint, ...], unit: str) -> tuple[int | None, str]:
    """The first number from which on all readings, and at least two, lie above those of the first fifth."""
    above = [point for point in points if point.n > 0]
    early = [point.value for point in above if point.n <= above[-1].n * FIFTH]
    if not early:
        return None, ""
    ground = float(np.median(early))
    limit = ground * (1 + _RISE) if unit == "seconds" else ground + _POINTS
    late = [point for point in above if point.n > above[-1].n * FIFTH]
    off = list(takewhile(lambda point: point.value > limit, reversed(late)))
    if len(off) < _LEAST_OFF:
        return None, ""
    told, was = (show(value, unit) if unit == "seconds" else words.share(value) for value in (limit, ground))
    return off[-1].n, f"above {told}; up to a fifth of the largest number it was {was}"


def _joined(values: _Values) -> _Values:
    """Of very many counts, those between two that have a point join the latter: no extreme is lost."""
    kept = chosen(values)
    if len(kept) == len(values):
        return values
    found: _Values = {n: [] for n in kept}
    for n, some in values.items():
        found[kept[bisect_left(kept, n)]] += some
    return found


def _own(window: pd.DataFrame, processors: int) -> pd.DataFrame:
    """The share of all processors that the instances used themselves: in each ramp less its window before the first.

    What the harness uses to sleep is taken off with it. Empty where the processor time of the run was not counted.
    """
    used = verification.cpu_used(window)
    ground = used[used.index.get_level_values("n") == 0].droplevel(["n"])
    found = pd.DataFrame(index=used.index)
    found[OWN] = (used - ground.reindex(used.reset_index("n", drop=True).index).to_numpy()) / processors
    return found


def _starts(starts: pd.DataFrame, subject: str, counts: list[int]) -> _Values:
    """The starts from one count to the next, at the latter."""
    mine = starts[starts["subject"] == subject]
    mine = mine[mine["n"] > 0]
    places = np.searchsorted(counts, mine["n"])
    seen = places < len(counts)
    grouped = mine["value"][seen].groupby(places[seen])
    return {counts[int(str(place))]: some.tolist() for place, some in grouped}


def _of(frame: pd.DataFrame, subject: str, metric: str) -> _Values:
    """The values of one metric by count, one a round."""
    if frame.empty or metric not in frame.columns:
        return {}
    mine = frame[frame.index.get_level_values("subject") == subject][metric].dropna()
    found: _Values = {}
    for n, value in zip(mine.index.get_level_values("n"), mine, strict=True):
        found.setdefault(int(n), []).append(float(value))
    return found
