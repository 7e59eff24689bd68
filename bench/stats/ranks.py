"""Two-sided tests on ranks: how often chance alone gives ranks as lopsided as these. Exact for few rounds.

Ties share their ranks' mean, and pairs that do not differ keep their place and count for neither side (Pratt, Remarks
on Zeros and Ties in the Wilcoxon Signed Rank Procedures, JASA 54, 1959). SciPy's exact tests know no ties; here every
arrangement is counted, by adding one rank after the other to the distribution of their sum. Beyond MOST_EXACT the sum
is normal for all that can be seen, with the variance that ties leave it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Up to so many ranks all arrangements are counted. A test holds both ways against each other at this number.
MOST_EXACT = 50


def signed(differences: Floats) -> float:
    """p of Wilcoxon's signed-rank test: had each difference been as likely the other way round."""
    ranks = ranked(np.abs(differences))
    doubled = np.rint(2 * ranks[differences != 0]).astype(np.int64)
    if not doubled.size:
        return 1.0
    upper = int(np.rint(2 * ranks[differences > 0]).sum())
    if differences.size > MOST_EXACT:
        return _normal(upper - float(doubled.sum()) / 2, math.sqrt(float((doubled.astype(np.float64) ** 2).sum())) / 2)
    ways = np.zeros(int(doubled.sum()) + 1)
    ways[0] = 1.0
    for rank in doubled:
        ways[rank:] = (ways[rank:] + ways[: ways.size - rank]) / 2
        ways[:rank] /= 2
    return _two_sided(ways, upper)


def summed(left: Floats, right: Floats) -> float:
    """p of the rank-sum test (Wilcoxon, Mann, Whitney): had the values been dealt to the two groups at random."""
    ranks = ranked(np.concatenate((left, right)))
    doubled = np.rint(2 * ranks).astype(np.int64)
    mine, n, whole = int(doubled[: left.size].sum()), int(left.size), int(doubled.size)
    if whole > MOST_EXACT:
        centred = ranks - ranks.mean()
        variance = n * (whole - n) / (whole * (whole - 1)) * float((centred**2).sum())
        return _normal(mine / 2 - n * float(ranks.mean()), math.sqrt(variance))
    # ways[k, s]: how many choices of k values have ranks that sum to s. Below 2**53 floats count exactly.
    ways = np.zeros((n + 1, int(np.sort(doubled)[-n:].sum()) + 1))
    ways[0, 0] = 1.0
    for rank in doubled:
        if rank < ways.shape[1]:
            ways[1:, rank:] += ways[:-1, : ways.shape[1] - rank].copy()
    return _two_sided(ways[n] / math.comb(whole, n), mine)


def several(groups: Sequence[Floats]) -> float:
    """p of Kruskal's and Wallis' test, for two groups of :func:`summed`: had the values been dealt at random to them.

    For three and more the statistic is taken as chi-squared, which holds from five values in each group on (Kruskal and
    Wallis, Use of Ranks in One-Criterion Variance Analysis, JASA 47, 1952).
    """
    if len(groups) == 2:
        return summed(*groups)
    from scipy.special import chdtrc

    ranks = ranked(np.concatenate(groups))
    variance = float(((ranks - ranks.mean()) ** 2).sum()) / (ranks.size - 1)
    ends = np.cumsum([group.size for group in groups])[:-1]
    away = sum(one.size * (float(one.mean()) - float(ranks.mean())) ** 2 for one in np.split(ranks, ends))
    return float(chdtrc(len(groups) - 1, away / variance)) if variance else 1.0


def ranked(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[inverse]
    return ranks


def _two_sided(probability: Floats, found: int) -> float:
    less, more = float(probability[: found + 1].sum()), float(probability[found:].sum())
    return min(1.0, 2 * min(less, more))


def _normal(distance: float, deviation: float) -> float:
    return math.erfc(abs(distance) / deviation / math.sqrt(2)) if deviation else 1.0
