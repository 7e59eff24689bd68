"""The phase timeline as inline SVG: every subject from its request, and from its stop, on one log scale.

Positions and lengths are the medians of the report. A log axis has no zero: its left edge stands for the request.
"""

from __future__ import annotations

from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Rectangle

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.model import Phase, Report, SubjectFigures
from tare.reports.analysis.subjects import ordered
from tare.reports.charts import svg
from tare.reports.charts.axes import log_axis
from tare.reports.charts.distribution import EMULATED_ROW

Span = Literal["start", "stop"]

#: How strongly each phase is inked, from the first to the last.
SHADES = (0.35, 0.65, 1.0)
_ROW, _BAR, _BOTTOM = 62.0, 14.0, 28.0
_SHORT = {
    "requested to created": "created",
    "created to first instruction": "first",
    "first instruction to ready": "ready",
    "stop to stopped": "stopped",
    "stopped to removed": "removed",
}


def timeline(report: Report, span: Span, *, width: float, name: str) -> str:
    """One row a subject that has phases of *span*; empty when none has."""
    rows = [
        (subject, [phase for phase in subject.phases if phase.span == span])
        for group in ordered(report.subjects)
        for subject in group
    ]
    rows = [(subject, phases) for subject, phases in rows if any(phase.end > 0 for phase in phases)]
    ends = [phase.end for _, phases in rows for phase in phases if phase.end > 0]
    if not ends:
        return ""
    gap = 26.0 if any(subject.result_class == "emulated" for subject, _ in rows) else 0.0
    height = len(rows) * _ROW + gap
    with svg.drawing(name):
        total = height + _BOTTOM
        canvas = Canvas(figsize=(width / 72, total / 72), dpi=72, facecolor="none")
        axes = canvas.add_axes((1 / width, _BOTTOM / total, (width - 14) / width, height / total))
        axes.set(ylim=(height, 0), facecolor="none")
        axes.set_yticks([])
        for spine in ("top", "right"):
            axes.spines[spine].set_visible(False)
        left = min(ends) / 2.5
        log_axis(axes, (left, max(ends) * 1.15), "seconds", width - 14, zero=True)
        top = 0.0
        for index, (subject, phases) in enumerate(rows):
            if subject.result_class == "emulated" and (index == 0 or rows[index - 1][0].result_class != "emulated"):
                _text(axes, 0, top + gap - 6, EMULATED_ROW, muted=True)
                top += gap
            _row(axes, top, subject, phases, left, chars=int(width / 7))
            top += _ROW
        begin = "the request" if span == "start" else "the forced stop"
        return svg.render(
            canvas,
            name=name,
            title=f"Phases since {begin}",
            description=". ".join(f"{subject.label}: {_sum(phases)}" for subject, phases in rows),
        )


def _row(axes: Axes, top: float, subject: SubjectFigures, phases: list[Phase], left: float, *, chars: int) -> None:
    emulated = subject.result_class == "emulated"
    _text(axes, 0, top + 15, svg.plain(subject.label, 24), bold=True)
    _text(axes, 1, top + 15, f"{show(phases[-1].end, 'seconds')}", bold=True, align="right")
    y = top + 22
    colour = svg.colour(subject.runner, subject.layers)
    shades = SHADES if len(phases) > 2 else SHADES[::2]
    for phase, shade in zip(phases, shades, strict=False):
        start, end = max(phase.start, left), max(phase.end, left)
        if end <= start:
            continue  # a mark that was stamped after the next one: nothing to draw, the numbers are in the text
        axes.add_patch(
            Rectangle((start, y), end - start, _BAR, facecolor=colour, alpha=shade, edgecolor="none", linewidth=0)
        )
        if emulated:
            size = ((start, y), end - start, _BAR)
            axes.add_patch(Rectangle(*size, facecolor="none", edgecolor=svg.PAPER, hatch="////", linewidth=0))
    _text(axes, 0, y + _BAR + 14, svg.plain(_sum(phases), chars), muted=True)


def _sum(phases: list[Phase]) -> str:
    """``created 4.9 ms · first +0.9 ms · ready +0.07 ms``."""
    parts = []
    for phase in phases:
        plus = "+" if phase is not phases[0] and phase.duration > 0 else ""
        parts.append(f"{_SHORT[phase.name]} {plus}{words.phase(phase.duration)}")
    return " · ".join(parts)


def _text(
    axes: Axes, x: float, y: float, text: str, *, bold: bool = False, muted: bool = False, align: str = "left"
) -> None:
    axes.text(
        x,
        y,
        text,
        transform=axes.get_yaxis_transform(),
        va="baseline",
        ha=align,
        zorder=6,
        fontweight="bold" if bold else "normal",
        fontsize=10.5 if muted else 11.5,
        color=svg.MUTED if muted else svg.INK,
    )
