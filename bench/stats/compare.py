"""What two sets of round medians say of each other: a ratio, its interval, p, and the verdict that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tare.bench.stats import medians, ranks, verdict
from tare.bench.stats.estimate import as_array
from tare.bench.stats.medians import Floats
from tare.bench.stats.verdict import Verdict

_RESAMPLES = 9999


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


def compare(
    subject: Sequence[float] | Floats,
    reference: Sequence[float] | Floats,
    *,
    resolution: float = 0.0,
    paired: bool = True,
) -> Comparison:
    """Compare round medians; with *paired*, ``subject[i]`` and ``reference[i]`` come from the same round.

    The test is a two-sided permutation test on ranks, so that one slow outlier cannot decide: Wilcoxon's signed ranks
    of the log ratios when paired, his rank sum when not (:mod:`bench.stats.ranks`). *resolution* is the instrument's,
    in the unit of the values. Raises ValueError when lengths differ although paired, when there is no data, or when a
    value is not positive.
    """
    left, right = as_array(subject), as_array(reference)
    found = verdict_on(left, right, resolution=resolution, paired=paired)
    low, high = _interval(left, right, paired=paired)
    return replace(found, low=low, high=high)


def verdict_on(left: Floats, right: Floats, *, resolution: float = 0.0, paired: bool = True) -> Comparison:
    """:func:`compare` without the interval, which the verdict does not need and which takes most of the time."""
    if paired and left.size != right.size:
        raise ValueError(f"paired comparison of {left.size} with {right.size} rounds")
    if np.min(left) <= 0 or np.min(right) <= 0:
        raise ValueError("a ratio needs positive values")
    base = float(np.median(right))
    ratio = float(np.median(left)) / base
    rounds = int(min(left.size, right.size))
    threshold = verdict.threshold(base, resolution)
    p = _p(left, right, paired=paired) if verdict.enough(rounds, paired=paired) else None
    return Comparison(
        ratio=ratio,
        low=None,
        high=None,
        p=p,
        rounds=rounds,
        threshold=threshold,
        verdict=verdict.judge(ratio, p, threshold),
    )


def _interval(left: Floats, right: Floats, *, paired: bool) -> tuple[float | None, float | None]:
    """The 95 % interval of the ratio of the medians."""
    if min(left.size, right.size) < medians.LEAST:
        return None, None
    drawn = medians.draws((left, right), paired=paired, resamples=_RESAMPLES)
    return medians.percentiles(drawn[:, 0] / drawn[:, 1])


def _p(left: Floats, right: Floats, *, paired: bool) -> float:
    return ranks.signed(np.log(left / right)) if paired else ranks.summed(left, right)
