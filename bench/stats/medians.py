"""How medians would scatter if the rounds were drawn again: the percentile bootstrap, also for very many rounds.

While the rounds are few they are drawn again, seeded. Beyond, the interval of one median is a pair of its order
statistics, whose places are binomial quantiles: the distribution over all resamples is known exactly (Efron,
Bootstrap Methods, Annals of Statistics 7, 1979, section 3). The joint distribution of several medians that share
their rounds is then drawn from the normal one that their ranks tend to. Its covariance is how often two values of a
round lie on the same side of their medians (Babu and Rao, Joint asymptotic distribution of marginal quantiles,
Journal of Multivariate Analysis 27, 1988); no density is estimated, since quantiles of the data turn ranks into
values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Confidence of every interval (docs/explanation/method.md, The statistics).
CONFIDENCE = 0.95
#: With fewer rounds there is nothing to draw from.
LEAST = 3
#: Up to so many rounds they are drawn again, one by one. A test holds both ways against each other at this number.
MOST_DRAWN = 300
_RESAMPLES = 9999
_SEED = 20260101
_TAIL = (1 - CONFIDENCE) / 2


def interval(values: Floats) -> tuple[float | None, float | None]:
    """The 95 % percentile-bootstrap interval of the median of *values*; (None, None) for fewer than three."""
    n = int(values.size)
    if n < LEAST:
        return None, None
    if n <= MOST_DRAWN:
        return percentiles(_resampled(values, _indices(n, _RESAMPLES)))
    data = np.sort(values)
    # The one or two middle values of a resample have each their places; the median is half way between them.
    places = [_places(n, middle) for middle in {(n + 1) // 2, n // 2 + 1}]
    low, high = (float(np.mean([data[place] for place in ends])) for ends in zip(*places, strict=True))
    return low, high


def draws(samples: Sequence[Floats], *, paired: bool, resamples: int) -> Floats:
    """Medians of *samples* as they would be with rounds drawn again, seeded: shape (resamples, samples).

    With *paired*, the samples share their rounds, which are drawn together: they share the state of the host.
    """
    few = max(sample.size for sample in samples) <= MOST_DRAWN
    return (_drawn if few else _asymptotic)(samples, resamples, paired=paired)


def interval_of(
    rounds: Floats, statistic: Callable[[Floats], Floats], resamples: int = 1999
) -> tuple[float | None, float | None]:
    """95 % interval of a *statistic* of the medians of several columns over *rounds*, shape (rounds, columns).

    *statistic* maps medians, shape (resamples, columns), to numbers, shape (resamples,). (None, None) below 3 rounds.
    """
    return intervals_of(rounds, (statistic,), resamples)[0]


def intervals_of(
    rounds: Floats, statistics: Sequence[Callable[[Floats], Floats]], resamples: int = 1999
) -> list[tuple[float | None, float | None]]:
    """:func:`interval_of` for each of *statistics*, of the same draws."""
    if len(rounds) < LEAST:
        return [(None, None)] * len(statistics)
    drawn = draws(list(rounds.T), paired=True, resamples=resamples)
    return [percentiles(statistic(drawn)) for statistic in statistics]


def percentiles(found: Floats) -> tuple[float, float]:
    """The ends of the interval that holds the middle 95 % of *found*."""
    low, high = np.percentile(found, (100 * _TAIL, 100 * (1 - _TAIL)))
    return float(low), float(high)


@lru_cache(maxsize=256)
def _places(n: int, middle: int) -> tuple[int, int]:
    """Places (from 0) of the values at which the *middle*-th smallest of a resample leaves 2.5 % to either side.

    It is at most the k-th smallest value with the probability that of n draws *middle* or more hit these k.
    """
    from scipy.special import bdtrc  # here: `tare --help` need not wait for it

    below = bdtrc(middle - 1, n, np.arange(1, n + 1) / n)
    low, high = (int(np.searchsorted(below, edge)) for edge in (_TAIL, 1 - _TAIL))
    return low, min(high, n - 1)


def _drawn(samples: Sequence[Floats], resamples: int, *, paired: bool) -> Floats:
    if paired:
        rows = _indices(samples[0].size, resamples)
        return np.stack([_resampled(one, rows) for one in samples], axis=1)
    random = np.random.default_rng(_SEED)
    return np.stack([_resampled(one, random.integers(0, one.size, (resamples, one.size))) for one in samples], axis=1)


def _resampled(values: Floats, rows: NDArray[Any]) -> Floats:
    """The median of each resample; *rows* has the places of its values."""
    # Ranks, and not values: small integers are parted several times as fast as floats.
    order = np.argsort(values, kind="stable")
    ranks = np.empty(values.size, dtype=np.int16)
    ranks[order] = np.arange(values.size)
    middle = ((values.size - 1) // 2, values.size // 2)
    drawn = np.partition(ranks[rows], middle, axis=1)
    found: Floats = (values[order[drawn[:, middle[0]]]] + values[order[drawn[:, middle[1]]]]) / 2
    return found


@lru_cache(maxsize=4)
def _indices(n: int, resamples: int) -> NDArray[np.int16]:
    """Which rounds each resample has; the same for all that is asked of a run."""
    return np.random.default_rng(_SEED).integers(0, n, size=(resamples, n)).astype(np.int16)


def _asymptotic(samples: Sequence[Floats], resamples: int, *, paired: bool) -> Floats:
    sizes = np.asarray([sample.size for sample in samples], dtype=np.float64)
    together = np.eye(len(samples)) / 4
    if paired:
        below = np.stack([sample <= np.median(sample) for sample in samples]).astype(np.float64)
        together = np.cov(below, bias=True).reshape(len(samples), -1)
        # Half of the values lie below by definition, even where ties or an odd number say otherwise.
        scale = 0.5 / np.sqrt(np.maximum(np.diag(together), 1e-12))
        together = together * np.outer(scale, scale)
    spread = together / np.sqrt(np.outer(sizes, sizes))
    values, vectors = np.linalg.eigh(spread)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    ranks = 0.5 + np.random.default_rng(_SEED).standard_normal((resamples, len(samples))) @ root.T
    found = [np.quantile(sample, np.clip(ranks[:, i], 0.0, 1.0)) for i, sample in enumerate(samples)]
    return np.stack(found, axis=1)
