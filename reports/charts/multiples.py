"""Small charts beside each other, one a subject: each says its name, its one number, its unit and its scale.

Charts whose values are of one size share a scale, so that heights can be compared; where not all can, each says which
scale it has by a letter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from string import ascii_uppercase

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.charts import marks, numbers, svg
from tare.reports.charts.axes import factor
from tare.reports.charts.looks import Look

#: Values that differ by more do not share a scale: the smaller ones could not be read.
SHARED = 8.0
#: Below this width two charts stand side by side, above it three or four.
BESIDE = 600
#: So many small charts share the marks of a figure.
CELLS = 4
#: Room of a cell in points: its name, its number and its unit above, the axis and its title below; gaps to the sides.
_ABOVE, _BELOW, _LEFT, _RIGHT = 64.0, 52.0, 46.0, 16.0
_PLOT, _LARGE_PLOT = 92.0, 150.0
#: Labels on a logarithmic axis of counts stand apart by this factor at least.
_APART = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One small chart. ``x`` and ``y`` are all values that it must hold.

    ``number`` is the one number that it shows, and ``rest`` the words after it. ``subject`` is whose it is, where the
    label is not its name.
    """

    label: str
    subject: str = ""
    look: Look
    number: str
    rest: str = ""
    x: Sequence[float]
    y: Sequence[float]

    @property
    def ends(self) -> tuple[float, float]:
        """Its lowest and its highest value, zero among them."""
        return min(*self.y, 0.0), max(*self.y, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What some cells have in common. ``letter`` is empty where all have."""

    letter: str
    x: tuple[float, float]
    y: tuple[float, float]


#: Fills the axes of one cell.
Draw = Callable[[Axes, Cell], None]


def scales(cells: Sequence[Cell], *, logarithmic: bool = False) -> list[Scale]:
    """The scale of each cell: shared by those whose values are of one size, along both axes."""
    groups: list[list[Cell]] = []
    for cell in sorted(cells, key=_reach):
        alike = (group for group in groups if _alike([*group, cell], logarithmic=logarithmic))
        if (group := next(alike, None)) is None:
            groups.append([cell])
        else:
            group.append(cell)
    groups.sort(key=lambda group: min(map(cells.index, group)))
    found = {}
    for letter, group in zip(_letters(len(groups)), groups, strict=True):
        x = [value for cell in group for value in cell.x]
        low, high = min(cell.ends[0] for cell in group), max(cell.ends[1] for cell in group)
        across = (min(x), max(x)) if logarithmic else (0.0, max(x))
        for cell in group:
            found[id(cell)] = Scale(letter=letter, x=across, y=(low, high if high > low else low + 1.0))
    return [found[id(cell)] for cell in cells]


def small_multiples(
    cells: Sequence[Cell],
    draw: Draw,
    *,
    across: str,
    upward: str,
    unit: str,
    width: float,
    name: str,
    title: str,
    description: str,
    large: bool = False,
    logarithmic: bool = False,
    more: str = "",
    said: Callable[..., str] | None = None,
) -> str:
    """The cells as one figure, each filled by *draw*. *across* and *upward* are the titles of the axes.

    What *draw* tells of its marks (:mod:`reports.charts.numbers`) are rows of what it is, x, y, and *more* if that
    has a name; *said* makes words of such a row.

    *unit* is that of what goes upward. *large* ones stand in two columns, or in one on a phone. *logarithmic*: the
    counts along x. Empty without cells.
    """
    if not cells:
        return ""
    narrow = width < BESIDE
    most = (1 if narrow else 2) if large else 2 if narrow else 4 if len(cells) in (4, 7, 8) else 3
    columns = min(len(cells), most)
    lines = -(-len(cells) // columns)
    cell_w = width / columns if large or narrow else min(width / columns, 360.0)
    plot = _LARGE_PLOT if large else _PLOT
    cell_h = _ABOVE + plot + _BELOW
    with svg.drawing(name):
        canvas = Canvas(figsize=(width / 72, lines * cell_h / 72), dpi=72, facecolor="none")
        for index, (cell, scale) in enumerate(zip(cells, scales(cells, logarithmic=logarithmic), strict=True)):
            line, column = divmod(index, columns)
            left, bottom = column * cell_w + _LEFT, (lines - line - 1) * cell_h + _BELOW
            inner = cell_w - _LEFT - _RIGHT
            axes = canvas.add_axes((left / width, bottom / (lines * cell_h), inner / width, plot / (lines * cell_h)))
            numbers.belong(axes, cell.subject or cell.label, emulated=cell.look.emulated)
            draw(axes, cell)
            numbers.say(axes, said or partial(_said, across=across, unit=unit))
            _limits(axes, cell, scale, unit, inner, logarithmic=logarithmic)
            above, aside = f"{upward}, {_unit(scale, unit)}", narrow and not large
            if aside:  # room for a name alone: what else there is to say stands with the unit
                above = f"{_unit(scale, unit)}{', emulated' if cell.look.emulated else ''}"
            _dress(axes, cell, above, across, chars=int((cell_w - 10) / 9.6), aside=aside)
        titles = ("what", across.partition(",")[0], f"{upward} ({unit})", *([more] if more else []))
        return svg.render(canvas, name=name, title=title, description=description, columns=titles)


def _said(what: str, x: float, y: float, *, across: str, unit: str) -> str:
    """``reading: 5.27 MiB (living instances: 50)``."""
    size = words.size(y) if unit == "bytes" else words.share(y) if unit == "ratio" else ""
    size = size or (show(y, unit) if unit == "seconds" else f"{words.plain(y)} {unit}")
    return f"{what}: {size} ({across.partition(',')[0]}: {x:g})"


def dots(axes: Axes, look: Look, x: Sequence[float], y: Sequence[float], what: str = "reading") -> None:
    """Readings as dots, hollow where the machine is emulated; where they are too many, medians and ends of some."""
    if not marks.few(len(x), CELLS):
        some = marks.binned(np.asarray(x, dtype="float64"), np.asarray(y, dtype="float64"), CELLS)
        ranges = axes.vlines(some.at, some.least, some.most, color=look.colour, linewidth=0.9, alpha=0.5, zorder=2.5)
        x, y = some.at.tolist(), some.middle.tolist()
        ends = (("least of some", some.least), ("most of some", some.most))
        numbers.tell(ranges, [(end, a, b) for end, ys in ends for a, b in zip(x, ys, strict=True)], marked=False)
        what = "median of some"
    few = len(x) <= 100
    found = axes.scatter(
        x, y, s=24 if few else 6, marker=look.marker, color=look.face, edgecolors=look.colour,
        linewidths=1.0 if few else 0.5, alpha=0.9, zorder=3,
    )  # fmt: skip
    numbers.tell(found, [(what, a, b) for a, b in zip(x, y, strict=True)])


def line(axes: Axes, look: Look, x: Sequence[float], y: Sequence[float], what: str = "reading") -> None:
    """A curve in the look of its subject."""
    (found,) = axes.plot(
        x, y, color=look.colour, linewidth=1.6, marker=look.marker, markersize=5, markerfacecolor=look.face,
        markeredgewidth=1.0,
    )  # fmt: skip
    numbers.tell(found, [(what, a, b) for a, b in zip(x, y, strict=True)])


def unseen(axes: Axes, x: Sequence[float], y: Sequence[float], what: str) -> None:
    """Marks that nobody sees, along a line that has none: a pointer finds its values there."""
    found = axes.scatter(x, y, s=20, color=svg.INK, alpha=0.0, linewidths=0)
    numbers.tell(found, [(what, a, b) for a, b in zip(x, y, strict=True)])


def mark(axes: Axes, n: float) -> None:
    """A dotted line at a count from which on something is otherwise."""
    axes.axvline(n, color=svg.INK, linewidth=0.9, dashes=(1, 2))


def _reach(cell: Cell) -> float:
    low, high = cell.ends
    return max(high, -low)


def _alike(cells: Sequence[Cell], *, logarithmic: bool) -> bool:
    """Whether these cells can share a scale."""
    # A logarithmic axis holds any counts.
    reaches = [[_reach(cell) for cell in cells], [] if logarithmic else [max(cell.x) for cell in cells]]
    return all(max(some, default=0.0) <= SHARED * min(some, default=0.0) for some in reaches)


def _letters(groups: int) -> list[str]:
    return [""] if groups == 1 else [ascii_uppercase[place % 26] * (1 + place // 26) for place in range(groups)]


def _limits(axes: Axes, cell: Cell, scale: Scale, unit: str, points: float, *, logarithmic: bool) -> None:
    low, high = scale.y
    size = _size(scale, unit)
    axes.set(ylim=(low - (high - low) * 0.04, high + (high - low) * 0.08), facecolor="none")
    ticks = [tick for tick in MaxNLocator(3).tick_values(low / size, high / size) if low <= tick * size <= high * 1.05]
    axes.set_yticks([tick * size for tick in ticks])
    axes.set_yticklabels([f"{tick:.4g}".replace("-", "−") if tick else "0" for tick in ticks])
    first, last = scale.x
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(first, last)
        numbers: Iterable[float] = _apart(cell.x, last / first)
    else:
        axes.set_xlim(-last * 0.02, last * 1.05)
        numbers = MaxNLocator(max(2, min(4, int(points / 50))), integer=True).tick_values(0, last)
    shown = [number for number in numbers if 0 < number <= last]
    axes.set_xticks(shown)
    axes.set_xticklabels([f"{number:.0f}" for number in shown])
    axes.xaxis.set_minor_locator(NullLocator())


def _apart(numbers: Iterable[float], span: float) -> list[float]:
    """Numbers far enough from each other to be labelled, the last among them."""
    least = max(_APART, span ** (1 / 7))
    found: list[float] = []
    for number in sorted(set(numbers), reverse=True):
        if not found or found[-1] / number >= least:
            found.append(number)
    return found[::-1]


def _size(scale: Scale, unit: str) -> float:
    low, high = scale.y
    return factor(max(high, -low), unit) if unit in ("bytes", "seconds", "ratio") else 1.0


def _unit(scale: Scale, unit: str) -> str:
    """``MiB``, and the letter of the scale where there are several."""
    low, high = scale.y
    shown = show(max(high, -low), unit).rpartition(" ")[2] if unit in ("bytes", "seconds", "ratio") else unit
    return f"{shown}, scale {scale.letter}" if scale.letter else shown


def _dress(axes: Axes, cell: Cell, upward: str, across: str, *, chars: int, aside: bool) -> None:
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    if cell.look.emulated:
        box = Rectangle(
            (0, 0), 1, 1, transform=axes.transAxes, facecolor="none", edgecolor=svg.BAND, hatch="////", lw=0
        )
        axes.add_patch(box)
        box.set_zorder(0)
    axes.tick_params(length=0, labelsize=svg.TEXT)
    axes.grid(axis="y", color=svg.RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    tail = " (emulated)" if cell.look.emulated and not aside else ""
    label = f"{svg.name_of(cell.label, max(6, chars - 2 - len(tail)))}{tail}"
    # On a phone: all of the words, or those up to the comma, or none; never half of one.
    fitting = (some for some in (cell.rest, cell.rest.partition(",")[0], "") if len(cell.number) + len(some) < chars)
    rest = next(fitting, "")
    for text, above, size in (
        (svg.pieces((cell.look.colour, f"{cell.look.glyph} "), ("strong", label)), 43, svg.STRONG),
        (svg.pieces(("strong", cell.number), ("muted", f" {rest}" if rest else "")), 25, svg.STRONG),
        (upward, 8, svg.TEXT),
    ):
        axes.annotate(
            text, (0, 1), (8 - _LEFT, above), xycoords="axes fraction", textcoords="offset points", va="baseline",
            ha="left", fontsize=size, color=svg.MUTED, annotation_clip=False,
        )  # fmt: skip
    axes.annotate(
        across, (1, 0), (0, -34), xycoords="axes fraction", textcoords="offset points", va="baseline", ha="right",
        fontsize=svg.TEXT, color=svg.MUTED, annotation_clip=False,
    )  # fmt: skip
