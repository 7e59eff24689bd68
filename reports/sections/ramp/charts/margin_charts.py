"""Of what one more instance consists, by count, as inline SVG: a stacked step from count to count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.model import Report, SubjectFigures
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import svg
from tare.reports.charts.axes import factor
from tare.reports.sections.ramp.charts.growth_charts import small_multiples
from tare.reports.sections.ramp.charts.memory_charts import GROUPS, grouped
from tare.reports.sections.ramp.memory.margins import APART
from tare.reports.sections.ramp.memory.model import Constancy, Margin

#: With fewer steps there is no curve to draw.
_LEAST_STEPS = 2
#: Labels on the axis of numbers stand apart by this factor at least.
_APART = 2.0


def shown(report: Report) -> list[SubjectFigures]:
    """The subjects that have a course to draw."""
    steps = [one.subject for one in report.analysis.margins]
    return [s for group in ordered(report.subjects) for s in group if steps.count(s.label) >= _LEAST_STEPS]


def legend(report: Report) -> list[tuple[str, str]]:
    """(CSS variable, words) of the groups that the charts show."""
    labels = {subject.label for subject in shown(report)}
    stacks = [_groups(one) for one in report.analysis.margins if one.subject in labels]
    used = [name for name in GROUPS if any(abs(s[name]) > 0.005 * max(map(abs, s.values())) for s in stacks)]
    return [GROUPS[name][1:] for name in used]


def course(report: Report, *, width: float, name: str) -> str:
    """One chart a subject: bytes an instance, part on part, and the margins before and after the split as lines."""
    same = {one.subject: one for one in report.analysis.constancy}

    def draw(axes: Axes, subject: SubjectFigures) -> str:
        mine = [one for one in report.analysis.margins if one.subject == subject.label]
        _stack(axes, mine)
        found = same.get(subject.label)
        if found is None:
            return f"{words.size(mine[-1].kept_bytes)} each at the end"
        _ends(axes, found)
        return f"{words.size(found.early_bytes)} up to {found.split} alive, then {words.size(found.late_bytes)}"

    return small_multiples(
        shown(report), draw, width=width, name=name,
        title="The parts of one more instance, by number of living instances",
        description=" ".join(f"{one.consists} {one.stays}" for one in report.analysis.constancy), large=True,
    )  # fmt: skip


def _groups(one: Margin) -> dict[str, float]:
    parts = {part: value for part, value in one.parts.items() if part not in APART}
    return grouped(parts, guest=one.guest_ram_bytes, residual=one.residual_bytes)


def _stack(axes: Axes, steps: Sequence[Margin]) -> None:
    highest, lowest = 0.0, 0.0
    for step in steps:
        up = down = 0.0
        for group, value in _groups(step).items():
            if not value:
                continue
            bottom = up if value > 0 else down + value
            _box(axes, step, group, bottom, abs(value))
            up, down = (up + value, down) if value > 0 else (up, down + value)
        highest, lowest = max(highest, up), min(lowest, down)
    axes.axhline(0, color=svg.RULE, linewidth=0.8)
    _axes(axes, [step.start for step in steps] + [steps[-1].end], lowest, highest or 1.0)


def _box(axes: Axes, step: Margin, group: str, bottom: float, height: float) -> None:
    place, wide = (step.start, bottom), step.end - step.start
    if group == "residual":
        box = Rectangle(place, wide, height, facecolor=svg.PAPER, edgecolor=svg.INK, hatch="xxxx", linewidth=0.4)
    else:
        box = Rectangle(place, wide, height, facecolor=GROUPS[group][0], edgecolor="none", linewidth=0)
    axes.add_patch(box)


def _ends(axes: Axes, found: Constancy) -> None:
    """The two marginal costs that are compared."""
    for start, end, value in (
        (found.start, found.split, found.early_bytes),
        (found.split, found.end, found.late_bytes),
    ):
        axes.plot((start, end), (value, value), color=svg.INK, linewidth=1.4)
    axes.axvline(found.split, color=svg.INK, linewidth=0.8, dashes=(1, 2))


def _axes(axes: Axes, numbers: Sequence[int], low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set(xlim=(numbers[0], numbers[-1]), ylim=(low * 1.05, high * 1.05), facecolor="none")
    size, suffix = factor(high, "bytes"), show(high, "bytes").rpartition(" ")[2]
    ticks = [tick for tick in MaxNLocator(4).tick_values(low / size, high / size) if low <= tick * size <= high]
    axes.set_yticks([tick * size for tick in ticks])
    axes.set_yticklabels([f"{tick:.4g} {suffix}".replace("-", "−") if tick else "0" for tick in ticks])
    labelled = _apart(numbers, numbers[-1] / numbers[0])
    axes.set_xticks(labelled)
    axes.set_xticklabels([f"{number}" for number in labelled])
    axes.xaxis.set_minor_locator(NullLocator())


def _apart(numbers: Iterable[int], span: float) -> list[int]:
    """Numbers far enough from each other to be labelled, the last among them."""
    least = max(_APART, span ** (1 / 8))
    found: list[int] = []
    for number in sorted(numbers, reverse=True):
        if not found or found[-1] / number >= least:
            found.append(number)
    return found[::-1]
