"""Modes: is a sample one heap of values, or several with next to nothing between them?

A median of two heaps may be a value that never occurred. The test looks for a valley in the sorted values: a stretch
that holds r of the gaps between neighbours, and on each side of it m gaps that are together shorter. Where the density
has one mode, it is in the valley nowhere lower than at one of its ends, and rises or falls throughout the flank beyond
that end: so the length of that flank, as a part of flank and valley, is at least as large as for values that are spread
evenly, where it has the distribution Beta(m, r). The longer flank bounds the probability from above, whichever end it
is. (The idea of tests on spacings at many scales: Duembgen and Walther, Multiscale inference about a density, Annals of
Statistics 36, 2008.) The smallest probability over all valleys and flanks is held against its distribution for even
values, the least favourable of all densities with one mode, which was simulated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tare.bench.stats.estimate import as_array
from tare.bench.stats.medians import Floats
from tare.bench.stats.verdict import LEAST_CHANGE, RESOLUTIONS

#: A sample of one mode is said to have two at most so often.
LEVEL = 0.01
#: Below that nothing is said; fewer values than these, or a smaller share, are no mode of their own but outliers.
LEAST_VALUES, LEAST_IN_MODE, LEAST_SHARE = 8, 3, 0.1
#: Of a larger sample, so many values at even places of the order stand for all.
MOST_VALUES = 1000
#: n -> the smallest probability that even values have in one of a hundred samples (simulated: 40 000 samples up to
#: n = 100, 10 000 beyond). tests/unit/bench/stats/test_modes.py holds the rate.
_CRITICAL = {
    8: 0.0249,
    9: 0.0202,
    10: 0.0159,
    12: 0.0113,
    14: 0.00899,
    16: 0.00621,
    20: 0.00413,
    25: 0.0028,
    30: 0.00212,
    40: 0.00125,
    60: 0.000608,
    100: 0.000254,
    200: 7.6e-05,
    500: 2.27e-05,
    1000: 7.76e-06,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """One heap: the median of its values, in their unit, and its share of all."""

    value: float
    share: float


def modes(values: Sequence[float] | Floats, *, resolution: float = 0.0) -> tuple[Mode, ...]:
    """The modes of *values*, the lowest first; empty where one is all that can be shown. Raises ValueError on no data.

    Two modes are told apart only if their medians differ by at least 5 % and by three times the *resolution* of the
    instrument (in the unit of *values*), as two subjects would have to.
    """
    data = np.sort(as_array(values))
    parts = list(_parts(data, resolution))
    if len(parts) < 2:
        return ()
    return tuple(Mode(value=float(np.median(part)), share=part.size / data.size) for part in parts)


def _parts(data: Floats, resolution: float) -> Iterator[Floats]:
    """*data* cut at its valleys, each part at its own."""
    valley = _valley(data[:: 1 + data.size // MOST_VALUES])
    low, high = data[data < valley], data[data >= valley]
    if not low.size or not _differ(low, high, resolution):
        yield data
        return
    yield from _parts(low, resolution)
    yield from _parts(high, resolution)


def _differ(low: Floats, high: Floats, resolution: float) -> bool:
    first, second = float(np.median(low)), float(np.median(high))
    return second - first >= max(LEAST_CHANGE * abs(first), RESOLUTIONS * resolution)


def _valley(data: Floats) -> float:
    """The middle of the valley that parts sorted *data*; minus infinity where one mode is all that can be shown."""
    if data.size < LEAST_VALUES:
        return -math.inf
    p, start, width = lowest(data)
    if p > _critical(data.size):
        return -math.inf
    # Values that lie in the valley belong to the side that they are nearer to: the cut is in its widest gap.
    below = start + int(np.argmax(np.diff(data[start : start + width + 1])))
    return float(data[below] + data[below + 1]) / 2


def lowest(data: Floats) -> tuple[float, int, int]:
    """Of sorted *data*: the smallest probability of a valley, the place of its first value, and its width in gaps."""
    from scipy.special import betainc  # here: what only `tare --help` needs must not wait for it

    n = data.size
    least = max(LEAST_IN_MODE, math.ceil(LEAST_SHARE * n))
    grain = _grain(data)
    best = (1.0, 0, 1)
    for width in _doubling(max(1, n // 8)):
        starts = np.arange(least - 1, n - least - width + 1)
        for flank in _flanks(n):
            at = starts[(starts >= flank) & (starts + width + flank < n)]
            if flank < width or not at.size:
                continue
            valley = np.maximum(data[at + width] - data[at] - grain, 0.0)
            longer = np.maximum(data[at] - data[at - flank], data[at + width + flank] - data[at + width])
            longer = np.maximum(longer, grain)
            whole = longer + valley
            p = betainc(flank, width, np.divide(longer, whole, out=np.ones_like(whole), where=whole > 0))
            found = int(np.argmin(p))
            best = min(best, (float(p[found]), int(at[found]), width))
    return best


def _grain(data: Floats) -> float:
    """The step in which values were counted (a page, a tick), if equal ones show that they were; else 0.

    Each then stands for all values within a step: of 20, 20, 21, 21, 22 pages no value between is missing. Two values
    alone show no step.
    """
    gaps = np.diff(np.unique(data))
    return float(np.min(gaps)) if 1 < gaps.size < data.size - 1 else 0.0


def _doubling(most: int) -> Iterator[int]:
    width = 1
    while width <= most:
        yield width
        width *= 2


def _flanks(n: int) -> Iterator[int]:
    """2, 3, 5, 8, ...: lengths of flanks, in gaps."""
    flank, following = 2, 3
    while flank < n:
        yield flank
        flank, following = following, flank + following


def _critical(n: int) -> float:
    """Between the simulated sizes by a line of the logarithms."""
    sizes = list(_CRITICAL)
    return math.exp(float(np.interp(math.log(n), np.log(sizes), np.log(list(_CRITICAL.values())))))
