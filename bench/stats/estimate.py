"""Statistics: numbers in, numbers out. No file, no clock, no unit.

The round is the unit of replication (docs/method.md): samples within a round are correlated, so that whoever compares
two subjects hands over one median per round, and the effective n is the number of rounds. Resampling is seeded, hence
the same data give the same interval every time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

#: Confidence of every interval, and the level of every test (method rule 5).
CONFIDENCE = 0.95
ALPHA = 0.01
#: The smallest relative change that is called a difference, whatever its p-value.
LEAST_CHANGE = 0.05
#: A change must also pass this many times the resolution of the instrument.
RESOLUTIONS = 3.0
#: With fewer paired rounds no arrangement of signs can reach ALPHA: 2 / 2**7 > 0.01 >= 2 / 2**8.
LEAST_ROUNDS = 8
#: p99 needs samples beyond it to be more than the maximum in disguise.
LEAST_FOR_P99 = 300

_RESAMPLES = 9999
_SEED = 20260101

Verdict = Literal["lower", "higher", "no difference shown", "not enough rounds"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A sample's median with its bootstrap interval; ``low`` and ``high`` are None when n < 3, ``p99`` when n < 300."""

    median: float
    low: float | None
    high: float | None
    p95: float
    p99: float | None
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Subject against reference. ``ratio`` = median of the one / median of the other, with its interval.

    ``rounds`` is the effective n, ``p`` None when there are not enough of them, ``threshold`` the relative change that
    had to be passed besides p <= ALPHA.
    """

    ratio: float
    low: float | None
    high: float | None
    p: float | None
    rounds: int
    threshold: float
    verdict: Verdict


def estimate(values: Sequence[float]) -> Estimate:
    """Median, its 95 % percentile-bootstrap interval, p95 and, with n >= 300, p99. Raises ValueError on no data.

    The percentile bootstrap, not BCa: for a median BCa's jackknife acceleration is degenerate (Efron and Tibshirani, An
    Introduction to the Bootstrap, 1993, chapter 14).
    """
    data = as_array(values)
    low, high = _bootstrap((data,), _median)
    return Estimate(
        median=float(np.median(data)),
        low=low,
        high=high,
        p95=float(np.percentile(data, 95)),
        p99=float(np.percentile(data, 99)) if data.size >= LEAST_FOR_P99 else None,
        n=int(data.size),
    )


def compare(
    subject: Sequence[float], reference: Sequence[float], *, resolution: float = 0.0, paired: bool = True
) -> Comparison:
    """Compare round medians; with *paired*, ``subject[i]`` and ``reference[i]`` come from the same round.

    The test is a two-sided permutation test on ranks, so that one slow outlier cannot decide: sign flips of the ranked
    log ratios when paired (Wilcoxon's signed-rank statistic), exchanges between the groups when not (the rank sum).
    *resolution* is the instrument's, in the unit of the values. Raises ValueError when lengths differ although paired,
    when there is no data, or when a value is not positive.
    """
    left, right = as_array(subject), as_array(reference)
    if paired and left.size != right.size:
        raise ValueError(f"paired comparison of {left.size} with {right.size} rounds")
    if np.min(left) <= 0 or np.min(right) <= 0:
        raise ValueError("a ratio needs positive values")
    base = float(np.median(right))
    ratio = float(np.median(left)) / base
    rounds = int(min(left.size, right.size))
    threshold = max(LEAST_CHANGE, RESOLUTIONS * resolution / base)
    low, high = _bootstrap((left, right), _median_ratio, paired=paired)
    p = _permutation(left, right, paired=paired) if _enough(rounds, paired=paired) else None
    return Comparison(
        ratio=ratio, low=low, high=high, p=p, rounds=rounds, threshold=threshold, verdict=_verdict(ratio, p, threshold)
    )


def outliers(values: Sequence[float]) -> tuple[bool, ...]:
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
    return tuple(bool(score > 3.5) for score in deviation / scale)


def as_array(values: Sequence[float]) -> Floats:
    """*values* as floats. Raises ValueError when there are none, or one is not finite."""
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("no data")
    if not np.isfinite(data).all():
        raise ValueError("a value is not finite")
    return data


def _enough(rounds: int, *, paired: bool) -> bool:
    """Whether the smallest attainable two-sided p is at most ALPHA."""
    arrangements = 2**rounds if paired else math.comb(2 * rounds, rounds)
    return 2 / arrangements <= ALPHA


def _verdict(ratio: float, p: float | None, threshold: float) -> Verdict:
    if p is None:
        return "not enough rounds"
    if p > ALPHA or abs(ratio - 1.0) < threshold:
        return "no difference shown"
    return "lower" if ratio < 1.0 else "higher"


def _median(data: Floats, axis: int = -1) -> Any:
    return np.median(data, axis=axis)


def _median_ratio(left: Floats, right: Floats, axis: int = -1) -> Any:
    return np.median(left, axis=axis) / np.median(right, axis=axis)


def _bootstrap(data: tuple[Floats, ...], statistic: Any, *, paired: bool = False) -> tuple[float | None, float | None]:
    if min(part.size for part in data) < 3:
        return None, None
    from scipy import stats  # here: half a second of import that `tare --help` need not pay

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # identical values: the interval is that value
        result = stats.bootstrap(
            data,
            statistic,
            paired=paired,
            method="percentile",
            confidence_level=CONFIDENCE,
            n_resamples=_RESAMPLES,
            rng=np.random.default_rng(_SEED),
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _permutation(left: Floats, right: Floats, *, paired: bool) -> float:
    from scipy import stats

    if np.array_equal(left, right):
        return 1.0
    if paired:
        ratios = np.log(left / right)
        left = stats.rankdata(np.abs(ratios)) * np.sign(ratios)
        right = np.zeros_like(left)  # exchanging the two of a pair is a flip of the rank's sign
    else:
        ranks = stats.rankdata(np.concatenate((left, right)))
        left, right = ranks[: left.size], ranks[left.size :]

    def difference(one: Floats, other: Floats, axis: int = -1) -> Any:
        return one.mean(axis=axis) - other.mean(axis=axis)

    result = stats.permutation_test(
        (left, right),
        difference,
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=_RESAMPLES,
        alternative="two-sided",
        rng=np.random.default_rng(_SEED),
    )
    return float(result.pvalue)
