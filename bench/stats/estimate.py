"""What one set of numbers says: median with its interval, tails, outliers. No file, no clock, no unit.

The round is the unit of replication (docs/explanation/method.md): samples within a round are correlated, so that
whoever asks for an interval hands over one median per round, and the effective n is the number of rounds. What is drawn
is seeded, hence the same data give the same interval every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tare.bench.stats import medians
from tare.bench.stats.medians import Floats

#: p99 needs samples beyond it to be more than the maximum in disguise.
LEAST_FOR_P99 = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A sample's median with its bootstrap interval; ``low`` and ``high`` are None when n < 3, ``p99`` when n < 300."""

    median: float
    low: float | None
    high: float | None
    p95: float
    p99: float | None
    n: int


def estimate(values: Sequence[float] | Floats) -> Estimate:
    """Median, its 95 % percentile-bootstrap interval, p95 and, with n >= 300, p99. Raises ValueError on no data.

    The percentile bootstrap, not BCa: for a median BCa's jackknife acceleration is degenerate (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 14).
    """
    data = as_array(values)
    low, high = medians.interval(data)
    p95, p99 = tails(data)
    return Estimate(median=float(np.median(data)), low=low, high=high, p95=p95, p99=p99, n=int(data.size))


def tails(values: Sequence[float] | Floats) -> tuple[float, float | None]:
    """p95 and, with n >= 300, p99. Raises ValueError on no data."""
    data = as_array(values)
    p95, p99 = np.percentile(data, (95, 99))
    return float(p95), float(p99) if data.size >= LEAST_FOR_P99 else None


def outliers(values: Sequence[float] | Floats) -> tuple[bool, ...]:
    """Which values lie far out, to be flagged and kept: modified z-score above 3.5.

    Boris Iglewicz and David Hoaglin, How to Detect and Handle Outliers, 1993: a deviation from the median is divided by
    the median of all deviations, scaled to a normal distribution's standard deviation. Where half of the values or more
    are equal that median is zero: then by the mean of all deviations, scaled alike (by sqrt(pi/2); IBM's manuals give
    this second case of the modified z-score). Of equal values none is far.
    """
    data = as_array(values)
    deviation = np.abs(data - np.median(data))
    scale = float(np.median(deviation)) / 0.6745 or float(np.mean(deviation)) * 1.253314
    if scale == 0.0:
        return (False,) * int(data.size)
    return tuple((deviation / scale > 3.5).tolist())


def as_array(values: Sequence[float] | Floats) -> Floats:
    """*values* as floats. Raises ValueError when there are none, or one is not finite."""
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("no data")
    if not np.isfinite(data).all():
        raise ValueError("a value is not finite")
    return data
