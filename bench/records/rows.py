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
    """One number: a line of ``samples.jsonl``.

    run: the name of the run
    trial: the trial that it was measured in
    scenario: the name of the scenario
    subject: the label of the subject
    kind: ``measured``, or ``warmup``: recorded and not counted
    metric: the name of the metric
    value: the number, unrounded
    unit: its unit, which ends the metric's name, too
    round: the round; 0 for a warm-up
    order: the place of the trial within its round
    at_ns: when the trial began, by CLOCK_MONOTONIC of the host, in ns
    n: how many instances were alive when it was read; 0: before the first
    role: the program that it belongs to; empty for a figure of the whole
    serves: says so where that program serves all instances: ``resident`` for a helper that tare started, ``daemon`` for
        one that was there before
    stage: ``down``: read on the way down, with ``n`` left; ``after``: read once all were removed again
    invalid: why the number does not count (:mod:`bench.readings.stalls`): it is kept, and in no figure
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
    """What ended a ramp.

    rule: the rule that held
    detail: its figures, for a reader
    """

    rule: Rule
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"


class Other(Record, frozen=True, kw_only=True):
    """A process that is neither tare's nor an instance.

    name: its name
    pid: its number
    memory_bytes: how far its anonymous memory moved
    cpu_seconds: how long it ran
    """

    name: str
    pid: Int64
    memory_bytes: float
    cpu_seconds: float


class Meanwhile(Record, frozen=True, kw_only=True):
    """What other processes of the host did since the last record of this kind.

    seconds: how long that was
    cpu_seconds: how long they ran, all together
    busy_seconds: how long all processors were busy, with anything
    waited_ratio: the part of the time in which somebody waited for a processor (PSI); where the kernel does not count
        that, the part of the processors that was busy
    memory_bytes: how far the anonymous memory of all of them moved
    grew: the three whose memory moved most
    ran: the three that ran most
    """

    seconds: float
    cpu_seconds: float
    busy_seconds: float
    waited_ratio: float
    memory_bytes: float
    grew: tuple[Other, ...] = ()
    ran: tuple[Other, ...] = ()


class Outcome(Record, frozen=True, kw_only=True):
    """How one trial ended: a line of ``outcomes.jsonl``.

    trial: the trial; ``skipped-`` and the label for a subject that was skipped
    subject: the label of the subject
    kind: ``measured`` or ``warmup``
    round: the round; 0 for a warm-up
    order: the place of the trial within its round
    status: ``ok``, ``failed``, ``timeout``; ``invalid``: the measuring process did not run, or the machine slept, so
        that it says nothing about the subject and is run again some times, each with a row; ``skipped``: the subject
        cannot run here
    reason: why it did not end well
    fix: what to do about it
    log: the file with the end of its console, relative to the run's directory; empty if there is none
    reached: how many instances a ramp reached
    lost: how many of them did not get ready
    stopped_by: which rule ended the ramp
    meanwhile: what other processes did, where that was looked at after this trial: after short ones it is not, and the
        next that has it speaks for those before it, too
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
    meanwhile: Meanwhile | None = None


class Trial(Record, frozen=True, kw_only=True):
    """One planned trial.

    id: its name
    subject: the label of the subject
    round: measured rounds count from 1; warm-ups have 0
    order: its place within the round
    kind: ``measured`` or ``warmup``
    """

    id: str
    subject: str
    round: Int64
    order: Int64
    kind: TrialKind


class Finding(Record, frozen=True, kw_only=True):
    """One thing that the doctor looked at.

    name: what was looked at
    level: ``ok``; ``note``: it affects numbers; ``bad``: something cannot run
    what: what was found
    fix: what to do about it
    """

    name: str
    level: Literal["ok", "note", "bad"]
    what: str
    fix: str = ""


class Host(Record, frozen=True, kw_only=True):
    """Facts of the machine, as they were before the first trial.

    machine_id: which machine it is
    boot_id: which boot of it
    cpu_model: the processor
    cpus: how many processors tare may use
    memory_bytes: memory of the machine
    kernel: release of the kernel
    cgroup_mode: how control groups are mounted
    virtualization: what the machine itself runs in
    facts: settings and other facts by name, as text
    findings: what the doctor found
    """

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

    layers: its layers of isolation, outermost first (:mod:`runners.layers`)
    version: the exact thing that was started
    accelerator: ``kvm``, or ``tcg`` for a virtual machine that is emulated: another class of result
        (docs/explanation/method.md); null for what is none
    walls: the steps of isolation that hold
    unlimited: the parts of the grant that the runner does not enforce
    reclaims: by what the host can ask a running instance for memory; empty where it cannot
    facts: further findings of the probe
    fix: what to do if it cannot run
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
    """What was found of a subject, and the files that hold its exact configuration. What was asked of it: see Scenario.

    label: its name
    reclaim_bytes: how much of its memory each instance was asked for
    manifest: files with the exact configuration, relative to the run's directory
    skipped: why nothing was started; empty if it was
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
    """Something that was there after the run and not before it.

    kind: what it is: a process, a mount, a cgroup ...
    name: its name
    owner: the label of the subject that made it, if that is known
    """

    kind: str
    name: str
    owner: str = ""


class Look(Record, frozen=True, kw_only=True):
    """How precise the figures were after so many rounds.

    rounds: so many
    half_widths: by subject: half of its interval as a part of its median; null where it has no interval, or one around
        zero
    """

    rounds: Int64
    half_widths: dict[str, float | None]

    @property
    def widest(self) -> tuple[str, float | None]:
        """The subject with the widest interval, and half of that; ("", None) where nobody has one."""
        return max(self.half_widths.items(), key=lambda one: math.inf if one[1] is None else one[1], default=("", None))


class Precision(Record, frozen=True, kw_only=True):
    """How the number of rounds came about, where a precision was wanted.

    metric: the metric whose intervals decide
    wanted: half of each interval as a part of its median: 0.05 for 5 % either way
    max_rounds: the largest number of rounds
    looks: what was found after how many rounds
    left_out: subjects that failed too often to be waited for
    ended: ``reached``: every interval was narrow enough; ``cap``: there were ``max_rounds``; ``no figure``: too many
        trials failed for any; empty while rounds may still be added
    """

    metric: str
    wanted: float
    max_rounds: Int64
    looks: tuple[Look, ...] = ()
    left_out: tuple[str, ...] = ()
    ended: Literal["", "reached", "cap", "no figure"] = ""


class RunHeader(Record, frozen=True, kw_only=True):
    """``run.json``: everything needed to understand and repeat the run.

    :meth:`subject_records` puts the subjects of the scenario and what was found of them together. Raises ValueError for
    a subject that the scenario does not have.

    schema: the version of this format
    run: the name of the run
    tare_version: the version of tare
    git: the revision of its checkout, if it ran from one
    started_at: when it began, in UTC
    finished_at: when it ended; empty while it runs
    state: ``running``, ``complete``, ``interrupted`` or ``failed``
    scenario: what was asked, with nothing left to a default
    subjects: what was found of the subjects of the scenario
    plan: all trials, in their order
    host: the machine
    versions: versions of what tare measures with, by name
    resolution_seconds: the smallest difference that the instrument could see, by the null baseline
    leaks: what the run left on the host
    warnings: what the reader has to know
    precision: how the number of rounds came about, where a precision was wanted; ``plan`` has those decided so far
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
