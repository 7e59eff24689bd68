"""How host memory grows with the number of living instances, as inline SVG: one small chart a subject."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Report
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import svg
from tare.reports.charts.looks import looks
from tare.reports.charts.multiples import Cell, dots, small_multiples
from tare.reports.sections.ramp.memory import ledger
from tare.reports.sections.ramp.memory.model import MARGIN, CounterLine

#: The title of the axis of counts, in all charts of a ramp.
ALIVE = "living instances"


def growth(report: Report, table: pd.DataFrame, *, width: float, name: str) -> str:
    """Host memory against the count: one chart a subject, every reading, and the line where it may be claimed.

    Empty without lines.
    """
    lines = {line.subject: line for line in report.analysis.fits if line.counter == ledger.HOST}
    refused = {subject.label for subject in report.subjects if _no_claim(subject)}
    look, cells = looks(report.subjects), []
    for subject in (s for group in ordered(report.subjects) for s in group if s.label in lines):
        readings = table[ledger.HOST].xs(subject.label, level="subject").dropna()
        b, claimed = lines[subject.label].b, subject.label not in refused
        cells.append(
            Cell(
                label=subject.label,
                look=look[subject.label],
                number=f"+{show(b, 'bytes')}" if claimed and b > 0 else "no margin" if claimed else "no claim",
                rest="each" if claimed and b > 0 else "",
                x=[float(number) for number in readings.index.get_level_values("n")],
                y=[float(value) for value in readings],
            )
        )

    def draw(axes: Axes, cell: Cell) -> None:
        dots(axes, cell.look, cell.x, cell.y)
        if cell.label not in refused:
            line, ends = lines[cell.label], (1.0, max(cell.x))
            axes.plot(ends, [line.a + line.b * end for end in ends], color=svg.INK, linewidth=1.1, zorder=2)

    return small_multiples(
        cells, draw, across=ALIVE, upward="host memory", unit="bytes", width=width, name=name,
        title="Host memory by number of living instances",
        description="; ".join(_said(lines[cell.label]) for cell in cells if cell.label not in refused),
    )  # fmt: skip


def _no_claim(subject: SubjectFigures) -> bool:
    """Whether its margin is refused: see reports/sections/ramp/analysis.py."""
    return any(figure.metric == MARGIN.name and figure.why.startswith("no claim") for figure in subject.figures)


def _said(line: CounterLine) -> str:
    return f"{line.subject}: {words.size(line.b)} each ({words.interval(line.b_low, line.b_high, 'bytes')})"
