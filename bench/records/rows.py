"""What a run leaves on disk: a header, flat rows, and the rules by which both are read again.

A run directory holds::

    run.json         the header: everything needed to understand and repeat the run
    samples.jsonl    one row per number, appended and flushed after each trial
    outcomes.jsonl   one row per trial: ok, failed, timeout; and one per skipped subject
    logs/            the console of each trial that did not end well
    subjects/        per subject, the exact argv, OCI configuration or domain XML; output.log: the end of what each
                     trial's workload said besides its marks, up to 256 KiB

Rules of reading. A trial counts when it has an outcome. When a trial was run again, after an interruption or because an
attempt was invalid, its last rows win. Numbers that are invalid are kept, and do not count. A final line without a line
end is what a killed run was writing: it is left out, and said so.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from tare.bench.records.resolved import Option, Scenario
from tare.runners.base import Accelerator, Layers
from tare.runners.payload import Payload

#: Raised when a field changes its meaning or goes away; additions do not count. See :mod:`bench.records.upgrades`.
SCHEMA_VERSION = 4

Status = Literal["ok", "failed", "timeout", "invalid", "skipped"]
TrialKind = Literal["measured", "warmup"]
RunState = Literal["running", "complete", "interrupted", "failed"]
#: What a program that is no instance's own does for all of them: it is of the runner, which started it, or
#: a daemon that was there before.
Serves = Literal["", "resident", "daemon"]
#: What may end a ramp: the number that was asked for, the host's limits, or a rule of the scenario.
Rule = Literal[
    "limit",
    "count",
    "memory floor",
    "memory budget",
    "processor floor",
    "start latency",
    "error rate",
    "memory pressure",
    "swap-in",
]
#: JSON has no largest number; the tables that reports are made from have.
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all that is written: frozen, by keyword."""


class Sample(Record, frozen=True, kw_only=True):
    """One number. ``at_ns`` is CLOCK_MONOTONIC of the host when the trial began, ``order`` the place in the round.

    ``n`` instances were alive when it was read (0: before the first). ``role`` is the program that it belongs to,
    empty for a figure of the whole; ``serves`` says so where that program serves all instances. ``stage`` is ``down``
    for what was read with ``n`` left on the way down, ``after`` for what was read once all were removed again.
    ``invalid`` says why the number does not count: it is kept, and in no
    figure (:mod:`bench.readings.stalls`).
    """

    run: str
    trial: str
    scenario: str
    subject: str
    kind: TrialKind
    metric: str
    value: float
    unit: str
    round: Int64
    order: Int64
    at_ns: Int64
    n: Int64 = 1
    role: str = ""
    serves: Serves = ""
    stage: Literal["", "down", "after"] = ""
    invalid: str = ""


class Stop(Record, frozen=True, kw_only=True):
    """What ended a ramp: the rule, and its figures for a reader."""

    rule: Rule
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"


class Outcome(Record, frozen=True, kw_only=True):
    """How one trial ended. ``log`` is a path relative to the run directory, empty when there is none.

    ``invalid`` is a trial in which the measuring process did not run, or the machine slept: it says nothing about its
    subject, and is run again some times; each attempt has a row.

    A ramp says how many instances were ``reached``, how many ``lost`` (they did not get ready), and which rule it was
    ``stopped_by``.
    """

    trial: str
    subject: str
    kind: TrialKind
    round: Int64
    order: Int64
    status: Status
    reason: str = ""
    fix: str = ""
    log: str = ""
    reached: Int64 = 0
    lost: Int64 = 0
    stopped_by: Stop | None = None


class Trial(Record, frozen=True, kw_only=True):
    """One planned start. Warm-ups have round 0; measured rounds count from 1."""

    id: str
    subject: str
    round: Int64
    order: Int64
    kind: TrialKind


class Finding(Record, frozen=True, kw_only=True):
    """One thing the doctor looked at. ``level``: ok, note (affects numbers), bad (something cannot run)."""

    name: str
    level: Literal["ok", "note", "bad"]
    what: str
    fix: str = ""


class Host(Record, frozen=True, kw_only=True):
    """Facts of the machine, as they were before the first trial. ``facts`` holds what only a reader needs."""

    machine_id: str
    boot_id: str
    cpu_model: str
    cpus: int
    memory_bytes: int
    kernel: str
    cgroup_mode: Literal["v1", "v2", "hybrid", "none"]
    virtualization: str
    facts: dict[str, str] = {}
    findings: tuple[Finding, ...] = ()


class Probed(Record, frozen=True, kw_only=True):
    """What a runner is and what its probe proved; see :class:`runners.base.Support`.

    ``layers`` are its layers of isolation, outermost first (:mod:`runners.layers`). ``accelerator`` is ``tcg`` for a
    software-emulated virtual machine: another class of result (docs/explanation/method.md).
    """

    layers: Layers = ()
    version: str = ""
    accelerator: Accelerator | None = None
    walls: tuple[str, ...] = ()
    unlimited: tuple[str, ...] = ()
    reclaims: str = ""
    facts: dict[str, str] = {}
    fix: str = ""


class ProbedSubject(Probed, frozen=True, kw_only=True):
    """What was found of the subject called ``label``, and the files that hold its exact configuration.

    What was asked of it stands in the scenario. Each instance was asked for ``reclaim_bytes`` of its memory, by
    ``reclaims``, which is empty where nothing was asked. ``skipped`` says why nothing was started.
    """

    label: str
    reclaim_bytes: int = 0
    manifest: tuple[str, ...] = ()
    skipped: str = ""


class SubjectRecord(ProbedSubject, frozen=True, kw_only=True):
    """One subject as it was run: what was found of it, and what the scenario asks of it. In no file: see RunHeader.

    Its first process was told to do what ``payload`` says, as ``argv``.
    """

    runner: str
    options: dict[str, Option] = {}
    payload: Payload = Payload()
    argv: tuple[str, ...] = ()
    memory_bytes: int
    cpus: int


class Leak(Record, frozen=True, kw_only=True):
    """Something that was there after the run and not before it. ``owner`` is a subject's label, or empty."""

    kind: str
    name: str
    owner: str = ""


class Look(Record, frozen=True, kw_only=True):
    """The intervals after so many ``rounds``: subject -> half of its interval as a part of its median.

    Null where it has no interval, or one around zero.
    """

    rounds: Int64
    half_widths: dict[str, float | None]

    @property
    def widest(self) -> tuple[str, float | None]:
        """The subject with the widest interval, and half of that; ("", None) where nobody has one."""
        return max(self.half_widths.items(), key=lambda one: math.inf if one[1] is None else one[1], default=("", None))


class Precision(Record, frozen=True, kw_only=True):
    """How the number of rounds came about, where a precision was ``wanted`` (0.05 for 5 % either way) of ``metric``.

    ``ended`` is empty while rounds may still be added. ``reached``: every interval was narrow enough. ``cap``: there
    were ``max_rounds``. ``no figure``: too many trials failed for any. ``left_out`` are subjects that failed too often
    to be waited for.
    """

    metric: str
    wanted: float
    max_rounds: Int64
    looks: tuple[Look, ...] = ()
    left_out: tuple[str, ...] = ()
    ended: Literal["", "reached", "cap", "no figure"] = ""


class RunHeader(Record, frozen=True, kw_only=True):
    """``run.json``: everything needed to understand and repeat the run. ``scenario`` is what was asked, resolved.

    Where a precision is wanted, ``plan`` has the rounds that were decided so far, and ``precision`` says why.
    ``subjects`` says what was found of those of the scenario; :meth:`subject_records` puts the two together. Raises
    ValueError for a subject that the scenario does not have.
    """

    schema: int = SCHEMA_VERSION
    run: str
    tare_version: str
    git: str = ""
    started_at: str
    finished_at: str = ""
    state: RunState = "running"
    scenario: Scenario
    subjects: tuple[ProbedSubject, ...] = ()
    plan: tuple[Trial, ...] = ()
    host: Host
    versions: dict[str, str] = {}
    resolution_seconds: float = 0.0
    precision: Precision | None = None
    leaks: tuple[Leak, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        labels = {asked.label for asked in self.scenario.subjects}
        for found in self.subjects:
            if found.label not in labels:
                raise ValueError(f"it has a subject '{found.label}', and its scenario has not")

    def subject_records(self) -> tuple[SubjectRecord, ...]:
        """Each subject as it was run, in the order of the scenario; none before they were prepared."""
        return tuple(
            SubjectRecord(
                **msgspec.structs.asdict(found),
                runner=asked.runner,
                options=asked.options,
                payload=asked.payload,
                argv=asked.argv,
                memory_bytes=asked.memory_bytes,
                cpus=asked.cpus,
            )
            for found in self.subjects
            for asked in (self.scenario.subject(found.label),)
        )
