"""Charts as inline SVG. Every number drawn is a raw sample or stands in the :class:`Report`; none is computed here.

Colour says which kind of isolation a subject is, and never says it alone: every row bears its label. Software-emulated
subjects stand below the others, on a hatched ground, with hollow dots and the words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from tare.reports import words
from tare.reports.analysis import tables
from tare.reports.analysis.build import Analysed
from tare.reports.analysis.model import Figure, Report, SubjectFigures
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import marks, svg
from tare.reports.charts.axes import linear_ticks, log_axis, log_limits
from tare.reports.charts.svg import Draw

EMULATED_ROW = "software-emulated (TCG): another class of result"

#: Below this width a row's label and value stand above it, not beside it.
_BESIDE = 600
_SMALL = 10.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where things stand, in points of the viewBox."""

    width: float
    row: float
    header: float
    left: float
    right: float
    bottom: float = 28.0

    @classmethod
    def of(cls, width: float) -> Layout:
        """Label and value beside the row where there is room, above it where there is not."""
        if width >= _BESIDE:
            return cls(width=width, row=46, header=0, left=150, right=150)
        return cls(width=width, row=70, header=34, left=2, right=10)

    @property
    def beside(self) -> bool:
        """Whether labels stand beside the rows."""
        return self.header == 0


def dots(analysed: Analysed, metric: str) -> Draw:
    """:func:`distribution` of a run, to be drawn at any width."""
    return lambda width, name: distribution(analysed.report, analysed.frame, metric, width=width, name=name)


def shaped(analysed: Analysed, metric: str) -> bool:
    """Whether there are too many starts for a dot each."""
    counts = [subject.figure(metric).n for subject in analysed.report.subjects]
    return not marks.few(max(counts, default=0), sum(count > 0 for count in counts))


def drift(analysed: Analysed, metric: str) -> Draw:
    """:func:`in_order` of a run, to be drawn at any width."""
    return lambda width, name: in_order(analysed.report, analysed.frame, metric, width=width, name=name)


def distribution(report: Report, frame: pd.DataFrame, metric: str, *, width: float, name: str) -> str:
    """Every sample of *metric* as one dot, with median and interval; log scale. Empty when nothing was measured."""
    rows = [
        (subject, tables.values(frame, subject.label, metric), subject.figure(metric))
        for group in ordered(report.subjects)
        for subject in group
    ]
    rows = [(subject, data, figure) for subject, data, figure in rows if not data.empty or figure.why]
    drawn = [value for _, data, _ in rows for value in data["value"] if value > 0]
    if not drawn:
        return ""
    layout = Layout.of(width)
    gap = 26.0 if any(s.result_class == "emulated" for s, *_ in rows) else 0.0
    with svg.drawing(name):
        axes, canvas = _canvas(layout, height=len(rows) * layout.row + gap)
        log_axis(axes, log_limits(drawn), rows[0][2].unit, layout.width - layout.left - layout.right)
        top = 0.0
        for index, (subject, data, figure) in enumerate(rows):
            emulated = subject.result_class == "emulated"
            if emulated and (index == 0 or rows[index - 1][0].result_class != "emulated"):
                top = _emulated_heading(axes, top, gap, layout)
            _row_ground(axes, top, layout, hatched=emulated)
            _row_text(axes, top, layout, subject, figure)
            _strip(axes, top, layout, subject, data, figure, dotted=marks.few(len(data), len(rows)))
            top += layout.row
        return svg.render(
            canvas,
            name=name,
            title=f"Every sample: {rows[0][2].title}",
            description=". ".join(f"{s.label}: {_said(f)}, {words.plural(len(d), 'start')}" for s, d, f in rows),
        )


def in_order(report: Report, frame: pd.DataFrame, metric: str, *, width: float, name: str) -> str:
    """One small chart a subject: value by round, in the order of the run; a linear scale of its own each."""
    subjects = [
        (subject, tables.values(frame, subject.label, metric))
        for group in ordered(report.subjects)
        for subject in group
        if not tables.values(frame, subject.label, metric).empty
    ]
    if not subjects or frame["round"].nunique() < 2:
        return ""
    most = 2 if width < _BESIDE else 4 if len(subjects) in (4, 7, 8) else 3
    columns = min(len(subjects), most)
    lines = -(-len(subjects) // columns)
    cell_w, cell_h = width / columns, 132.0
    known = subjects[0][0].figure(metric)
    with svg.drawing(name):
        canvas = Canvas(figsize=(width / 72, lines * cell_h / 72), dpi=72, facecolor="none")
        for index, (subject, data) in enumerate(subjects):
            line, column = divmod(index, columns)
            left, bottom = (column * cell_w + 48) / width, 1 - ((line + 1) * cell_h - 24) / (lines * cell_h)
            box = (left, bottom, (cell_w - 62) / width, (cell_h - 50) / (lines * cell_h))
            _drift_cell(canvas.add_axes(box), report, subject, data, subject.figure(metric), len(subjects))
        return svg.render(
            canvas,
            name=name,
            title=f"Start order: {known.title} by round",
            description="One chart for each subject, in the order of the run. A slope or a step is a drift.",
        )


def _drift_cell(
    axes: Axes, report: Report, subject: SubjectFigures, data: pd.DataFrame, figure: Figure, rows: int
) -> None:
    """The values of one subject by round; where they are too many, the median and the ends of some rounds each."""
    colour, dotted = svg.colour(subject.runner, subject.layers), marks.few(len(data), rows)
    hollow = subject.result_class == "emulated"
    size = 16 if len(data) <= 40 else 5
    middle = figure.median if figure.median is not None else float(data["value"].iloc[0])
    # At least ten per cent to both sides: noise of one per cent shall not fill the picture.
    low, high = min(data["value"].min(), middle * 0.9), max(data["value"].max(), middle * 1.1)
    pad = (high - low) * 0.08
    axes.set(xlim=(0.4, report.contract.rounds + 0.6), ylim=(low - pad, high + pad), facecolor="none")
    if hollow:
        axes.add_patch(_hatched(0.4, low - pad, report.contract.rounds + 0.2, high - low + 2 * pad))
    if figure.median is not None:
        axes.axhline(figure.median, color=svg.MUTED, linewidth=0.8)
    if dotted:
        axes.plot(data["round"], data["value"], color=colour, linewidth=0.8, alpha=0.5)
        axes.scatter(
            data["round"],
            data["value"],
            s=size,
            linewidths=0.8 if size > 8 else 0.5,
            color=svg.PAPER if hollow else colour,
            edgecolors=colour,
            zorder=3,
        )
        _ring(axes, data["round"], data["value"], data["outlier"])
    else:
        some = marks.binned(data["round"].to_numpy(dtype="float64"), data["value"].to_numpy(), rows)
        axes.fill_between(some.at, some.least, some.most, color=colour, alpha=0.25, linewidth=0)
        axes.plot(some.at, some.middle, color=colour, linewidth=1.0)
    lost = [f.round for f in report.failures if f.subject == subject.label and f.kind == "measured"]
    lost = lost[:: 1 + len(lost) * rows // marks.MOST]
    axes.scatter(lost, [low] * len(lost), marker="x", s=28, color=svg.INK, linewidths=1.2, zorder=4)
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    linear_ticks(axes, (low, high), figure.unit)
    last = report.contract.rounds
    axes.set_xticks(sorted({1, last}))
    axes.set_xticklabels([f"round {number}" if number == 1 else str(number) for number in sorted({1, last})])
    axes.tick_params(length=0, labelsize=_SMALL)
    axes.grid(axis="y", color=svg.RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    title = f"{svg.plain(subject.label, 18)}{' (emulated)' if hollow else ''}"
    axes.set_title(title, loc="left", x=-0.0, fontsize=_SMALL + 0.5, fontweight="bold", color=svg.INK, pad=6)


def _canvas(layout: Layout, *, height: float) -> tuple[Axes, Canvas]:
    """Axes whose y is points from the top, and whose x is left to the caller."""
    total = height + layout.bottom
    canvas = Canvas(figsize=(layout.width / 72, total / 72), dpi=72, facecolor="none")
    inner = layout.width - layout.left - layout.right
    axes = canvas.add_axes((layout.left / layout.width, layout.bottom / total, inner / layout.width, height / total))
    axes.set(ylim=(height, 0), facecolor="none")
    axes.set_yticks([])
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    return axes, canvas


def _emulated_heading(axes: Axes, top: float, gap: float, layout: Layout) -> float:
    x = -layout.left / (layout.width - layout.left - layout.right)
    place = axes.get_yaxis_transform()
    text = EMULATED_ROW
    axes.text(x, top + gap - 8, text, transform=place, fontsize=_SMALL, color=svg.MUTED, va="baseline")
    return top + gap


def _row_ground(axes: Axes, top: float, layout: Layout, *, hatched: bool) -> None:
    height = layout.row - layout.header
    if hatched:
        box = _hatched(0, top + layout.header + 4, 1, height - 8)
        box.set_transform(axes.get_yaxis_transform())
        axes.add_patch(box)
    else:
        middle = top + layout.header + height / 2
        axes.axhline(middle, color=svg.RULE, linewidth=0.6, zorder=0)


def _hatched(x: float, y: float, width: float, height: float) -> Rectangle:
    return Rectangle((x, y), width, height, facecolor="none", edgecolor=svg.BAND, hatch="////", linewidth=0, zorder=0)


def _row_text(axes: Axes, top: float, layout: Layout, subject: SubjectFigures, figure: Figure) -> None:
    inner = layout.width - layout.left - layout.right
    place = axes.get_yaxis_transform()
    left, right = -layout.left / inner, 1 + layout.right / inner
    name = svg.plain(subject.label, 18 if layout.beside else 24)
    counts = subject.counts
    starts = f"{counts.ready} of {counts.started} ready"
    value = "no figure" if figure.median is None else words.quantity(figure.median, figure.unit)
    between = words.interval(figure.low, figure.high, figure.unit)
    first, second = (top + layout.row / 2 - 3, top + layout.row / 2 + 12) if layout.beside else (top + 16, top + 30)
    if figure.median is None:
        between = svg.plain(figure.why.removeprefix("no figure: "), 26 if layout.beside else 40)
    for x, align, upper, lower in ((left, "left", name, starts), (right, "right", value, between)):
        axes.text(x, first, upper, transform=place, ha=align, va="baseline", fontweight="bold", color=svg.INK)
        axes.text(x, second, lower, transform=place, ha=align, va="baseline", fontsize=_SMALL, color=svg.MUTED)


def _strip(
    axes: Axes,
    top: float,
    layout: Layout,
    subject: SubjectFigures,
    data: pd.DataFrame,
    figure: Figure,
    *,
    dotted: bool,
) -> None:
    """One row. A dot's height within it is its round: first round on top, so that drift is a slant.

    Where there are too many for dots, a shape is as high as values are frequent, and the farthest are dots as ever.
    """
    data = data[data["value"] > 0]
    colour, hollow = svg.colour(subject.runner, subject.layers), subject.result_class == "emulated"
    upper, lower = top + layout.header + 9, top + layout.row - 9
    ranks = data["round"].rank(method="dense") - 1
    y = upper + (lower - upper) * ranks / max(1.0, ranks.max()) if len(data) > 1 else ranks + (upper + lower) / 2
    if not dotted:
        shape = marks.density(data["value"].to_numpy())
        middle, half = (upper + lower) / 2, (lower - upper) / 2
        x, height = np.repeat(shape.edges, 2)[1:-1], np.repeat(shape.height, 2) * half
        axes.fill_between(x, middle - height, middle + height, color=colour, alpha=0.6, linewidth=0, zorder=3)
        far = marks.ends(data["value"].to_numpy())
        data, y = data.iloc[far], y.iloc[far]
    size = 22 if len(data) <= 40 else 12 if len(data) <= 200 else 7
    ghost = figure.median is None
    stroke = 1.0 if size > 20 else 0.5
    axes.scatter(
        data["value"],
        y,
        s=size,
        color="none" if ghost else svg.PAPER if hollow else colour,
        edgecolors=colour,
        linewidths=stroke if hollow or ghost else 0.0,
        alpha=0.9 if hollow else 0.6,
        zorder=3,
    )
    _ring(axes, data["value"], y, data["outlier"])
    if figure.median is None or figure.median <= 0:
        return
    if figure.low is not None and figure.high is not None and figure.low > 0:
        tall = (upper - 4, lower + 4)
        axes.fill_betweenx(tall, figure.low, figure.high, color=colour, alpha=0.22, linewidth=0, zorder=2)
    # Beneath the dots, and longer than the strip: every sample stays visible.
    axes.plot((figure.median, figure.median), (upper - 6, lower + 6), color=svg.INK, linewidth=1.2, zorder=2.5)


def _ring(axes: Axes, x: pd.Series, y: pd.Series, flags: pd.Series) -> None:
    axes.scatter(x[flags], y[flags], s=70, facecolors="none", edgecolors=svg.INK, linewidths=0.9, zorder=5)


def _said(figure: Figure) -> str:
    return figure.why or f"median {words.quantity(figure.median, figure.unit)}"
