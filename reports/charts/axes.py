"""Axes that carry units: log scales whose ticks read 1 ms, 10 ms, 1 s, or 100 KiB, 1 MiB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from tare.bench.records.metrics import show
from tare.reports.charts import svg

_STEPS = ((1, 1000), (1, 100), (1, 10), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
_BINARY = (1.0, 2.0**10, 2.0**20, 2.0**30, 2.0**40)
_FACTORS = {
    "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9,
    "%": 0.01, "GiB": 2.0**30, "MiB": 2.0**20, "KiB": 2.0**10, "B": 1.0,
}  # fmt: skip
#: Room that one tick label needs, in points.
_LABEL = 64.0
#: So much of it lies at least between two labels.
_NEAR = 0.8
#: A label nearer than that to an end of the axis, in points, does not stand in the middle of its tick.
_END = 20.0


def log_limits(values: Sequence[float]) -> tuple[float, float]:
    """Limits of a log axis around positive *values*; at least a factor of two wide, so that noise stays small."""
    low, high = min(values), max(values)
    pad = (high / low) ** 0.04
    widen = max(1.0, math.sqrt(2 / (high / low * pad * pad)))
    return low / pad / widen, high * pad * widen


def log_axis(axes: Axes, limits: tuple[float, float], unit: str, points: float, *, zero: bool = False) -> None:
    """Make x a log axis over *limits*, with as many labelled ticks as *points* of width have room for.

    With *zero* the left edge stands for zero and says so; no other label comes near it.
    """
    axes.set_xscale("log")
    axes.set_xlim(limits)
    found = labelled(limits, unit, points)
    if zero:
        near = limits[0] * (limits[1] / limits[0]) ** (_LABEL / points)
        found = [value for value in found if value > near]
    labels = [tick(value, unit) for value in found]
    if zero:
        found, labels = [limits[0], *found], ["0", *labels]
    axes.set_xticks(found)
    axes.set_xticklabels(labels)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", length=3, labelsize=svg.TEXT)
    for label, value in zip(axes.get_xticklabels(), found, strict=True):
        label.set_horizontalalignment(_side(_place(value, limits, points), points))
    for value in found:
        axes.axvline(value, color=svg.RULE, linewidth=0.5, zorder=0)


def labelled(limits: tuple[float, float], unit: str, points: float) -> list[float]:
    """Where a log axis over *limits* has labels: as many as *points* of width have room for."""
    most = max(2, int(points / _LABEL))
    found: list[float] = []
    # Over three decades and more, the decades alone: steps within them would look like a linear scale.
    steps = _STEPS[:3] if limits[1] / limits[0] >= 1000 else _STEPS
    for step in steps:
        these = _ticks(limits, unit, step)
        if len(these) > most or _crowded(these, limits, points):
            return found or these[:1]
        if len(these) > len(found):
            found = these
    return found


def _crowded(ticks: Sequence[float], limits: tuple[float, float], points: float) -> bool:
    """Whether labels would touch: steps of one, three and ten are not equally wide on a log axis."""
    middles = [_middle(_place(value, limits, points), points) for value in ticks]
    return any(after - before < _NEAR * _LABEL for before, after in pairwise(middles))


def _place(value: float, limits: tuple[float, float], points: float) -> float:
    return points * math.log(value / limits[0]) / math.log(limits[1] / limits[0])


def _side(place: float, points: float) -> Literal["left", "center", "right"]:
    """How a label stands at its *place*: at an end of the axis it would stand outside the picture."""
    return "left" if place < _END else "right" if place > points - _END else "center"


def _middle(place: float, points: float) -> float:
    """Where the middle of a label is."""
    return place + _LABEL / 2 * {"left": 1, "center": 0, "right": -1}[_side(place, points)]


def linear_axis(axes: Axes, most: float, unit: str, points: float) -> None:
    """Make x an axis from zero to a little more than *most*, with as many labelled ticks as there is room for."""
    axes.set_xlim(0, most * 1.04)
    size = factor(most, unit)
    candidates = MaxNLocator(max(2, min(6, int(points / (2 * _LABEL))))).tick_values(0, most / size)
    found = [value * size for value in candidates if 0 <= value * size <= most * 1.04]
    axes.set_xticks(found)
    axes.set_xticklabels([tick(value, unit) if value else "0" for value in found])
    axes.tick_params(axis="x", length=3, labelsize=svg.TEXT)
    for label, value in zip(axes.get_xticklabels(), found, strict=True):
        # As on the logarithmic one: a label at an end would stand outside the picture.
        label.set_horizontalalignment("left" if not value else "right" if value > most * 0.97 else "center")
    for value in found:
        axes.axvline(value, color=svg.RULE, linewidth=0.5, zorder=0)


def factor(value: float, unit: str) -> float:
    """The size of the unit in which :func:`bench.records.metrics.show` writes *value*."""
    return _FACTORS.get(show(value, unit).rpartition(" ")[2], 1.0)


def tick(value: float, unit: str) -> str:
    """*value* with its unit and no needless zeros: ``1 ms``, ``1.5 s``."""
    number, _, suffix = show(value, unit).rpartition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {suffix}"


def _ticks(limits: tuple[float, float], unit: str, steps: Sequence[float]) -> list[float]:
    low, high = limits
    if unit == "bytes":
        bases = [base * 10**power for base in _BINARY for power in (0, 1, 2)]
    else:
        bases = [10.0**power for power in range(-9, 7)]
    if steps[-1] >= 10:  # every decade, every second, every third
        every = round(math.log10(steps[-1]))
        offset = 0
        candidates = bases[offset::every]
    else:
        candidates = [base * step for base in bases for step in steps]
    return [value for value in candidates if low <= value <= high]
