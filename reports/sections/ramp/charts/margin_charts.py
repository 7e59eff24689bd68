"""Of what one more instance consists, by count, as inline SVG: a stacked step from count to count."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from tare.reports import words
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Report
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import numbers, svg
from tare.reports.charts.looks import looks
from tare.reports.charts.multiples import Cell, mark, small_multiples
from tare.reports.sections.ramp.charts.growth_charts import ALIVE
from tare.reports.sections.ramp.charts.memory_charts import GROUPS, grouped, keys, part
from tare.reports.sections.ramp.memory.margins import APART
from tare.reports.sections.ramp.memory.model import Constancy, Margin

#: With fewer steps there is no curve to draw.
_LEAST_STEPS = 2


def shown(report: Report) -> list[SubjectFigures]:
    """The subjects that have a course to draw."""
    steps = [one.subject for one in report.analysis.margins]
    return [s for group in ordered(report.subjects) for s in group if steps.count(s.label) >= _LEAST_STEPS]


def legend(report: Report) -> list[tuple[str, str, str]]:
    """The keys of the groups that the charts show."""
    labels = {subject.label for subject in shown(report)}
    stacks = [_groups(one) for one in report.analysis.margins if one.subject in labels]
    used = [name for name in GROUPS if any(abs(s[name]) > 0.005 * max(map(abs, s.values())) for s in stacks)]
    return keys(used)


def course(report: Report, *, width: float, name: str) -> str:
    """One chart a subject: bytes an instance, part on part, and the margins before and after the split as lines."""
    same = {one.subject: one for one in report.analysis.constancy}
    look, cells = looks(report.subjects), []
    steps = {s.label: [one for one in report.analysis.margins if one.subject == s.label] for s in shown(report)}
    for label, mine in steps.items():
        found = same.get(label)
        refused = label in report.analysis.refused
        last = mine[-1].kept_bytes if found is None else found.late_bytes
        rest = "each at the end" if found is None else f"each from {found.split} alive on"
        ends = [sum(v for v in _groups(one).values() if sign * v > 0) for one in mine for sign in (1, -1)]
        cells.append(
            Cell(
                label=label,
                look=look[label],
                number="no claim" if refused else words.size(last),
                rest="" if refused else rest,
                x=[float(one.start) for one in mine] + [float(mine[-1].end)],
                y=ends,
            )
        )

    def draw(axes: Axes, cell: Cell) -> None:
        _stack(axes, steps[cell.label])
        if cell.label in same:
            _ends(axes, same[cell.label])

    return small_multiples(
        cells, draw, across=f"{ALIVE}, logarithmic scale", upward="host memory an instance", unit="bytes", width=width,
        name=name, title="The parts of one more instance, by number of living instances",
        description=" ".join(f"{one.consists} {one.stays}" for one in report.analysis.constancy), large=True,
        logarithmic=True, more="up to", said=_said,
    )  # fmt: skip


def _groups(one: Margin) -> dict[str, float]:
    parts = {part: value for part, value in one.parts.items() if part not in APART}
    return grouped(parts, guest=one.guest_ram_bytes, residual=one.residual_bytes)


def _stack(axes: Axes, steps: Sequence[Margin]) -> None:
    for step in steps:
        up = down = 0.0
        for group, value in _groups(step).items():
            if not value:
                continue
            bottom = up if value > 0 else down + value
            wide, edge = step.end - step.start, 0.4 if group == "residual" else 0.0
            box = axes.add_patch(part(group, (step.start, bottom), wide, abs(value), edge=edge))
            numbers.tell(box, [(GROUPS[group][2], step.start, value, step.end)])
            up, down = (up + value, down) if value > 0 else (up, down + value)
    axes.axhline(0, color=svg.RULE, linewidth=0.8)


def _said(what: str, start: float, value: float, end: float) -> str:
    return f"{what}: {words.size(value)} each, from {start:g} to {end:g} alive"


def _ends(axes: Axes, found: Constancy) -> None:
    """The two marginal costs that are compared."""
    for start, end, value in (
        (found.start, found.split, found.early_bytes),
        (found.split, found.end, found.late_bytes),
    ):
        (found_line,) = axes.plot((start, end), (value, value), color=svg.INK, linewidth=1.4)
        numbers.tell(found_line, [("marginal cost", start, value, end)])
    mark(axes, found.split)
