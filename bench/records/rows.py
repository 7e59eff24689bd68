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

from typing import Annotated, Literal

import msgspec

Status = Literal["ok", "failed", "timeout", "invalid", "skipped"]
TrialKind = Literal["measured", "warmup"]
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
