"""Where the time of a start and of a stop goes: one bar a subject, in shares of its own time, that add up.

Phases are medians of durations, which need not add up to the median of the whole; so a bar shows shares of their sum
(:class:`reports.analysis.figures.Phase`), and the number beside it is the whole. Milliseconds and seconds stand below
each other without a logarithmic scale, on which lengths could not be added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.analysis.figures import Phase, SubjectFigures
from tare.reports.analysis.model import Report
from tare.reports.analysis.subjects import WHOLE, ordered

Span = Literal["start", "stop"]

#: Phase -> what ends it, for a legend.
_UNTIL = {
    "requested to created": "until created",
    "created to first instruction": "to the first instruction",
    "first instruction to ready": "to ready",
    WHOLE: "to ready",
    "stop to stopped": "until no process runs",
    "stopped to removed": "until nothing is left",
}
#: The metric that is the whole of each span, and the shades of the parts, from the first to the last.
_WHOLE = {"start": "ready_seconds", "stop": "removed_seconds"}
_SHADES: dict[Span, tuple[int, ...]] = {"start": (1, 2, 3, 3), "stop": (1, 3)}
#: The sum of the phases is said where it is off the whole by more.
_OFF = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One phase of a bar: its part of the width, how strongly it is inked (1 to 3), what is said of it; seconds."""

    name: str
    until: str
    share: float
    shade: int
    seconds: float
    duration: str
    percent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """One bar. ``whole`` is the one number beside it, of so many ``seconds``.

    ``note`` says it where the phases add up to another one.
    """

    subject: SubjectFigures
    seconds: float
    whole: str
    pieces: tuple[Piece, ...]
    note: str


def timelines(report: Report, span: Span) -> tuple[Timeline, ...]:
    """One bar a subject that has phases of *span*, emulated ones last."""
    return tuple(_timelines(report, span))


def legend(report: Report, span: Span) -> tuple[tuple[int, str], ...]:
    """(shade, words) of the phases of *span* that a subject of *report* has, from the first to the last."""
    there = {phase.name for subject in report.subjects for phase in subject.phases}
    told = ((shade, _UNTIL[name]) for name, shade in zip(_names(span), _SHADES[span], strict=True) if name in there)
    return tuple(dict.fromkeys(told))


def _timelines(report: Report, span: Span) -> Iterator[Timeline]:
    for subject in (one for group in ordered(report.subjects) for one in group):
        mine = [phase for phase in subject.phases if phase.span == span]
        whole = subject.figure(_WHOLE[span]).median
        if not any(phase.share for phase in mine) or whole is None:
            continue
        total = sum(max(0.0, phase.duration) for phase in mine)
        off = whole > 0 and abs(total / whole - 1) > _OFF
        shades = dict(zip(_names(span), _SHADES[span], strict=True))
        yield Timeline(
            subject=subject,
            seconds=whole,
            whole=show(whole, "seconds"),
            pieces=tuple(_piece(phase, shades[phase.name]) for phase in mine),
            note=f"The medians of the phases add up to {show(total, 'seconds')}." if off else "",
        )


def _names(span: Span) -> list[str]:
    return list(_UNTIL)[:4] if span == "start" else list(_UNTIL)[4:]


def _piece(phase: Phase, shade: int) -> Piece:
    percent = "" if phase.duration <= 0 else "< 0.1 %" if phase.share < 0.0005 else words.share(phase.share)
    return Piece(
        name=phase.name,
        until=_UNTIL[phase.name],
        share=phase.share,
        shade=shade,
        seconds=phase.duration,
        duration=words.phase(phase.duration),
        percent=percent,
    )
