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
from tare.reports.analysis.figures import Figure, SubjectFigures
from tare.reports.analysis.model import Report
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import marks, numbers, svg
from tare.reports.charts.axes import linear_axis, log_axis, log_limits
from tare.reports.charts.looks import Look, looks
from tare.reports.charts.multiples import Cell, small_multiples
from tare.reports.charts.svg import Draw

EMULATED_ROW = "software-emulated (TCG): another class of result"

#: Below this width a row's label and value stand above it, not beside it.
_BESIDE = 600
#: The axis of the order of the run reaches so many per cent to both sides at least.
_LEAST_OFF = (-10.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where things stand, in points of the viewBox."""

    width: float
    row: float
    header: float
    left: float
    right: float
    bottom: float = 48.0

    @classmethod
    def of(cls, width: float) -> Layout:
        """Label and value beside the row where there is room, above it where there is not."""
        if width >= _BESIDE:
            return cls(width=width, row=52, header=0, left=176, right=176)
        return cls(width=width, row=78, header=42, left=2, right=10)

    @property
    def beside(self) -> bool:
        """Whether labels stand beside the rows."""
        return self.header == 0


def dots(analysed: Analysed, metric: str, *, linear: bool = False) -> Draw:
    """:func:`distribution` of a run, to be drawn at any width."""
    return lambda width, name: distribution(
        analysed.report, analysed.frame, metric, width=width, name=name, linear=linear
    )


def shaped(analysed: Analysed, metric: str) -> bool:
    """Whether there are too many starts for a dot each."""
    counts = [subject.figure(metric).n for subject in analysed.report.subjects]
    return not marks.few(max(counts, default=0), sum(count > 0 for count in counts))


def drift(analysed: Analysed, metric: str) -> Draw:
    """:func:`in_order` of a run, to be drawn at any width."""
    return lambda width, name: in_order(analysed.report, analysed.frame, metric, width=width, name=name)


def distribution(
    report: Report, frame: pd.DataFrame, metric: str, *, width: float, name: str, linear: bool = False
) -> str:
    """Every sample of *metric* as one dot, with median and interval. Empty when nothing was measured.

    The scale is logarithmic, or from zero where *linear*.
    """
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
        look = looks(report.subjects)
        axes, canvas = _canvas(layout, height=len(rows) * layout.row + gap)
        scale = "linear scale" if linear else "logarithmic scale"
        axes.set_xlabel(f"{words.axis(metric, rows[0][2].title)}, {scale}", loc="right", fontsize=svg.TEXT, labelpad=5)
        points = layout.width - layout.left - layout.right
        if linear:
            linear_axis(axes, max(drawn), rows[0][2].unit, points)
        else:
            log_axis(axes, log_limits(drawn), rows[0][2].unit, points)
        top = 0.0
        for index, (subject, data, figure) in enumerate(rows):
            emulated = subject.result_class == "emulated"
            with numbers.about(axes, subject.label, emulated=emulated):
                if emulated and (index == 0 or rows[index - 1][0].result_class != "emulated"):
                    top = _emulated_heading(axes, top, gap, layout)
                _row_ground(axes, top, layout, hatched=emulated)
                _row_text(axes, top, layout, subject, figure, look[subject.label])
                _strip(axes, top, layout, look[subject.label], data, figure, dotted=marks.few(len(data), len(rows)))
            top += layout.row
        return svg.render(
            canvas,
            name=name,
            title=f"Every sample: {rows[0][2].title}",
            description=". ".join(f"{s.label}: {_said(f)}, {words.plural(len(d), 'start')}" for s, d, f in rows),
            columns=("what", "round", f"{rows[0][2].title} ({rows[0][2].unit})", "frequency (1: most)"),
        )


def in_order(report: Report, frame: pd.DataFrame, metric: str, *, width: float, name: str) -> str:
    """One small chart a subject: how far each start is off its median, in per cent, in the order of the run."""
    look, cells, rows = looks(report.subjects), [], {}
    for subject in (subject for group in ordered(report.subjects) for subject in group):
        data, figure = tables.values(frame, subject.label, metric), subject.figure(metric)
        if data.empty:
            continue
        middle = (figure.median if figure.median is not None else float(data["value"].iloc[0])) or 1.0
        rows[subject.label] = data.assign(off=100 * (data["value"] / middle - 1))
        cells.append(
            Cell(
                label=subject.label,
                look=look[subject.label],
                number="no figure" if figure.median is None else words.quantity(figure.median, figure.unit),
                rest="" if figure.median is None else "median",
                x=[1.0, float(report.contract.rounds)],
                # Noise of one per cent shall not fill the picture.
                y=[*rows[subject.label]["off"], *_LEAST_OFF],
            )
        )
    if not cells or frame["round"].nunique() < 2:
        return ""
    lost: dict[str, list[int]] = {}
    for failure in report.failures:
        if failure.kind == "measured":
            lost.setdefault(failure.subject, []).append(failure.round)

    figure = report.subjects[0].figure(metric)

    def draw(axes: Axes, cell: Cell) -> None:
        _drift(axes, cell, rows[cell.label], lost.get(cell.label, []), len(cells))

    def said(what: str, round_: float, off: float, value: float | None) -> str:
        size = "" if value is None else f": {words.quantity(value, figure.unit)}, {off:+.1f} % off the median"
        return f"{what} of round {round_:g}{size}".replace("-", "−")

    return small_multiples(
        cells, draw, across="round", upward="off the median", unit="%", width=width, name=name,
        title=f"Start order: {figure.title} by round", more=figure.unit, said=said,
        description="One chart for each subject, in the order of the run. A slope or a step is a drift.",
    )  # fmt: skip


def _drift(axes: Axes, cell: Cell, data: pd.DataFrame, lost: list[int], rows: int) -> None:
    """The values of one subject by round; where they are too many, the median and the ends of some rounds each."""
    axes.axhline(0, color=svg.MUTED, linewidth=0.8)
    if marks.few(len(data), rows):
        few = len(data) <= 40
        axes.plot(data["round"], data["off"], color=cell.look.colour, linewidth=0.8, alpha=0.5)
        found = axes.scatter(
            data["round"], data["off"], s=20 if few else 6, marker=cell.look.marker, color=cell.look.face,
            edgecolors=cell.look.colour, linewidths=0.9 if few else 0.5, zorder=3,
        )  # fmt: skip
        numbers.tell(found, [("start", *row) for row in zip(data["round"], data["off"], data["value"], strict=True)])
        _ring(axes, data["round"], data["off"], data["outlier"])
    else:
        some = marks.binned(data["round"].to_numpy(dtype="float64"), data["off"].to_numpy(), rows)
        band = axes.fill_between(some.at, some.least, some.most, color=cell.look.colour, alpha=0.25, linewidth=0)
        axes.plot(some.at, some.middle, color=cell.look.colour, linewidth=1.0)
        each = (("least of some", some.least), ("median of some", some.middle), ("most of some", some.most))
        told = [(what, at, off, None) for what, offs in each for at, off in zip(some.at, offs, strict=True)]
        numbers.tell(band, told, marked=False)
    lost = lost[:: 1 + len(lost) * rows // marks.MOST]
    axes.scatter(lost, [min(cell.y)] * len(lost), marker="x", s=32, color=svg.INK, linewidths=1.2, zorder=4)


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
    axes.text(x, top + gap - 8, text, transform=place, fontsize=svg.TEXT, color=svg.MUTED, va="baseline")
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


def _row_text(axes: Axes, top: float, layout: Layout, subject: SubjectFigures, figure: Figure, look: Look) -> None:
    inner = layout.width - layout.left - layout.right
    place = axes.get_yaxis_transform()
    left, right = -layout.left / inner, 1 + layout.right / inner
    name = svg.pieces(
        (look.colour, f"{look.glyph} "), ("strong", svg.name_of(subject.label, 15 if layout.beside else 21))
    )
    counts = subject.counts
    starts = f"{counts.ready} of {counts.started} ready"
    value = "no figure" if figure.median is None else words.quantity(figure.median, figure.unit)
    between = words.interval(figure.low, figure.high, figure.unit)
    first, second = (top + layout.row / 2 - 4, top + layout.row / 2 + 14) if layout.beside else (top + 18, top + 36)
    if figure.median is None:
        between = svg.plain(words.brief(figure), 24 if layout.beside else 34)
    for x, align, upper, lower in ((left, "left", name, starts), (right, "right", value, between)):
        axes.text(x, first, upper, transform=place, ha=align, va="baseline", fontweight="bold", color=svg.INK)
        axes.text(x, second, lower, transform=place, ha=align, va="baseline", fontsize=svg.TEXT, color=svg.MUTED)


def _strip(
    axes: Axes,
    top: float,
    layout: Layout,
    look: Look,
    data: pd.DataFrame,
    figure: Figure,
    *,
    dotted: bool,
) -> None:
    """One row. A dot's height within it is its round: first round on top, so that drift is a slant.

    Where there are too many for dots, a shape is as high as values are frequent, and the farthest are dots as ever.
    """
    data = data[data["value"] > 0]
    colour, hollow = look.colour, look.emulated
    upper, lower = top + layout.header + 9, top + layout.row - 9
    ranks = data["round"].rank(method="dense") - 1
    y = upper + (lower - upper) * ranks / max(1.0, ranks.max()) if len(data) > 1 else ranks + (upper + lower) / 2
    if not dotted:
        shape = marks.density(data["value"].to_numpy())
        middle, half = (upper + lower) / 2, (lower - upper) / 2
        x, height = np.repeat(shape.edges, 2)[1:-1], np.repeat(shape.height, 2) * half
        bulk = axes.fill_between(x, middle - height, middle + height, color=colour, alpha=0.6, linewidth=0, zorder=3)
        steps = zip(shape.edges[:-1], shape.edges[1:], shape.height, strict=True)
        numbers.tell(bulk, [("shape", None, (a * b) ** 0.5, high, "") for a, b, high in steps], marked=False)
        far = marks.ends(data["value"].to_numpy())
        data, y = data.iloc[far], y.iloc[far]
    size = 26 if len(data) <= 40 else 14 if len(data) <= 200 else 7
    ghost = figure.median is None
    stroke = 1.0 if size > 20 else 0.5
    found = axes.scatter(
        data["value"],
        y,
        s=size,
        marker=look.marker,
        color="none" if ghost else look.face,
        edgecolors=colour,
        linewidths=stroke if hollow or ghost else 0.0,
        alpha=0.9 if hollow else 0.6,
        zorder=3,
    )
    numbers.tell(found, _starts(data, figure.unit))
    _ring(axes, data["value"], y, data["outlier"])
    if figure.median is None or figure.median <= 0:
        return
    if figure.low is not None and figure.high is not None and figure.low > 0:
        tall = (upper - 4, lower + 4)
        between = axes.fill_betweenx(tall, figure.low, figure.high, color=colour, alpha=0.22, linewidth=0, zorder=2)
        ends = (("95 % interval, low", figure.low), ("95 % interval, high", figure.high))
        numbers.tell(between, [(what, None, end, None, "") for what, end in ends], marked=False)
    # Beneath the dots, and longer than the strip: every sample stays visible.
    (middle_line,) = axes.plot(
        (figure.median, figure.median), (upper - 6, lower + 6), color=svg.INK, linewidth=1.2, zorder=2.5
    )

    numbers.tell(middle_line, [("median", None, figure.median, None, f"{_said(figure)}{_between(figure)}")])


def _starts(data: pd.DataFrame, unit: str) -> list[numbers.Row]:
    """What is told of each dot."""
    rows = zip(data["round"], data["value"], data["outlier"], strict=True)
    return [
        ("outlier" if far else "start", n, value, None,
         f"{words.quantity(value, unit)}, round {n}{', an outlier' if far else ''}")
        for n, value, far in rows
    ]  # fmt: skip


def _between(figure: Figure) -> str:
    return "" if figure.low is None else f", 95 % CI {words.interval(figure.low, figure.high, figure.unit)}"


def _ring(axes: Axes, x: pd.Series, y: pd.Series, flags: pd.Series) -> None:
    axes.scatter(x[flags], y[flags], s=70, facecolors="none", edgecolors=svg.INK, linewidths=0.9, zorder=5)


def _said(figure: Figure) -> str:
    return figure.why or f"median {words.quantity(figure.median, figure.unit)}"
