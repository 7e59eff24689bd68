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
from tare.reports.analysis.subjects import ordered

Span = Literal["start", "stop"]

#: What ends a phase -> its words in a legend, and its shade.
_START: dict[str, tuple[str, int]] = {
    "provisioned": ("until provisioned", 4),
    "created": ("until created", 1),
    "firmware": ("until the firmware hands over", 5),
    "kernel": ("until the kernel runs", 6),
    "initramfs": ("until the initramfs runs", 7),
    "init": ("to the first process of the root", 8),
    "first instruction": ("to the first instruction", 2),
    "ready": ("to ready", 3),
}
_STOP: dict[str, tuple[str, int]] = {"stopped": ("until no process runs", 1), "removed": ("until nothing is left", 3)}
_UNTIL: dict[Span, dict[str, tuple[str, int]]] = {"start": _START, "stop": _STOP}
#: The metric that is the whole of each span.
_WHOLE = {"start": "ready_seconds", "stop": "removed_seconds"}
#: The sum of the phases is said where it is off the whole by more.
_OFF = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One phase of a bar: its part of the width, how strongly it is inked, what is said of it; seconds."""

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
    there = {_end(phase) for subject in report.subjects for phase in subject.phases if phase.span == span}
    return tuple((shade, until) for end, (until, shade) in _UNTIL[span].items() if end in there)


def _timelines(report: Report, span: Span) -> Iterator[Timeline]:
    for subject in (one for group in ordered(report.subjects) for one in group):
        mine = [phase for phase in subject.phases if phase.span == span]
        whole = subject.figure(_WHOLE[span]).median
        if not any(phase.share for phase in mine) or whole is None:
            continue
        total = sum(max(0.0, phase.duration) for phase in mine)
        off = whole > 0 and abs(total / whole - 1) > _OFF
        yield Timeline(
            subject=subject,
            seconds=whole,
            whole=show(whole, "seconds"),
            pieces=tuple(_piece(phase) for phase in mine),
            note=f"The medians of the phases add up to {show(total, 'seconds')}." if off else "",
        )


def _end(phase: Phase) -> str:
    """What ends it."""
    return phase.name.rpartition(" to ")[2]


def _piece(phase: Phase) -> Piece:
    until, shade = _UNTIL[phase.span][_end(phase)]
    percent = "" if phase.duration <= 0 else "< 0.1 %" if phase.share < 0.0005 else words.share(phase.share)
    return Piece(
        name=phase.name,
        until=until,
        share=phase.share,
        shade=shade,
        seconds=phase.duration,
        duration=words.phase(phase.duration),
        percent=percent,
    )
