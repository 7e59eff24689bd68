"""Charts of the scale-down as inline SVG: memory beside that of the scale-up, and what one removal took."""

from __future__ import annotations

from matplotlib.axes import Axes

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.model import Report, SubjectFigures
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import svg
from tare.reports.sections.ramp.charts.growth_charts import scale, small_multiples
from tare.reports.sections.ramp.density.model import Descent


def memory(report: Report, *, width: float, name: str) -> str:
    """What is not free by count: solid on the scale-up, dashed on the scale-down."""
    found = _found(report)

    def draw(axes: Axes, subject: SubjectFigures) -> str:
        points = found[subject.label].points
        n, up, down = zip(*((float(p.n), p.up_bytes, p.down_bytes) for p in points), strict=True)
        colour = svg.colour(subject.runner, subject.layers)
        axes.plot(n, up, color=colour, linewidth=1.5, marker="o", markersize=3)
        axes.plot(n, down, color=svg.INK, linewidth=1.2, marker="o", markersize=2.5, linestyle=(0, (4, 2)))
        scale(axes, n, [*up, *down], "bytes")
        if not found[subject.label].balanced:
            return "no claim"
        return f"{words.size(abs(down[-1]))} {'still gone' if down[-1] > 0 else 'more free'} at the end"

    return small_multiples(
        _subjects(report, found), draw, width=width, name=name, title="Memory during scale-up and scale-down",
        description=" ".join(f"{one.subject}: {one.sentence}" for one in found.values()),
    )  # fmt: skip


def removals(report: Report, *, width: float, name: str) -> str:
    """What one removal took, from the number above to each number left."""
    found = _found(report)

    def draw(axes: Axes, subject: SubjectFigures) -> str:
        points = [point for point in found[subject.label].points if point.each_seconds is not None]
        n, each = [float(point.n) for point in points], [point.each_seconds or 0.0 for point in points]
        axes.plot(n, each, color=svg.colour(subject.runner, subject.layers), linewidth=1.5, marker="o", markersize=3)
        scale(axes, [*n, float(found[subject.label].reached)], each, "seconds")
        return f"{show(found[subject.label].seconds, 'seconds')} in all"

    return small_multiples(
        _subjects(report, found), draw, width=width, name=name, title="Time of one removal, by the number left",
        description=" ".join(f"{one.subject}: {one.sentence}" for one in found.values()),
    )  # fmt: skip


def _found(report: Report) -> dict[str, Descent]:
    return {one.subject: one for one in report.analysis.descents}


def _subjects(report: Report, found: dict[str, Descent]) -> list[SubjectFigures]:
    return [subject for group in ordered(report.subjects) for subject in group if subject.label in found]
