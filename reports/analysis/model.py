"""What a report says, as data: every figure, every sentence, and nothing that a renderer would have to compute.

``tare report RUN --json`` prints a :class:`Report`; the page and the terminal show the same one. Numbers are floats in
the unit that stands in the metric's name, unrounded: rounding is for display only.
"""

from __future__ import annotations

from typing import Any

from tare.bench.records.header import Finding, Leak
from tare.bench.records.rows import Status, TrialKind
from tare.bench.stats.verdict import Verdict
from tare.reports.analysis.figures import Compared, Part, Refused, SubjectFigures

#: Raised when a field of the JSON changes its meaning or goes away.
REPORT_SCHEMA = 1


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
    """What every subject was held to; ``sentence`` says whether it was the same for all.

    ``ready_when`` says in words what ended a start, once for each contract of the run; ``ready`` is the payload's mark.
    ``attempts_resolution_seconds``: where readiness was found by attempts, what they know it to; else 0.
    """

    ready: str
    ready_when: tuple[str, ...] = ()
    attempts_resolution_seconds: float = 0.0
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
    :class:`bench.records.header.Precision`, ``sentence`` says all of it.
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
    references: tuple[str, ...]
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
