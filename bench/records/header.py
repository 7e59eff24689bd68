"""The header of a run, ``run.json``: everything needed to understand and to repeat it."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from tare.bench.records.resolved import Option, Scenario, Workload
from tare.bench.records.rows import Int64, Record, Trial
from tare.runners.base import Accelerator, Layers
from tare.runners.payload import Payload

#: Raised when a field changes its meaning or goes away; additions do not count. See :mod:`bench.records.upgrades`.
SCHEMA_VERSION = 4


RunState = Literal["running", "complete", "interrupted", "failed"]


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
    accelerator: of a virtual machine: ``kvm``; ``tcg`` if it is emulated, which is another class of result
        (docs/explanation/method.md); ``uml`` if its kernel is a program of the host; null for what is none
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


class ImageRecord(Record, frozen=True, kw_only=True):
    """What every instance of a subject found below its root.

    source: what it was made from, as a scenario says it
    digest: sixteen hexadecimal digits over its content; empty for ``host``, whose content is not read
    """

    source: str
    digest: str


class ProbedSubject(Probed, frozen=True, kw_only=True):
    """What was found of a subject, and the files that hold its exact configuration. What was asked of it: see Scenario.

    label: its name
    reclaim_bytes: how much of its memory each instance was asked for
    manifest: files with the exact configuration, relative to the run's directory
    skipped: why nothing was started; empty if it was
    image: what its instances found below their root; null where it was skipped, and in older runs
    """

    label: str
    reclaim_bytes: int = 0
    manifest: tuple[str, ...] = ()
    skipped: str = ""
    image: ImageRecord | None = None


class SubjectRecord(ProbedSubject, frozen=True, kw_only=True):
    """One subject as it was run: what was found of it, and what the scenario asks of it. In no file: see RunHeader.

    Its first process was told to do what ``payload`` says, as ``argv``; or it ran a ``workload`` of somebody's own.
    """

    runner: str
    options: dict[str, Option] = {}
    payload: Payload = Payload()
    workload: Workload | None = None
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


class AttemptResolution(Record, frozen=True, kw_only=True):
    """How exactly a contract is seen that is awaited by attempts, measured where something always answers.

    by: the contract: ``tcp``, ``http`` or ``exec``
    period_seconds: the pause between two attempts
    attempt_seconds: what an attempt that succeeds takes, as a median; of ``exec``, with a command that does nothing
    resolution_seconds: the sum of both, and of the spread of the readings from their 5th to their 95th percentile
    """

    by: str
    period_seconds: float
    attempt_seconds: float
    resolution_seconds: float


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
    resolution_seconds: the smallest difference that the instrument could see, by the null baseline: the largest of
        those of its contracts
    attempts: of each contract that is awaited by attempts, how exactly it is seen
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
    attempts: tuple[AttemptResolution, ...] = ()
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
                workload=asked.workload,
                argv=asked.argv,
                memory_bytes=asked.memory_bytes,
                cpus=asked.cpus,
            )
            for found in self.subjects
            for asked in (self.scenario.subject(found.label),)
        )
