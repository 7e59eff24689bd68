"""Curves of the scale-up as inline SVG: how busy the host is, and what stands still, by count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes

from tare.reports import words
from tare.reports.analysis.model import Report
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import svg
from tare.reports.sections.ramp.charts.growth_charts import scale, small_multiples
from tare.reports.sections.ramp.density import curves
from tare.reports.sections.ramp.density.model import Curve

#: Metric -> (colour, CSS variable, dashed): what some wait for is solid, what stops all is dashed.
STYLES: Mapping[str, tuple[str, str, bool]] = {
    "pressure_cpu_some_ratio": (svg.HELPER, "--helper", False),
    "pressure_memory_some_ratio": (svg.VM, "--vm", False),
    "pressure_memory_full_ratio": (svg.VM, "--vm", True),
    "pressure_io_some_ratio": (svg.CONTAINER, "--container", False),
    "pressure_io_full_ratio": (svg.CONTAINER, "--container", True),
}
#: A curve that never passes this share is not drawn.
_SEEN = 0.001

_Draw = Callable[[Axes, Sequence[Curve]], str]


def busy(report: Report, *, width: float, name: str) -> str:
    """Processors busy while all idle: the whole host's share, and dashed, that of the instances where it was read."""

    colours = {subject.label: svg.colour(subject.runner, subject.layers) for subject in report.subjects}

    def draw(axes: Axes, mine: Sequence[Curve]) -> str:
        for curve in mine:
            own = curve.metric == curves.OWN
            _line(axes, curve, svg.INK if own else colours[curve.subject], dashed=own)
        _dress(axes, mine)
        last = {curve.metric: curve.points[-1] for curve in mine}
        whole = words.share(last[curves.BUSY].value)
        # Short: two charts stand side by side on a phone.
        if curves.OWN in last:
            return f"{whole}, own {words.share(last[curves.OWN].value)}"
        return f"{whole} with {last[curves.BUSY].n} alive"

    title = "Processors busy, by number of living instances"
    return _charts(report, (curves.BUSY, curves.OWN), draw, width=width, name=name, title=title)


def pressure(report: Report, *, width: float, name: str) -> str:
    """Shares of the window in which tasks stood still."""

    def draw(axes: Axes, mine: Sequence[Curve]) -> str:
        rising = [one for one in mine if max(point.value for point in one.points) >= _SEEN]
        for curve in rising:
            colour, _, dashed = STYLES[curve.metric]
            _line(axes, curve, colour, dashed=dashed)
        _dress(axes, mine)
        highest = max(point.value for one in mine for point in one.points)
        return f"at most {words.share(highest)}" if rising else "none"

    return _charts(
        report, curves.PRESSURES, draw, width=width, name=name, title="Pressure, by number of living instances"
    )


def legend(report: Report) -> list[tuple[str, str, bool]]:
    """(CSS variable, words, dashed) of the pressures that the charts draw."""
    drawn = {one.metric for one in report.analysis.curves if max(point.value for point in one.points) >= _SEEN}
    return [(STYLES[m][1], curves.TITLES[m], STYLES[m][2]) for m in curves.PRESSURES if m in drawn]


def knees(report: Report, metric: str) -> Mapping[str, int]:
    """Subject -> where its curve of *metric* leaves its beginning, for those that do."""
    return {one.subject: one.knee for one in report.analysis.curves if one.metric == metric and one.knee is not None}


def _charts(report: Report, metrics: Sequence[str], draw: _Draw, *, width: float, name: str, title: str) -> str:
    by_subject: dict[str, list[Curve]] = {}
    for curve in report.analysis.curves:
        if curve.metric in metrics:
            by_subject.setdefault(curve.subject, []).append(curve)
    subjects = [s for group in ordered(report.subjects) for s in group if s.label in by_subject]
    drawn = [one for some in by_subject.values() for one in some]
    said = (f"{c.subject}, {c.title}: {words.share(c.points[-1].value)} at {c.points[-1].n}" for c in drawn)
    return small_multiples(
        subjects, lambda axes, subject: draw(axes, by_subject[subject.label]), width=width, name=name,
        title=title, description="; ".join(said),
    )  # fmt: skip


def _line(axes: Axes, curve: Curve, colour: str, *, dashed: bool) -> None:
    x, y = [point.n for point in curve.points], [point.value for point in curve.points]
    style = (0, (4, 2)) if dashed else "solid"
    axes.plot(x, y, color=colour, linewidth=1.5, marker="o", markersize=3, linestyle=style)
    if curve.knee is not None:
        axes.axvline(curve.knee, color=svg.INK, linewidth=0.9, dashes=(1, 2))


def _dress(axes: Axes, mine: Sequence[Curve]) -> None:
    """Axes that show at least a tenth: noise must not fill the picture."""
    n = [float(point.n) for one in mine for point in one.points]
    most = max(point.value for one in mine for point in one.points)
    scale(axes, n, [0.0, max(most, 0.1)], "ratio")
