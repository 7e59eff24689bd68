"""A number as it was measured, beside the rounded one that a page shows: HTML's ``<data value="…">``.

The page's script sorts and copies by the former; a reader sees the latter. The class is the unit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup


def one(shown: str, value: float | None, unit: str = "") -> str:
    """*shown* with its number; as it is where there is none."""
    return shown if value is None else _data(shown, _text(value), unit)


def span(shown: str, low: float | None, high: float | None, unit: str = "") -> str:
    """*shown* with both ends of an interval, a slash between; as it is where an end is missing."""
    return shown if low is None or high is None else _data(shown, f"{_text(low)}/{_text(high)}", unit)


def of(show: Callable[[Any], str], unit: str = "") -> Callable[[Any], str]:
    """The filter *show* of one number, with that number."""
    return lambda value: one(show(value), value, unit)


def in_unit(show: Callable[[Any, str], str]) -> Callable[[Any, str], str]:
    """The filter *show* of a number and its unit, with that number."""
    return lambda value, unit: one(show(value, unit), value, unit)


def _data(shown: str, value: str, unit: str) -> Markup:
    kind = Markup(' class="{}"').format(unit) if unit else ""
    return Markup('<data{} value="{}">{}</data>').format(kind, value, shown)


def _text(value: float) -> str:
    """Every digit: NumPy's numbers, too, whose repr names their type."""
    return str(value) if isinstance(value, int) else repr(float(value))
