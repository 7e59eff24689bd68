"""What a report says, as data: every figure, every sentence, and nothing that a renderer would have to compute.

``tare report RUN --json`` prints a :class:`Report`; the page and the terminal show the same one. Numbers are floats in
the unit that stands in the metric's name, unrounded: rounding is for display only.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from tare.bench.records.rows import Finding, Leak, Status, SubjectRecord, TrialKind
from tare.bench.stats.verdict import Verdict

#: Raised when a field of the JSON changes its meaning or goes away.
REPORT_SCHEMA = 1

#: ``emulated`` is a virtual machine under TCG: another class of result, never ranked with the others.
Class = Literal["native", "accelerated", "emulated"]


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
    the host is (``others``, in the same unit; the median over rounds, without its sign). ``waited``: for more than half
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


class Claim(Part, frozen=True, kw_only=True):
    """One sentence of the answer: ``lead`` is what is claimed, ``detail`` what it rests on.

    With ``refused`` nothing is claimed, since the host spoilt the figure: ``detail`` says how.
    """

    lead: str
    detail: str
    subject: str
    verdict: Verdict
    emulated: bool = False
    refused: Refused | None = None


class Bar(Part, frozen=True, kw_only=True):
    """One bar of the leading figure: ``value`` in the unit of the lead, ``shown`` as it is written beside the bar.

    ``value`` is None where there is no figure, and ``note`` says why; else ``note`` is what else must be known of it.
    ``low`` and ``high`` are the 95 % interval, None where there is none. ``family`` names its colour.
    """

    subject: str
    value: float | None
    shown: str
    low: float | None = None
    high: float | None = None
    note: str = ""
    family: str = "other"
    emulated: bool = False


class Lead(Part, frozen=True, kw_only=True):
    """The answer at first sight: one sentence in everyday words, what it rests on, and the one figure that shows it.

    ``title`` says what the bars are, in ``unit``; there are none where nothing was measured.
    """

    sentence: str
    grounds: str
    title: str = ""
    unit: str = ""
    bars: tuple[Bar, ...] = ()


class Counted(Part, frozen=True, kw_only=True):
    """One quantity of one subject by one definition; ``share`` of the largest number that any definition gives it."""

    subject: str
    value: float | None
    low: float | None = None
    high: float | None = None
    share: float = 0.0


class Definition(Part, frozen=True, kw_only=True):
    """One way to count a quantity. ``ours`` is the one that the report uses.

    Where the run did not measure it there are no ``numbers``, and ``command`` is what does.
    """

    name: str
    text: str
    ours: bool = False
    command: str = ""
    numbers: tuple[Counted, ...] = ()

    def of(self, subject: str) -> Counted | None:
        """The number of *subject*."""
        return next((number for number in self.numbers if number.subject == subject), None)


class OneQuantity(Part, frozen=True, kw_only=True):
    """One quantity, in ``unit``, by all definitions that are known of it, that of the report first."""

    quantity: str
    unit: str
    definitions: tuple[Definition, ...]


class Delay(Part, frozen=True, kw_only=True):
    """A known delay, measured: seconds asked for, seconds recovered (median of paired differences), and their gap."""

    subject: str
    without: str
    asked: float
    recovered: float
    low: float | None
    high: float | None
    bias: float
    spread: float
    rounds: int


class SamePair(Part, frozen=True, kw_only=True):
    """Two subjects that are the same thing. ``called`` lists the metrics on which a difference was called, falsely."""

    first: str
    second: str
    judged: int
    called: tuple[str, ...]


class Calibration(Part, frozen=True, kw_only=True):
    """How well the instrument measures. ``null_seconds`` is what it adds itself.

    Empty parts were not measured in this run.
    """

    resolution_seconds: float
    null_subject: str = ""
    null_seconds: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    delays: tuple[Delay, ...] = ()
    pairs: tuple[SamePair, ...] = ()
    judged: int = 0
    false_verdicts: int = 0
    sentences: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        """Whether this run holds anything that tests the instrument."""
        return bool(self.null_subject or self.delays or self.pairs)


class Failure(Part, frozen=True, kw_only=True):
    """One trial that did not end well, and where its console was kept."""

    trial: str
    subject: str
    kind: TrialKind
    round: int
    status: Status
    reason: str
    fix: str
    log: str


class Contract(Part, frozen=True, kw_only=True):
    """What every subject was held to; ``sentence`` says whether it was the same for all."""

    ready: str
    cache: str
    memory_bytes: tuple[int, ...]
    cpus: tuple[int, ...]
    argv: tuple[tuple[str, ...], ...]
    timeout_seconds: float
    rounds: int
    warmup: int
    seed: int
    sentence: str


class Precise(Part, frozen=True, kw_only=True):
    """Rounds until every interval was narrow: what was ``wanted`` of ``metric`` and ``reached``, both as a part of the
    median (0.05: 5 % either way), after how many ``rounds``, of at most ``max_rounds``.

    ``widest`` is the subject whose interval that is; ``reached`` is None where it has none. ``ended`` is that of
    :class:`bench.records.rows.Precision`, ``sentence`` says all of it.
    """

    metric: str
    wanted: float
    reached: float | None
    widest: str
    rounds: int
    max_rounds: int
    ended: str
    sentence: str


class HostFacts(Part, frozen=True, kw_only=True):
    """The machine, as it was before the first trial; only what a reader needs (no machine id)."""

    cpu_model: str
    cpus: int
    memory_bytes: int
    kernel: str
    cgroup_mode: str
    virtualization: str
    facts: dict[str, str]
    findings: tuple[Finding, ...]


class MergedRun(Part, frozen=True, kw_only=True):
    """One of the runs that a report was merged from; ``rounds`` are those that it ended."""

    run: str
    started_at: str
    finished_at: str
    state: str
    rounds: int
    seed: int


class Report(Part, frozen=True, kw_only=True):
    """Every figure of the report of one run. ``analysis`` is its section's: see :func:`document`.

    ``merged`` names the runs if it is of several, ``unlike`` what those differ in although they should not, and
    ``disagreements`` the subjects that one run shows otherwise than another.
    ``probe`` is the old name of ``experiment``: scripts may read it.
    """

    schema: int = REPORT_SCHEMA
    run: str
    name: str
    question: str
    state: str
    complete: bool
    status: str
    started_at: str
    finished_at: str
    tare_version: str
    git: str
    versions: dict[str, str]
    reference: str
    metric: str
    rounds_done: int
    experiment: str = "startup"
    probe: str = "startup"
    lead: Lead
    answer: tuple[Claim, ...]
    subjects: tuple[SubjectFigures, ...]
    comparisons: tuple[Compared, ...]
    calibration: Calibration
    failures: tuple[Failure, ...]
    leaks: tuple[Leak, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    contract: Contract
    precision: Precise | None = None
    host: HostFacts
    limits: tuple[str, ...]
    quantities: tuple[OneQuantity, ...] = ()
    scenario_text: str
    merged: tuple[MergedRun, ...] = ()
    unlike: tuple[str, ...] = ()
    disagreements: tuple[str, ...] = ()
    analysis: Any = None


#: Lists that every document of schema 1 has, whatever the experiment was; a script may count on them.
_LISTS = (
    "ledger", "fits", "given_back", "released", "layers_memory", "inside", "density", "capacity", "curves", "descents",
    "margins", "constancy", "sampling", "costs",
)  # fmt: skip


def document(report: Report) -> dict[str, Any]:
    """*report* as it is printed: the fields of its section's analysis stand beside its own."""
    common = {name: getattr(report, name) for name in report.__struct_fields__ if name != "analysis"}
    own = {name: getattr(report.analysis, name) for name in report.analysis.__struct_fields__}
    if both := common.keys() & own.keys():
        raise TypeError(f"a section's analysis has fields that every report has: {', '.join(sorted(both))}")
    return {**common, **dict.fromkeys(_LISTS, ()), **own}
