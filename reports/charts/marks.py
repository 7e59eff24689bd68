"""Many values in few marks: whatever the number of starts, a figure has some hundreds of marks, and shows the extremes.

Nothing is left out silently: beyond the bound a shape stands for the bulk, and whoever draws it says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: So many marks a figure has at most, whatever it shows; its rows share them.
MOST = 600
#: So many values at either end are marks of their own when a shape stands for the rest.
ENDS = 8
_BINS = 64


@dataclass(frozen=True, slots=True)
class Density:
    """How often values occur along a scale: the edges of bins, and the share of the fullest bin that each has."""

    edges: Floats
    height: Floats


def few(count: int, rows: int) -> bool:
    """Whether each of *count* values of one of *rows* rows may be a mark of its own."""
    return count * rows <= MOST


def density(values: Floats) -> Density:
    """The density of positive *values* on a logarithmic scale; of equal ones a narrow bin."""
    logs = np.log(values)
    low, high = float(logs.min()), float(logs.max())
    if high - low < 1e-9:
        low, high = low - 1e-3, high + 1e-3
    counts, edges = np.histogram(logs, bins=_BINS, range=(low, high))
    return Density(edges=np.exp(edges), height=counts / np.max(counts))


def ends(values: Floats) -> NDArray[np.int64]:
    """The places of the smallest and the largest values, each once."""
    order = np.argsort(values, kind="stable")
    return np.unique(np.concatenate((order[:ENDS], order[-ENDS:])))


@dataclass(frozen=True, slots=True)
class Binned:
    """Values by place: the middle of each bin, and the least, the median and the most in it."""

    at: Floats
    least: Floats
    middle: Floats
    most: Floats


def binned(x: Floats, y: Floats, rows: int) -> Binned:
    """At most as many bins of equally many different *x* as one of *rows* rows has marks for."""
    places, inverse = np.unique(x, return_inverse=True)
    bins = np.minimum(places.size, max(8, MOST // (3 * rows)))
    of = inverse * bins // places.size
    parts = [(x[of == one], y[of == one]) for one in range(int(bins))]
    found = [(np.median(some), values.min(), np.median(values), values.max()) for some, values in parts if values.size]
    return Binned(*(np.asarray(column, dtype=np.float64) for column in zip(*found, strict=True)))
