"""Charts of density as inline SVG: prediction against reading, starts by count."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.model import Report, SubjectFigures
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import svg
from tare.reports.sections.ramp import ramps
from tare.reports.sections.ramp.charts import curve_charts
from tare.reports.sections.ramp.charts.growth_charts import dots, scale, small_multiples
from tare.reports.sections.ramp.density import curves
from tare.reports.sections.ramp.density.model import DensityRow
from tare.reports.sections.ramp.density.verification import CPU_RULE
from tare.reports.sections.ramp.sentences import interval

_SMALL = 10.5
_BESIDE = 600


def predicted(report: Report, taken: pd.DataFrame, *, width: float, name: str) -> str:
    """Memory no longer available against the count: readings, the prediction of the first fifth, the knee."""
    rows: dict[str, list[DensityRow]] = {}
    for row in report.analysis.density:
        rows.setdefault(row.subject, []).append(row)
    subjects = [s for group in ordered(report.subjects) for s in group if s.label in rows]

    def draw(axes: Axes, subject: SubjectFigures) -> str:
        mine = rows[subject.label]
        x: list[float] = []
        y: list[float] = []
        for row in mine:
            used = ramps.one(taken, row.subject, row.round)["used"]
            x += [float(n) for n in used.index]
            y += [float(value) for value in used]
        dots(axes, subject, x, y)
        scale(axes, x, y, "bytes")
        for row in mine:
            _prediction(axes, row)
        off = _off(mine[0])
        return words.percent(off) if off is not None else "no prediction"

    said = [
        f"{row.subject}: {row.reached} reached, "
        f"{interval(row.memory_instances, row.memory_low, row.memory_high)} predicted by memory"
        for row in report.analysis.density
    ]
    return small_multiples(
        subjects, draw, width=width, name=name, title="Memory no longer available, by number of living instances",
        description="; ".join(said),
    )  # fmt: skip


def _off(row: DensityRow) -> float | None:
    """The error that belongs to a chart of memory: where processors ended the ramp, that of the memory taken."""
    if row.rule != CPU_RULE:
        return row.error_fraction
    return row.reached_bytes / row.predicted_bytes - 1 if row.predicted_bytes else None


def _prediction(axes: Axes, row: DensityRow) -> None:
    if row.margin_bytes is None or row.first_bytes is None:
        return
    ends = (0.0, float(row.reached))
    axes.plot(ends, [row.first_bytes + row.margin_bytes * n for n in ends], color=svg.INK, linewidth=1.0, dashes=(4, 3))
    axes.axvspan(row.readings[0], row.readings[-1], color=svg.BAND, alpha=0.45, linewidth=0, zorder=0)
    if row.knee is not None:
        axes.axvline(row.knee, color=svg.INK, linewidth=0.9, dashes=(1, 2))


def starts(report: Report, table: pd.DataFrame, *, width: float, name: str) -> str:
    """Seconds to ready of every start against the number of living instances."""
    labels = set(table["subject"])
    subjects = [s for group in ordered(report.subjects) for s in group if s.label in labels]
    knees = curve_charts.knees(report, curves.READY)

    def draw(axes: Axes, subject: SubjectFigures) -> str:
        mine = table[table["subject"] == subject.label]
        dots(axes, subject, mine["n"].tolist(), mine["value"].tolist())
        scale(axes, mine["n"].tolist(), mine["value"].tolist(), "seconds")
        if subject.label in knees:
            axes.axvline(knees[subject.label], color=svg.INK, linewidth=0.9, dashes=(1, 2))
        return f"median {show(float(mine['value'].median()), 'seconds')}"

    return small_multiples(
        subjects, draw, width=width, name=name, title="Ready, by number of living instances",
        description="Every start, in the order of the ramp. A rise means that living instances slow starts down.",
    )  # fmt: skip
