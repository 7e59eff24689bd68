"""Charts of ramps as inline SVG: what the memory that instances took consists of.

Numbers that are drawn are readings, or stand in the :class:`Report`. Parts are stacked in one order, and named in the
page's legend and, where there is room, in the bar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.model import Report
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import numbers, svg
from tare.reports.charts.axes import factor
from tare.reports.charts.distribution import EMULATED_ROW
from tare.reports.charts.looks import Look, looks
from tare.reports.charts.multiples import SHARED
from tare.reports.sections.ramp.memory import ledger
from tare.reports.sections.ramp.memory.model import LedgerRow

#: Group of parts -> (colour, CSS variable, words of the legend), in the order in which they are stacked.
GROUPS: Mapping[str, tuple[str, str, str]] = {
    "payload": (svg.PAYLOAD, "--payload", "the payload's own memory"),
    "guest": (svg.GUEST, "--guest", "guest memory: a kernel of its own, and the payload"),
    "helper": (svg.HELPER, "--helper", "programs that run the instance: monitor, emulator, helper"),
    "cache": (svg.CACHE, "--cache", "page cache and shared memory"),
    "slab": (svg.SLAB, "--slab", "host kernel: slab"),
    "tables": (svg.TABLES, "--tables", "host kernel: page tables"),
    "stacks": (svg.STACKS, "--stacks", "host kernel: stacks, per-processor data, vmalloc"),
    "rests": (svg.RESTS, "--rests", "partly unmapped huge pages: given back, but not free yet"),
    "others": (svg.OTHERS, "--others", "other processes of this host"),
    "residual": (svg.INK, "", "residual: not explained"),
}
#: Group of parts -> (hatch of matplotlib, class of its swatch): where lightness alone would not tell it in grey.
PATTERNS: Mapping[str, tuple[str, str]] = {
    "cache": ("...", "dots"), "tables": ("////", "lines"), "rests": ("xxx", "net"), "residual": ("xxxx", "crossed"),
}  # fmt: skip
_GROUP_OF = {
    "page_cache": "cache", "shared_memory": "cache", "slab_reclaimable": "slab", "slab_unreclaimable": "slab",
    "page_tables": "tables", "kernel_stacks": "stacks", "percpu": "stacks", "vmalloc": "stacks", "huge_pages": "others",
    ledger.PARTLY_UNMAPPED: "rests",
    f"{ledger.ANONYMOUS}payload": "payload", ledger.OTHERS: "others",
}  # fmt: skip
_BESIDE = 600
_ROW, _BAR, _AXIS = 52.0, 22.0, 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: a row of the ledger, and how it is called."""

    label: str
    below: str
    row: LedgerRow
    look: Look

    @property
    def emulated(self) -> bool:
        """Whether its subject is a software-emulated machine."""
        return self.look.emulated

    @property
    def groups(self) -> dict[str, float]:
        """Bytes by group, residual included."""
        return grouped(self.row.parts, guest=self.row.guest_ram_bytes, residual=self.row.residual_bytes)

    @property
    def reach(self) -> float:
        """The longer of what is stacked above zero and the total."""
        return max(sum(value for value in self.groups.values() if value > 0), self.row.host_change_bytes)


def grouped(parts: Mapping[str, float], *, guest: float, residual: float) -> dict[str, float]:
    """Bytes by group; guest memory is taken out of the part that it lies within."""
    found = dict.fromkeys(GROUPS, 0.0)
    for part, value in parts.items():
        found[_GROUP_OF.get(part, "helper")] += value
    found["guest"] = guest
    found["helper" if guest <= found["helper"] else "cache"] -= guest
    found["residual"] = residual
    return found


def part(name: str, place: tuple[float, float], wide: float, high: float, *, edge: float) -> Rectangle:
    """The box of a group of parts: its colour, and its pattern if it has one. What is not explained has no colour."""
    colour, hatch = GROUPS[name][0], PATTERNS.get(name, (None, ""))[0]
    face, line = (svg.PAPER, colour) if name == "residual" else (colour, svg.PAPER)
    return Rectangle(place, wide, high, facecolor=face, edgecolor=line, hatch=hatch, linewidth=edge)


def at_most(report: Report) -> list[Bar]:
    """One bar for each subject, at its largest number."""
    found, look = [], looks(report.subjects)
    for group in ordered(report.subjects):
        for subject in group:
            row = ledger.largest(report.analysis.ledger, subject.label)
            if row is not None:
                below = f"{row.n} alive"
                found.append(Bar(label=subject.label, below=below, row=row, look=look[subject.label]))
    return found


def keys(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """(CSS variable, words, class of the swatch) of groups."""
    return [(*GROUPS[name][1:], PATTERNS.get(name, ("", ""))[1]) for name in names]


def legend(bars: Sequence[Bar]) -> list[tuple[str, str, str]]:
    """The keys of the groups that *bars* show."""
    used = [name for name in GROUPS if any(abs(bar.groups[name]) > 0.001 * bar.reach for bar in bars)]
    return keys(used)


def balance(bars: Sequence[Bar], *, width: float, name: str, title: str) -> str:
    """Stacked bars; those whose totals differ much stand on scales of their own. Empty without bars."""
    if not bars:
        return ""
    panels = _panels(bars)
    beside = width >= _BESIDE
    row = _ROW if beside else _ROW + 24
    left, right = (186.0, 128.0) if beside else (2.0, 10.0)
    heads = [26.0 if panel[0].emulated else 8.0 for panel in panels]
    height = sum(len(panel) * row + _AXIS + head for panel, head in zip(panels, heads, strict=True))
    with svg.drawing(name):
        canvas = Canvas(figsize=(width / 72, height / 72), dpi=72, facecolor="none")
        top = 0.0
        for place, (panel, head) in enumerate(zip(panels, heads, strict=True)):
            tall = len(panel) * row
            box = (left / width, 1 - (top + head + tall) / height, (width - left - right) / width, tall / height)
            axes = canvas.add_axes(box)
            numbers.belong(axes, "", emulated=panel[0].emulated)
            _panel(axes, panel, row, beside=beside, points=width - left - right, left=left, right=right)
            letter = f", scale {ascii_uppercase[place % 26]}" if len(panels) > 1 else ""
            axes.set_xlabel(f"host memory{letter}", loc="right", fontsize=svg.TEXT, labelpad=4)
            top += head + tall + _AXIS
        return svg.render(
            canvas,
            name=name,
            title=title,
            description=". ".join(f"{bar.label}, {bar.below}: {_spoken(bar)}" for bar in bars),
            columns=("part", "host memory (bytes)"),
        )


def _panels(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Bars that can share a scale, native ones first; within a panel in the order given."""
    panels: list[list[Bar]] = []
    for emulated in (False, True):
        mine = [bar for bar in bars if bar.emulated is emulated]
        groups: list[list[Bar]] = []
        for bar in sorted(mine, key=lambda bar: bar.reach):
            if groups and bar.reach <= SHARED * groups[-1][0].reach:
                groups[-1].append(bar)
            else:
                groups.append([bar])
        panels += [sorted(group, key=mine.index) for group in groups]
    return panels


def _panel(
    axes: Axes, panel: Sequence[Bar], row: float, *, beside: bool, points: float, left: float, right: float
) -> None:
    most = max(bar.reach for bar in panel) or 1.0
    least = min(sum(v for v in bar.groups.values() if v < 0) for bar in panel)
    axes.set(xlim=(least * 1.05, most * 1.01), ylim=(len(panel) * row, 0), facecolor="none")
    axes.set_yticks([])
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    widest = max(most, -least)
    size, suffix = factor(widest, "bytes"), show(widest, "bytes").rpartition(" ")[2]
    # At most one tick for each 80 points: a phone has room for three.
    locator = MaxNLocator(max(2, min(6, int(points / 80))))
    ticks = [tick for tick in locator.tick_values(least / size, most / size) if least <= tick * size <= most]
    axes.set_xticks([tick * size for tick in ticks])
    axes.set_xticklabels([f"{tick:.4g} {suffix}".replace("-", "−") if tick else "0" for tick in ticks])
    axes.tick_params(length=3, labelsize=svg.TEXT)
    low, high = axes.get_xlim()
    for label, tick in zip(axes.get_xticklabels(), ticks, strict=True):
        # A label at an end of the axis would stand outside the picture.
        place = (tick * size - low) / (high - low) * points
        label.set_horizontalalignment("left" if place < 20 else "right" if place > points - 26 else "center")
    if panel[0].emulated:
        x = -left / points
        axes.text(x, -8, EMULATED_ROW, transform=axes.get_yaxis_transform(), fontsize=svg.TEXT, color=svg.MUTED)
    for place, bar in enumerate(panel):
        with numbers.about(axes, bar.label, emulated=bar.emulated):
            _bar(axes, bar, place * row, row, beside=beside, points=points, left=left, right=right)


def _bar(
    axes: Axes, bar: Bar, top: float, row: float, *, beside: bool, points: float, left: float, right: float
) -> None:
    low, high = axes.get_xlim()
    y = top + row - _BAR - (14 if beside else 8)
    if bar.emulated:
        ground = Rectangle(
            (0, y - 5), 1, _BAR + 10, transform=axes.get_yaxis_transform(), facecolor="none", edgecolor=svg.BAND,
            hatch="////", linewidth=0, zorder=0,
        )  # fmt: skip
        axes.add_patch(ground)
    forward = backward = 0.0
    slight: list[numbers.Row] = []
    for name, value in bar.groups.items():
        start = forward if value >= 0 else backward + value
        told = (GROUPS[name][2], value, f"{GROUPS[name][2]}: {words.size(value)}")
        if abs(value) / (high - low) * points >= 0.4:
            numbers.tell(axes.add_patch(part(name, (start, y), abs(value), _BAR, edge=0.8)), [told])
        elif value:
            slight.append(told)
        wide = abs(value) / (high - low) * points
        if wide >= 74 and name != "residual":
            axes.text(
                start + abs(value) / 2,
                y + _BAR / 2,
                show(abs(value), "bytes"),
                ha="center",
                va="center",
                fontsize=svg.TEXT,
                color=svg.INK,
            )
        forward, backward = (forward + value, backward) if value >= 0 else (forward, backward + value)
    numbers.tell(axes.axvline(0, color=svg.RULE, linewidth=0.8, zorder=0), slight, marked=False)
    place = axes.get_yaxis_transform()
    # What may not be claimed is no number in bold.
    total = words.size(bar.row.host_change_bytes) if bar.row.balanced else "no claim"
    residual = f"residual {words.percent(bar.row.residual_fraction)}"
    name = svg.pieces((bar.look.colour, f"{bar.look.glyph} "), ("strong", svg.name_of(bar.label, 16 if beside else 22)))
    lines = ((y + 7, True), (y + 25, False)) if beside else ((top + 15, True), (top + 33, False))
    for x, align, upper, lower in (
        (-left / points, "left", name, bar.below),
        (1 + right / points, "right", total, residual),
    ):
        for (at, bold), text in zip(lines, (upper, lower), strict=True):
            axes.text(x, at, text, transform=place, ha=align, va="baseline", color=svg.INK if bold else svg.MUTED,
                      fontweight="bold" if bold else "normal", fontsize=None if bold else svg.TEXT)  # fmt: skip


def _spoken(bar: Bar) -> str:
    shown = sorted(bar.groups.items(), key=lambda one: -abs(one[1]))[:3]
    return f"{words.size(bar.row.host_change_bytes)}, most of it " + ", ".join(
        f"{GROUPS[name][2]} {words.size(value)}" for name, value in shown
    )
