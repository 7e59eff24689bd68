"""Charts of the scale-down as inline SVG: memory beside that of the scale-up, and what one removal took."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

from matplotlib.axes import Axes

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.model import Report
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import svg
from tare.reports.charts.looks import looks
from tare.reports.charts.multiples import Cell, Draw, line, small_multiples, unseen
from tare.reports.sections.ramp.charts.growth_charts import ALIVE
from tare.reports.sections.ramp.density.model import Descent


def memory(report: Report, *, width: float, name: str) -> str:
    """What is not free by number of living instances: with marks on the scale-up, dashed in ink on the scale-down."""
    found, look = _found(report), looks(report.subjects)

    def cell(label: str, descent: Descent) -> Cell:
        last = descent.points[-1].down_bytes
        words_after = f"{'still gone' if last > 0 else 'more free'} at the end"
        return Cell(
            label=label,
            look=look[label],
            number=words.size(abs(last)) if descent.balanced else "no claim",
            rest=words_after if descent.balanced else "",
            x=[float(point.n) for point in descent.points],
            y=list(chain.from_iterable((point.up_bytes, point.down_bytes) for point in descent.points)),
        )

    def draw(axes: Axes, cell: Cell) -> None:
        points = found[cell.label].points
        line(axes, cell.look, cell.x, [point.up_bytes for point in points], "scale-up")
        down = [point.down_bytes for point in points]
        unseen(axes, cell.x, down, "scale-down")
        axes.plot(cell.x, down, color=svg.INK, linewidth=1.2, linestyle=(0, (4, 2)))

    cells = [cell(*one) for one in found.items()]
    return _charts(cells, draw, found, width=width, name=name, title="Memory during scale-up and scale-down",
                   upward="host memory", unit="bytes")  # fmt: skip


def removals(report: Report, *, width: float, name: str) -> str:
    """What one removal took, from the number above to each number left."""
    found, look = _found(report), looks(report.subjects)
    each = {
        label: [(p.n, p.each_seconds) for p in one.points if p.each_seconds is not None] for label, one in found.items()
    }
    cells = [
        Cell(
            label=label,
            look=look[label],
            number=show(one.seconds, "seconds"),
            rest="in all",
            x=[*(float(n) for n, _ in each[label]), float(one.reached)],
            y=[seconds for _, seconds in each[label]],
        )
        for label, one in found.items()
    ]

    def draw(axes: Axes, cell: Cell) -> None:
        line(axes, cell.look, cell.x[:-1], cell.y, "one removal")

    return _charts(cells, draw, found, width=width, name=name, title="Time of one removal, by the number left",
                   upward="each removal", unit="seconds")  # fmt: skip


def _charts(
    cells: list[Cell], draw: Draw, found: Mapping[str, Descent],
    *, width: float, name: str, title: str, upward: str, unit: str,
) -> str:  # fmt: skip
    return small_multiples(
        cells, draw, across=ALIVE, upward=upward, unit=unit, width=width, name=name, title=title,
        description=" ".join(f"{label}: {one.sentence}" for label, one in found.items()),
    )  # fmt: skip


def _found(report: Report) -> dict[str, Descent]:
    """Label -> its scale-down, in the order of the page."""
    by_label = {one.subject: one for one in report.analysis.descents}
    labels = [subject.label for group in ordered(report.subjects) for subject in group]
    return {label: by_label[label] for label in labels if label in by_label}
