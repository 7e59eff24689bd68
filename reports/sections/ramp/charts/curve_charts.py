"""Curves of the scale-up as inline SVG: how busy the host is, and what stands still, by count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes

from tare.reports import words
from tare.reports.analysis.model import Report
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import numbers, svg
from tare.reports.charts.looks import looks
from tare.reports.charts.multiples import Cell, Draw, line, mark, small_multiples, unseen
from tare.reports.sections.ramp.charts.growth_charts import ALIVE
from tare.reports.sections.ramp.density import curves
from tare.reports.sections.ramp.density.model import Curve

#: Metric -> (colour, CSS variable, marker, its character, dashed): solid for what some wait for, dashed for what
#: stops all.
STYLES: Mapping[str, tuple[str, str, str, str, bool]] = {
    "pressure_cpu_some_ratio": (svg.HELPER, "--helper", "o", "●", False),
    "pressure_memory_some_ratio": (svg.VM, "--vm", "^", "▲", False),
    "pressure_memory_full_ratio": (svg.VM, "--vm", "v", "▼", True),
    "pressure_io_some_ratio": (svg.CONTAINER, "--container", "s", "■", False),
    "pressure_io_full_ratio": (svg.CONTAINER, "--container", "D", "◆", True),
}
_DASHED = (0, (4, 2))
#: A curve that never passes this share is said and not drawn.
_SEEN = 0.001
#: Axes show at least a tenth: noise must not fill the picture.
_LEAST = 0.1

_Number = Callable[[Sequence[Curve]], tuple[str, str]]


def busy(report: Report, *, width: float, name: str) -> str:
    """Processors busy while all idle: the whole host's share, and dashed, that of the instances where it was read."""
    by_subject = _curves(report, (curves.BUSY, curves.OWN))

    def draw(axes: Axes, cell: Cell) -> None:
        for curve in by_subject[cell.label]:
            n, value = [point.n for point in curve.points], [point.value for point in curve.points]
            if curve.metric == curves.OWN:
                axes.plot(n, value, color=svg.INK, linewidth=1.3, linestyle=_DASHED)
                unseen(axes, n, value, curve.title)
            else:
                line(axes, cell.look, n, value, curve.title)
            _knee(axes, curve)

    def number(mine: Sequence[Curve]) -> tuple[str, str]:
        last = next(curve.points[-1] for curve in mine if curve.metric == curves.BUSY)
        return words.share(last.value), f"with {last.n} alive"

    title = "Processors busy, by number of living instances"
    return _charts(report, by_subject, number, draw, width=width, name=name, title=title, upward="busy")


def pressure(report: Report, *, width: float, name: str) -> str:
    """Shares of the window in which tasks stood still."""
    by_subject = _curves(report, curves.PRESSURES)

    def draw(axes: Axes, cell: Cell) -> None:
        for curve in filter(_rises, by_subject[cell.label]):
            colour, _, marker, _, dashed = STYLES[curve.metric]
            (found,) = axes.plot(
                [point.n for point in curve.points], [point.value for point in curve.points], color=colour,
                linewidth=1.5, marker=marker, markersize=5, linestyle=_DASHED if dashed else "solid",
            )  # fmt: skip
            numbers.tell(found, [(curve.title, point.n, point.value) for point in curve.points])
            _knee(axes, curve)

    def number(mine: Sequence[Curve]) -> tuple[str, str]:
        highest = max(point.value for one in mine for point in one.points)
        return (words.share(highest), "at most") if any(map(_rises, mine)) else ("none", "")

    title = "Pressure, by number of living instances"
    return _charts(report, by_subject, number, draw, width=width, name=name, title=title, upward="of the time")


def legend(report: Report) -> list[tuple[str, str, str, bool]]:
    """(CSS variable, character, words, dashed) of the pressures that the charts draw."""
    drawn = {one.metric for one in report.analysis.curves if _rises(one)}
    found = ((STYLES[m], curves.TITLES[m]) for m in curves.PRESSURES if m in drawn)
    return [(style[1], style[3], title, style[4]) for style, title in found]


def knees(report: Report, metric: str) -> Mapping[str, int]:
    """Subject -> where its curve of *metric* leaves its beginning, for those that do."""
    return {one.subject: one.knee for one in report.analysis.curves if one.metric == metric and one.knee is not None}


def _rises(curve: Curve) -> bool:
    return max(point.value for point in curve.points) >= _SEEN


def _knee(axes: Axes, curve: Curve) -> None:
    if curve.knee is not None:
        mark(axes, curve.knee)


def _curves(report: Report, metrics: Sequence[str]) -> Mapping[str, list[Curve]]:
    """Subject -> its curves of these metrics."""
    found: dict[str, list[Curve]] = {}
    for curve in report.analysis.curves:
        if curve.metric in metrics:
            found.setdefault(curve.subject, []).append(curve)
    return found


def _charts(
    report: Report, by_subject: Mapping[str, list[Curve]], number: _Number, draw: Draw,
    *, width: float, name: str, title: str, upward: str,
) -> str:  # fmt: skip
    look, cells = looks(report.subjects), []
    for label in (s.label for group in ordered(report.subjects) for s in group if s.label in by_subject):
        mine = by_subject[label]
        shown, rest = number(mine)
        values = [point.value for one in mine for point in one.points]
        n = [float(point.n) for one in mine for point in one.points]
        cells.append(Cell(label=label, look=look[label], number=shown, rest=rest, x=n, y=[*values, _LEAST]))
    drawn = [one for some in by_subject.values() for one in some]
    said = (f"{c.subject}, {c.title}: {words.share(c.points[-1].value)} at {c.points[-1].n}" for c in drawn)
    return small_multiples(
        cells, draw, across=ALIVE, upward=upward, unit="ratio", width=width, name=name, title=title,
        description="; ".join(said),
    )  # fmt: skip
