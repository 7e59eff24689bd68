"""Charts of density and of money as inline SVG: prediction against reading, starts by number alive, bills by number."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.model import Report, SubjectFigures
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import svg
from tare.reports.cost.bills import idle_percent, money
from tare.reports.sections.ramp import ramps
from tare.reports.sections.ramp.charts import curve_charts
from tare.reports.sections.ramp.charts.growth_charts import dots, scale, small_multiples
from tare.reports.sections.ramp.density import curves
from tare.reports.sections.ramp.density.verification import CPU_RULE
from tare.reports.sections.ramp.memory_model import Cost, CostArm, DensityRow
from tare.reports.sections.ramp.sentences import interval

_SMALL = 10.5
_BESIDE = 600


def predicted(report: Report, taken: pd.DataFrame, *, width: float, name: str) -> str:
    """Memory no longer available against the number alive: readings, the prediction of the first fifth, the knee."""
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
        subjects, draw, width=width, name=name, title="Memory no longer available, by number alive",
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
    """Seconds to ready of every start against the number alive with it."""
    labels = set(table["subject"])
    subjects = [s for group in ordered(report.subjects) for s in group if s.label in labels]
    knees = curve_charts.knees(report, curves.READY)

    def draw(axes: Axes, subject: SubjectFigures) -> str:
        mine = table[table["subject"] == subject.label]
        dots(axes, subject, mine["n"].tolist(), mine["value"].tolist())
        scale(axes, mine["n"].tolist(), mine["value"].tolist(), "seconds")
        if subject.label in knees:
            axes.axvline(knees[subject.label], color=svg.INK, linewidth=0.9, dashes=(1, 2))
        return f"{show(float(mine['value'].median()), 'seconds')} in the middle"

    return small_multiples(
        subjects, draw, width=width, name=name, title="Ready, by number alive",
        description="Every start, in the order of the ramp; a rise is what the earlier ones cost the later.",
    )  # fmt: skip


def steps(cost: Cost, colours: Mapping[str, str], *, width: float, name: str) -> str:
    """The bill of an hour against the number of instances: the step that is paid, the line that is used."""
    if not cost.arms:
        return ""
    across = len(cost.arms) if width >= _BESIDE else 1
    down = -(-len(cost.arms) // across)
    cell_w, cell_h = width / across, 190.0
    shared = max(row.billed for arm in cost.arms[:2] for row in arm.rows)
    with svg.drawing(name):
        canvas = Canvas(figsize=(width / 72, down * cell_h / 72), dpi=72, facecolor="none")
        for index, arm in enumerate(cost.arms):
            line, column = divmod(index, across)
            left, bottom = (column * cell_w + 46) / width, 1 - ((line + 1) * cell_h - 26) / (down * cell_h)
            axes = canvas.add_axes((left, bottom, (cell_w - 62) / width, (cell_h - 70) / (down * cell_h)))
            top = shared if index < 2 else max(row.billed for row in arm.rows)
            _steps(axes, arm, cost, top, colours[arm.subject])
        return svg.render(
            canvas, name=name, title=f"The bill of an hour, {cost.title}", description=" ".join(cost.sentences)
        )


def _steps(axes: Axes, arm: CostArm, cost: Cost, top: float, colour: str) -> None:
    n = [row.n for row in arm.rows]
    billed, used = [row.billed for row in arm.rows], [row.used for row in arm.rows]
    axes.fill_between(n, used, billed, step="mid", color=colour, alpha=0.16, linewidth=0)
    axes.step(n, billed, where="mid", color=colour, linewidth=1.6)
    axes.plot(n, used, color=svg.INK, linewidth=1.0)
    if cost.breakeven is not None and arm is cost.arms[0]:
        axes.axvline(cost.breakeven, color=svg.INK, linewidth=0.9, dashes=(1, 2))
    axes.set(xlim=(0.5, max(n) + 0.5), ylim=(0, top * 1.06), facecolor="none")
    axes.set_yticks([tick for tick in MaxNLocator(3).tick_values(0, top) if 0 <= tick <= top * 1.05])
    axes.set_yticklabels([words.plain(tick) for tick in axes.get_yticks()])
    axes.set_xticks([1, *(tick for tick in (10, 20, 30, 40, 50) if tick <= max(n))])
    axes.tick_params(length=0, labelsize=_SMALL)
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    axes.grid(axis="y", color=svg.RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    mark = " (emulated)" if arm.emulated else ""
    last = arm.rows[-1]
    place = axes.transAxes
    title = f"{svg.plain(arm.title, 24)}{mark}"
    axes.text(0, 1.2, title, transform=place, fontsize=_SMALL + 0.5, fontweight="bold", color=svg.INK, va="bottom")
    below = f"{money(last.billed, cost.currency)} an hour for {last.n}, {idle_percent(last)} % idle"
    axes.text(0, 1.05, below, transform=place, fontsize=_SMALL, color=svg.MUTED, va="bottom")
