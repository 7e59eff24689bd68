"""How wide the interval of a median is, without numpy: the process that measures asks between two rounds.

It is the interval of :func:`bench.stats.medians.interval`, the percentile bootstrap, of whose resamples the whole
distribution is known (Efron, Bootstrap Methods, Annals of Statistics 7, 1979, section 3): nothing is drawn. A test
holds both against each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

#: With fewer values there is no interval.
LEAST = 3
_TAIL = 0.025
#: Pairs of places that are less likely than this are left out: together they are far below the tail.
_SELDOM = 1e-9
#: Places farther from the middle than so many times the root of n are never the middle of a resample: their deviation
#: is half of that root.
_REACH = 4


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % percentile-bootstrap interval of the median of *values*; None for fewer than three."""
    n = len(values)
    if n < LEAST:
        return None
    data = sorted(values)
    found = sorted(((data[i] + data[j]) / 2, p) for i, j, p in _middles(n))
    return _quantile(found, _TAIL), _quantile(found, 1 - _TAIL)


def half_width(values: Sequence[float]) -> float | None:
    """Half of the interval as a part of the median, 0.05 for 5 %; None for fewer than three, infinite around zero."""
    ends = interval(values)
    if ends is None:
        return None
    data, n = sorted(values), len(values)
    middle = (data[(n - 1) // 2] + data[n // 2]) / 2
    half = (ends[1] - ends[0]) / 2
    if not middle:
        return math.inf if half else 0.0
    return half / abs(middle)


def _quantile(found: Sequence[tuple[float, float]], share: float) -> float:
    """The smallest value with at least *share* of all probability at or below it."""
    whole, below = sum(p for _, p in found), 0.0
    for value, p in found:
        below += p
        if below >= share * whole:
            return value
    return found[-1][0]


@lru_cache(maxsize=512)
def _middles(n: int) -> tuple[tuple[int, int, float], ...]:
    """Places i <= j of the values that are the two middle ones of a resample of *n*, and how often they are.

    For an odd n both are the m-th smallest of n draws, which is at most the k-th value with the probability that m
    draws or more hit the first k. For an even n they are apart when m = n / 2 draws hit the first i + 1 values, one of
    them the last of these, and all others those from j on, one of them the first of these.
    """
    m = (n + 1) // 2
    around = range(max(0, n // 2 - _REACH * math.isqrt(n) - 2), min(n, n // 2 + _REACH * math.isqrt(n) + 2))
    below = [_at_least(n, m, k) for k in (*around, around.stop)]
    single = {k: after - before for k, before, after in zip(around, below[:-1], below[1:], strict=True)}
    if n % 2:
        return tuple((k, k, p) for k, p in single.items() if p > _SELDOM)
    ways = math.lgamma(n + 1) - 2 * math.lgamma(m + 1) - n * math.log(n)
    found = []
    for i, whole in single.items():
        together = whole
        first = _hit(i + 1, m)
        for j in range(i + 1, n):
            p = math.exp(ways + first + _hit(n - j, m))
            together -= p
            if p <= _SELDOM:
                break
            found.append((i, j, p))
        if together > _SELDOM:
            found.append((i, i, together))
    return tuple(found)


def _hit(places: int, m: int) -> float:
    """The logarithm of in how many ways *m* draws hit so many places, the last of them at least once."""
    return m * math.log(places) + math.log1p(-(((places - 1) / places) ** m))


def _at_least(n: int, m: int, k: int) -> float:
    """The probability that of *n* draws from n values *m* or more are among the first *k*."""
    if k in (0, n):
        return float(k == n)
    hit, missed, whole = math.log(k / n), math.log1p(-k / n), math.lgamma(n + 1)
    return math.fsum(
        math.exp(whole - math.lgamma(h + 1) - math.lgamma(n - h + 1) + h * hit + (n - h) * missed)
        for h in range(m, min(n, m + 2 * _REACH * math.isqrt(n) + 2) + 1)
    )
