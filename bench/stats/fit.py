"""Cost as ``a + b * n``: the line, two ways to lay it through readings, and what many rounds say of it.

Numbers in, numbers out. Points are (n, y): so many instances, and what they take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np

from tare.bench.stats.estimate import estimate
from tare.bench.stats.medians import Floats
from tare.bench.stats.verdict import LEAST_CHANGE

Points = Sequence[tuple[float, float]]

_FEW = 16
#: Beyond so many points not every pair of them has its slope in the median: there are n²/2.
_MANY = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``a + b * n``: a is what the first instance brings along, b the marginal cost."""

    a: float
    b: float

    def at(self, n: float) -> float:
        """What *n* instances take."""
        return self.a + self.b * n

    def fits(self, room: float) -> int:
        """How many instances take no more than *room*; b is above 0."""
        # A room made of the same floats as the line shall not lose an instance to rounding.
        return max(0, math.floor((room - self.a) / self.b + 1e-9))

    def scatter(self, points: Points) -> float:
        """The standard deviation of three or more *points* about the line that was laid through them."""
        return math.sqrt(sum((y - self.a - self.b * n) ** 2 for n, y in points) / (len(points) - 2))


def robust(points: Points) -> Line:
    """The line through two points or more by Theil and Sen, which one reading that went wrong does not turn.

    The median of the slopes between all pairs. Source: Pranab Kumar Sen, Estimates of the Regression Coefficient
    Based on Kendall's Tau, JASA 63 (1968). Of very many points, between each of the lower half and its counterpart of
    the upper one: Theil's incomplete method (A rank-invariant method of linear and polynomial regression analysis,
    Indagationes Mathematicae 12, 1950).
    """
    if len(points) <= _FEW:  # thousands of short lines: lists are faster than arrays
        slopes = [(z - y) / (m - n) for (n, y), (m, z) in combinations(points, 2) if m != n]
        slope = median(slopes)
        return Line(a=median([y for _, y in points]) - slope * median([n for n, _ in points]), b=slope)
    n, y = _columns(points)
    if n.size > _MANY:
        order, half = np.argsort(n, kind="stable"), n.size // 2
        one, other = order[:half], order[-half:]
    else:
        one, other = np.triu_indices(n.size, k=1)
    apart = n[other] != n[one]
    slope = float(np.median((y[other] - y[one])[apart] / (n[other] - n[one])[apart]))
    return Line(a=float(np.median(y) - slope * np.median(n)), b=slope)


def least_squares(points: Points) -> Line:
    """The line by least squares: far points weigh most, and its error has a known distribution."""
    b, a = np.polyfit(*_columns(points), 1)
    return Line(a=float(a), b=float(b))


def _columns(points: Points) -> tuple[Floats, Floats]:
    n, y = np.asarray(points, dtype=np.float64).T
    return n, y


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """``y = a + b * n``: a is what the first instance brings along, b the marginal cost; both with 95 % intervals.

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


def fit(rounds: Sequence[Points]) -> Fit:
    """Fit a line through (n, y) points, one list a round: Theil-Sen within each round, medians over rounds.

    The round is the unit of replication: intervals are bootstrapped over rounds. The first instance (n <= 1) stays out
    of the slope: what it alone brings is no marginal cost. Raises ValueError with fewer than three numbers of instances
    above 1 in a round.
    """
    if not rounds:
        raise ValueError("no data")
    lines, bends = [], []
    for points in rounds:
        inner = sorted((n, y) for n, y in points if n > 1)
        if len({n for n, _ in inner}) < 3:
            raise ValueError("a line needs readings at three numbers of instances above 1")
        lines.append(robust(inner))
        bends.append(_bend(inner, lines[-1].b))
    a, b = _estimated([line.a for line in lines]), _estimated([line.b for line in lines])
    bend = _estimated(bends)
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


def _bend(points: Points, slope: float) -> float:
    """Slope of the upper half minus that of the lower, in slopes of the whole; the halves share the middle point."""
    n, y = zip(*points, strict=True)
    middle = len(n) // 2
    lower = (y[middle] - y[0]) / (n[middle] - n[0])
    upper = (y[-1] - y[middle]) / (n[-1] - n[middle])
    return float((upper - lower) / slope) if slope else 0.0


def _estimated(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    found = estimate(values)
    return found.median, found.low, found.high
