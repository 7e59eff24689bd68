"""Cost as ``a + b * n``: what the first instance brings along, and the margin of one more. Numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tare.bench.stats.estimate import LEAST_CHANGE, Floats, estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """``y = a + b * n``: a is what the first instance brings along, b the margin of one more, with 95 % intervals.

    ``bend`` is the relative difference between the slopes of the upper and the lower half, ``bend_low`` and
    ``bend_high`` its interval: where that does not hold 0 and the bend is at least LEAST_CHANGE, the cost of one more
    changes with their number, and ``straight`` is false. Intervals are None with fewer than 3 rounds.
    """

    a: float
    a_low: float | None
    a_high: float | None
    b: float
    b_low: float | None
    b_high: float | None
    bend: float
    bend_low: float | None
    bend_high: float | None
    straight: bool
    rounds: int


def fit(rounds: Sequence[Sequence[tuple[float, float]]]) -> Fit:
    """Fit a line through (n, y) points, one list a round: Theil-Sen within each round, medians over rounds.

    The round is the unit of replication: intervals are bootstrapped over rounds. The first instance (n <= 1) stays out
    of the slope: what it alone brings is no margin. Raises ValueError with fewer than three numbers of instances
    above 1 in a round. Source: Pranab Kumar Sen, Estimates of the Regression Coefficient Based on Kendall's Tau, JASA
    63 (1968).
    """
    from scipy import stats

    if not rounds:
        raise ValueError("no data")
    slopes, intercepts, bends = [], [], []
    for points in rounds:
        inner = sorted((n, y) for n, y in points if n > 1)
        if len({n for n, _ in inner}) < 3:
            raise ValueError("a line needs readings at three numbers of instances above 1")
        n, y = np.asarray([n for n, _ in inner]), np.asarray([y for _, y in inner])
        slope, intercept, _, _ = stats.theilslopes(y, n)
        slopes.append(float(slope))
        intercepts.append(float(intercept))
        bends.append(_bend(n, y, float(slope)))
    a, b, bend = _estimated(intercepts), _estimated(slopes), _estimated(bends)
    clear = bend[1] is not None and bend[2] is not None and not bend[1] <= 0.0 <= bend[2]
    return Fit(
        a=a[0],
        a_low=a[1],
        a_high=a[2],
        b=b[0],
        b_low=b[1],
        b_high=b[2],
        bend=bend[0],
        bend_low=bend[1],
        bend_high=bend[2],
        straight=not (clear and abs(bend[0]) >= LEAST_CHANGE),
        rounds=len(rounds),
    )


def _bend(n: Floats, y: Floats, slope: float) -> float:
    """Slope of the upper half minus that of the lower, in slopes of the whole; the halves share the middle point."""
    middle = len(n) // 2
    lower = (y[middle] - y[0]) / (n[middle] - n[0])
    upper = (y[-1] - y[middle]) / (n[-1] - n[middle])
    return float((upper - lower) / slope) if slope else 0.0


def _estimated(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    found = estimate(values)
    return found.median, found.low, found.high
