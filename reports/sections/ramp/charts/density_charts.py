"""Charts of density as inline SVG: prediction against reading, starts by count."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.model import Report
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import svg
from tare.reports.charts.looks import looks
from tare.reports.charts.multiples import Cell, dots, mark, small_multiples
from tare.reports.sections.ramp import ramps
from tare.reports.sections.ramp.charts import curve_charts
from tare.reports.sections.ramp.charts.growth_charts import ALIVE
from tare.reports.sections.ramp.density import curves
from tare.reports.sections.ramp.density.model import DensityRow
from tare.reports.sections.ramp.sentences import interval


def predicted(report: Report, taken: pd.DataFrame, *, width: float, name: str) -> str:
    """Memory no longer available against the count: readings, the prediction of the first fifth, the knee."""
    rows: dict[str, list[DensityRow]] = {}
    for row in report.analysis.density:
        rows.setdefault(row.subject, []).append(row)
    look, cells = looks(report.subjects), []
    for label in (s.label for group in ordered(report.subjects) for s in group if s.label in rows):
        most = max(rows[label], key=lambda row: row.reached)
        refused = label in report.analysis.refused
        readings = [ramps.one(taken, row.subject, row.round)["used"] for row in rows[label]]
        cells.append(
            Cell(
                label=label,
                look=look[label],
                number="no claim" if refused else words.size(most.reached_bytes),
                rest="" if refused else f"taken by {words.number(most.reached)}",
                x=[float(n) for used in readings for n in used.index],
                y=[float(value) for used in readings for value in used],
            )
        )

    def draw(axes: Axes, cell: Cell) -> None:
        dots(axes, cell.look, cell.x, cell.y)
        for row in rows[cell.label]:
            _prediction(axes, row)

    said = [
        f"{row.subject}: {row.reached} reached, "
        f"{interval(row.memory_instances, row.memory_low, row.memory_high)} predicted by memory"
        for row in report.analysis.density
    ]
    return small_multiples(
        cells, draw, across=ALIVE, upward="memory taken", unit="bytes", width=width, name=name,
        title="Memory no longer available, by number of living instances", description="; ".join(said),
    )  # fmt: skip


def _prediction(axes: Axes, row: DensityRow) -> None:
    if row.margin_bytes is None or row.first_bytes is None:
        return
    ends = (0.0, float(row.reached))
    axes.plot(ends, [row.first_bytes + row.margin_bytes * n for n in ends], color=svg.INK, linewidth=1.0, dashes=(4, 3))
    axes.axvspan(row.readings[0], row.readings[-1], color=svg.BAND, alpha=0.45, linewidth=0, zorder=0)
    if row.knee is not None:
        mark(axes, row.knee)


def starts(report: Report, table: pd.DataFrame, *, width: float, name: str) -> str:
    """Seconds to ready of every start against the number of living instances."""
    labels, knees = set(table["subject"]), curve_charts.knees(report, curves.READY)
    look, cells = looks(report.subjects), []
    for subject in (s for group in ordered(report.subjects) for s in group if s.label in labels):
        mine = table[table["subject"] == subject.label]
        median = subject.figure(curves.READY).median
        cells.append(
            Cell(
                label=subject.label,
                look=look[subject.label],
                number="no figure" if median is None else show(median, "seconds"),
                rest="" if median is None else "median",
                x=[float(n) for n in mine["n"]],
                y=[float(value) for value in mine["value"]],
            )
        )

    def draw(axes: Axes, cell: Cell) -> None:
        dots(axes, cell.look, cell.x, cell.y, "start")
        if cell.label in knees:
            mark(axes, knees[cell.label])

    return small_multiples(
        cells, draw, across=ALIVE, upward="until ready", unit="seconds", width=width, name=name,
        title="Ready, by number of living instances",
        description="Every start, in the order of the ramp. A rise means that living instances slow starts down.",
    )  # fmt: skip
