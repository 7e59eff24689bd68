"""All runs -> one offline HTML file: a table with links to their pages, and each scenario's main figures over time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import numpy as np

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.several.overview import Entry, Group, Overview, Series
from tare.reports.charts import marks
from tare.reports.page.render import environment
from tare.reports.page.script import OVERVIEW, script

#: A chart's size, in points of its viewBox; a margin for the marks at its edges.
WIDTH, HEIGHT, _EDGE = 264.0, 72.0, 6.0
#: A chart is at least so much of its middle high: noise must not look like a change.
_LEAST_SPAN = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A dot, or for many runs the middle of several of them, with the least and the most as *low* and *high*."""

    x: float
    y: float
    low: float | None
    high: float | None
    said: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One subject over time, ready to be drawn; ``line`` are the points of a polyline."""

    of: Series
    last: float
    least: str
    most: str
    line: str
    marks: Sequence[Mark]


def page(overview: Overview, at: Path, pages: Sequence[str]) -> str:
    """The whole page, to be written to *at*; *pages* are the names that a run's page may have in its directory."""
    links = [_link(entry, at, pages) for entry in overview.entries]
    dates = [entry.started_at[:10] for entry in overview.entries if entry.started_at]
    charts = [(group, _charts(group, overview.entries, links)) for group in overview.groups]
    text = (
        environment()
        .get_template("several/overview.html")
        .render(
            overview=overview,
            rows=list(zip(overview.entries, links, strict=True))[::-1],
            charts=charts,
            spans=[_span(group, overview.entries) for group in overview.groups],
            many=any(mark.low is not None for _, drawn in charts for chart in drawn for mark in chart.marks),
            lead=_lead(overview),
            span=_from_to(dates),
            damaged=[entry for entry in overview.entries if entry.damaged],
            emulated_mark=words.EMULATED,
            width=WIDTH,
            height=HEIGHT,
            script=script(OVERVIEW),
        )
    )
    return words.clean(text)


def _lead(overview: Overview) -> str:
    whole = [entry for entry in overview.entries if not entry.damaged]
    if not overview.entries:
        return "There are no runs here yet."
    if not whole:
        return f"None of {words.plural(len(overview.entries), 'run')} here can be read."
    scenarios = len({entry.scenario for entry in whole})
    damaged = len(overview.entries) - len(whole)
    lost = f"; {damaged} more cannot be read" if damaged else ""
    return f"{words.plural(len(whole), 'run')} of {words.plural(scenarios, 'scenario')}{lost}."


def _span(group: Group, entries: Sequence[Entry]) -> str:
    return _from_to([entries[point.run].started_at[:10] for series in group.series for point in series.points])


def _from_to(dates: Sequence[str]) -> str:
    first, last = min(dates, default=""), max(dates, default="")
    return first if first == last else f"{first} to {last}"


def _link(entry: Entry, at: Path, pages: Sequence[str]) -> str:
    """Where the page of a run is, seen from the page at *at*; empty where there is none."""
    for name in pages:
        file = Path(entry.path, name)
        if os.path.isfile(file):  # noqa: PTH113 - false, and no error, where the run may not be read
            # Quoted, so that no name is taken for another scheme, host or part of the address.
            return quote(os.fsencode(os.path.relpath(file, at.parent)), safe="/")
    return ""


def _charts(group: Group, entries: Sequence[Entry], links: Sequence[str]) -> list[Chart]:
    """The series of a figure, with one scale of time for all and a scale of values for each."""
    times = {point.run: _seconds(entries[point.run].started_at) for series in group.series for point in series.points}
    first, last = min(times.values()), max(times.values())
    found = []
    for series in group.series:
        values = [point.value for point in series.points]
        low, high = _limits(values)
        at = np.array([_scaled(times[point.run], first, last, WIDTH) for point in series.points])
        heights = np.array([HEIGHT - _scaled(value, low, high, HEIGHT) for value in values])
        drawn = _marks(group, series, (at, heights), entries, links)
        found.append(
            Chart(
                of=series,
                last=values[-1],
                least=show(min(values), group.unit),
                most=show(max(values), group.unit),
                line=" ".join(f"{mark.x:g},{mark.y:g}" for mark in drawn),
                marks=drawn,
            )
        )
    return found


def _marks(
    group: Group,
    series: Series,
    places: tuple[marks.Floats, marks.Floats],
    entries: Sequence[Entry],
    links: Sequence[str],
) -> list[Mark]:
    """A dot for each run; where these are too many, a stroke for several that follow each other."""
    at, heights = places
    if marks.few(len(at), len(group.series)):
        return [
            Mark(
                x=round(float(x), 1),
                y=round(float(y), 1),
                low=None,
                high=None,
                said=f"{entries[point.run].started_at[:10]}: {show(point.value, group.unit)}",
                link=links[point.run],
            )
            for point, x, y in zip(series.points, at, heights, strict=True)
        ]
    binned = marks.binned(at, heights, len(group.series))
    columns = (np.round(column, 1).tolist() for column in (binned.at, binned.middle, binned.least, binned.most))
    return [Mark(x=x, y=y, low=low, high=high, said="", link="") for x, y, low, high in zip(*columns, strict=True)]


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    lacking = max(0.0, _LEAST_SPAN * abs(float(np.median(values))) - (high - low)) / 2
    return low - lacking, high + lacking


def _scaled(value: float, low: float, high: float, size: float) -> float:
    """Where *value* is on a scale of *size*, without its edges; in the middle of an empty one."""
    return _EDGE + (size - 2 * _EDGE) * ((value - low) / (high - low) if high > low else 0.5)


def _seconds(started_at: str) -> float:
    try:
        found = datetime.fromisoformat(started_at)
    except ValueError:
        return 0.0
    return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
