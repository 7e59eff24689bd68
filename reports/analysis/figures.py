"""The numbers of a report, as data: figures of subjects, what was refused of them, and comparisons.

Numbers are floats in the unit that stands in the metric's name, unrounded: rounding is for display only.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tare.bench.records.header import SubjectRecord
from tare.bench.stats.verdict import Verdict

#: ``emulated`` is a virtual machine under TCG: another class of result, never ranked with the others. ``user-mode`` is
#: one whose kernel is a program of the host (user-mode Linux): neither accelerated nor emulated.
Class = Literal["native", "accelerated", "user-mode", "emulated"]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all parts of a report: frozen, by keyword."""


class Mode(Part, frozen=True, kw_only=True):
    """One of several modes: its median, in the unit of the metric, and its share of the single starts."""

    value: float
    share: float


class Mover(Part, frozen=True, kw_only=True):
    """A process that is neither tare's nor an instance: by how much its memory moved, and how long it ran."""

    name: str
    pid: int
    memory_bytes: float
    cpu_seconds: float


class Refused(Part, frozen=True, kw_only=True):
    """Why a figure is no headline, with the figure: ``value`` in ``unit``, and ``low`` and ``high`` of its interval.

    ``reason``. ``spread``: half of the interval is larger than the figure. ``others``: the part of other processes of
    the host is, or half of it in a ledger that does not balance (``others``, in the same unit; the median over rounds,
    without its sign). ``waited``: for more than half
    of the time they had the processors that the run waited for (``waited``, a ratio). ``who`` are the processes that
    moved or ran most, ``rounds`` is how many rounds would do, None where more would not help. ``sentence`` says it all.
    """

    reason: Literal["spread", "others", "waited"]
    value: float
    unit: str
    low: float | None
    high: float | None
    spread: float | None
    others: float | None
    waited: float
    who: tuple[Mover, ...]
    rounds: int | None = None
    sentence: str


class Figure(Part, frozen=True, kw_only=True):
    """One metric of one subject.

    ``median``, ``low`` and ``high`` (95 % bootstrap interval of the median) rest on round medians, because the round
    is the unit of replication; ``p95``, ``p99``, ``n``, ``outliers`` and ``modes`` are of the single starts. All are
    None, and ``why`` says why, when there is no figure. ``modes`` is empty unless there are two or more
    (:mod:`bench.stats.modes`): then the median may be a value that never occurred. ``refused`` is there where the host
    spoilt the figure (:mod:`reports.analysis.noise`), and has its numbers.
    """

    metric: str
    unit: str
    title: str
    median: float | None = None
    low: float | None = None
    high: float | None = None
    p95: float | None = None
    p99: float | None = None
    n: int = 0
    rounds: int = 0
    outliers: int = 0
    modes: tuple[Mode, ...] = ()
    why: str = ""
    refused: Refused | None = None


class Phase(Part, frozen=True, kw_only=True):
    """One stretch of an instance's life. ``start`` and ``end`` are medians since the request (or since the stop).

    ``duration`` is the median of the differences within each start, so the parts need not add up to the whole.
    ``share`` is its part of the sum of the durations of its span: these add up to 1.
    """

    name: str
    span: Literal["start", "stop"]
    start: float
    end: float
    duration: float
    low: float | None
    high: float | None
    share: float = 0.0


class Counts(Part, frozen=True, kw_only=True):
    """Rule: failures are counted. ``started`` = ``ready`` + ``failed`` + ``timeout``, of measured trials only.

    ``invalid`` trials stayed invalid however often they were run again: they say nothing about the subject.
    """

    planned: int
    started: int
    ready: int
    failed: int
    timeout: int
    invalid: int = 0
    warmups: int
    warmups_failed: int


class SubjectFigures(SubjectRecord, frozen=True, kw_only=True):
    """One subject as it was run, how its starts ended, and its figures.

    ``kind`` is its layers as one word (:func:`runners.layers.kind`), for scripts from before there were layers.
    """

    kind: str
    result_class: Class
    counts: Counts
    figures: tuple[Figure, ...]
    phases: tuple[Phase, ...]

    def has(self, metric: str) -> bool:
        """Whether its run was asked for *metric*: there is a figure then, or the reason why there is none."""
        return any(figure.metric == metric for figure in self.figures)

    def figure(self, metric: str) -> Figure:
        """Its figure of *metric*, which its section names."""
        return next(figure for figure in self.figures if figure.metric == metric)


class Compared(Part, frozen=True, kw_only=True):
    """One metric of ``subject`` compared with ``reference``; ratio = subject / reference, over paired round medians.

    ``word`` is the verdict for a reader (faster, heavier, no difference shown), ``lead`` the sentence that claims it,
    ``detail`` what that rests on. ``threshold`` is the least change, as a fraction, that could have been called;
    ``emulated`` says that a side of it ran under TCG, ``refused`` that the host spoilt a side of it, or the ratio.
    """

    subject: str
    reference: str
    metric: str
    title: str
    unit: str
    why_compared: Literal["reference", "pair", "run"]
    verdict: Verdict
    word: str
    lead: str
    detail: str
    subject_median: float | None = None
    reference_median: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    rounds: int = 0
    threshold: float | None = None
    emulated: bool = False
    refused: Refused | None = None
