"""What ``figures.html`` draws of text and boxes: bars whose lengths are parts of a whole, and the axis below them."""

from __future__ import annotations

from dataclasses import dataclass

from tare.reports.analysis.figures import SubjectFigures


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A number on a layer, whose it is, and its part of the subject's whole, as a bar shows it."""

    label: str
    shown: str
    share: float
    colour: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """One bar of a linear scale that all share: its part of the longest. ``value`` is the number as it was measured."""

    subject: SubjectFigures
    value: float
    shown: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What stands below bars of one scale: labels at equal distances after zero, and a title."""

    ticks: tuple[str, ...]
    title: str
