"""Intervals of statistics that are made of several medians: whole rounds are drawn again, seeded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tare.bench.stats.estimate import CONFIDENCE, Floats

_RESAMPLES = 1999
_SEED = 20260101

#: With fewer rounds there is nothing to draw from.
LEAST = 3


def interval(rounds: Floats, statistic: Callable[[Floats], Floats]) -> tuple[float | None, float | None]:
    """95 % percentile interval of *statistic* over *rounds*, shape (rounds, columns); (None, None) below 3 rounds.

    *statistic* maps (resamples, rounds, columns) to (resamples,). All columns of a round are drawn together: they share
    the state of the host.
    """
    if len(rounds) < LEAST:
        return None, None
    drawn = np.random.default_rng(_SEED).integers(0, len(rounds), size=(_RESAMPLES, len(rounds)))
    found = statistic(rounds[drawn])
    edge = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(found, (edge, 100 - edge))
    return float(low), float(high)
