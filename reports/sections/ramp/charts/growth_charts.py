"""Small charts of ramps as inline SVG, one a subject: how memory, or anything, grows with the count."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.model import Report, SubjectFigures
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import marks, svg
from tare.reports.charts.axes import factor
from tare.reports.sections.ramp.memory import ledger
from tare.reports.sections.ramp.memory.model import MARGIN, CounterLine

#: Below this width two stand side by side, above it three or four.
_BESIDE = 600
#: So many small charts share the marks of a figure.
_CELLS = 4
_SMALL = 10.5
#: Fills the axes of one subject, and says what stands below its name.
Draw = Callable[[Axes, SubjectFigures], str]


def growth(report: Report, table: pd.DataFrame, *, width: float, name: str) -> str:
    """Host memory against the count: one chart a subject, every reading, and the line where it may be claimed.

    Empty without lines.
    """
    refused = {subject.label for subject in report.subjects if _no_claim(subject)}
    lines = {line.subject: line for line in report.analysis.fits if line.counter == ledger.HOST}
    subjects = [s for group in ordered(report.subjects) for s in group if s.label in lines]

    def draw(axes: Axes, subject: SubjectFigures) -> str:
        readings = table[ledger.HOST].xs(subject.label, level="subject").dropna()
        n = [float(number) for number in readings.index.get_level_values("n")]
        values = [float(value) for value in readings]
        line = lines[subject.label]
        dots(axes, subject, n, values)
        scale(axes, n, values, "bytes")
        if subject.label in refused:
            return "no claim"
        ends = (1.0, max(n))
        axes.plot(ends, [line.a + line.b * end for end in ends], color=svg.INK, linewidth=1.1, zorder=2)
        return f"+ {show(line.b, 'bytes')} each" if line.b > 0 else "no margin"

    return small_multiples(
        subjects, draw, width=width, name=name, title="Host memory, by number of living instances",
        description="; ".join(_said(lines[subject.label]) for subject in subjects if subject.label not in refused),
    )  # fmt: skip


def small_multiples(
    subjects: Sequence[SubjectFigures],
    draw: Draw,
    *,
    width: float,
    name: str,
    title: str,
    description: str,
    large: bool = False,
) -> str:
    """One small chart a subject; *draw* (axes, subject) fills it and returns what stands beside its name.

    *large* ones stand in two columns, or in one on a phone.
    """
    if not subjects:
        return ""
    most = 2 if width < _BESIDE else 4 if len(subjects) in (4, 7, 8) else 3
    most = (1 if width < _BESIDE else 2) if large else most
    columns = min(len(subjects), most)
    lines = -(-len(subjects) // columns)
    cell_w, cell_h = (width / columns, 220.0) if large else (min(width / columns, 360.0), 168.0)
    with svg.drawing(name):
        canvas = Canvas(figsize=(width / 72, lines * cell_h / 72), dpi=72, facecolor="none")
        for index, subject in enumerate(subjects):
            line, column = divmod(index, columns)
            left, bottom = (column * cell_w + 52) / width, 1 - ((line + 1) * cell_h - 26) / (lines * cell_h)
            box = (left, bottom, (cell_w - 70) / width, (cell_h - 70) / (lines * cell_h))
            axes = canvas.add_axes(box)
            beside = draw(axes, subject)
            _dress(axes, subject, beside)
        return svg.render(canvas, name=name, title=title, description=description)


def dots(axes: Axes, subject: SubjectFigures, x: Sequence[float], y: Sequence[float]) -> None:
    """Readings as dots, hollow where the machine is emulated; where they are too many, medians and ends of some."""
    hollow = subject.result_class == "emulated"
    colour = svg.colour(subject.runner, subject.layers)
    if not marks.few(len(x), _CELLS):
        some = marks.binned(np.asarray(x, dtype="float64"), np.asarray(y, dtype="float64"), _CELLS)
        axes.vlines(some.at, some.least, some.most, color=colour, linewidth=0.9, alpha=0.5, zorder=2.5)
        x, y = some.at.tolist(), some.middle.tolist()
    axes.scatter(
        x, y, s=15 if len(x) <= 100 else 4, color=svg.PAPER if hollow else colour,
        edgecolors=colour, linewidths=0.9 if len(x) <= 100 else 0.4, alpha=0.85, zorder=3,
    )  # fmt: skip


def scale(axes: Axes, x: Sequence[float], y: Sequence[float], unit: str) -> None:
    """Linear axes from zero, with a few labelled ticks."""
    top, low = max(*y, 0.0), min(*y, 0.0)
    top = top if top > low else 1.0
    axes.set(xlim=(0, max(x) * 1.05), ylim=(low - (top - low) * 0.04, top * 1.08), facecolor="none")
    largest = max(top, -low)
    suffix = show(largest, unit).rpartition(" ")[2]
    size = factor(largest, unit)
    ticks = [
        tick
        for tick in MaxNLocator(3).tick_values(low / size, top / size)
        if low <= tick * size <= top + largest * 0.05
    ]
    axes.set_yticks([tick * size for tick in ticks])
    axes.set_yticklabels([f"{tick:.4g} {suffix}".replace("-", "−") if tick else "0" for tick in ticks])
    numbers = [tick for tick in MaxNLocator(3, integer=True).tick_values(0, max(x)) if 0 < tick <= max(x)]
    axes.set_xticks(numbers)
    axes.set_xticklabels([f"{tick:.0f}" for tick in numbers])


def _no_claim(subject: SubjectFigures) -> bool:
    """Whether its margin is refused: see reports/sections/ramp/analysis.py."""
    return any(figure.metric == MARGIN.name and figure.why.startswith("no claim") for figure in subject.figures)


def _dress(axes: Axes, subject: SubjectFigures, beside: str) -> None:
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    if subject.result_class == "emulated":
        box = Rectangle(
            (0, 0), 1, 1, transform=axes.transAxes, facecolor="none", edgecolor=svg.BAND, hatch="////", lw=0
        )
        axes.add_patch(box)
        box.set_zorder(0)
    axes.tick_params(length=0, labelsize=_SMALL)
    axes.grid(axis="y", color=svg.RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    mark = " (emulated)" if subject.result_class == "emulated" else ""
    label = f"{svg.plain(subject.label, 20)}{mark}"
    for text, above, size, weight, colour in (
        (label, 21, _SMALL + 0.5, "bold", svg.INK),
        (beside, 6, _SMALL, "normal", svg.MUTED),
    ):
        axes.annotate(
            text, (0, 1), (0, above), xycoords="axes fraction", textcoords="offset points", va="bottom", ha="left",
            fontsize=size, fontweight=weight, color=colour, annotation_clip=False,
        )  # fmt: skip


def _said(line: CounterLine) -> str:
    return f"{line.subject}: {words.size(line.b)} each ({words.interval(line.b_low, line.b_high, 'bytes')})"
