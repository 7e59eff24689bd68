"""The smallest grant at which the payload gets ready, by bisection: the trial of ``least-memory``."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta

from tare.bench.experiments import prepare
from tare.bench.experiments.base import Experiment, Session
from tare.bench.experiments.prepare import Ready
from tare.bench.experiments.ramp import many_instances
from tare.bench.experiments.rules import StackTable
from tare.bench.experiments.start import clock_ns
from tare.bench.experiments.startup import start_and_stop
from tare.bench.experiments.trial import Reading, TrialResult
from tare.bench.records.metrics import METRICS
from tare.bench.records.resolved import Scenario, Subject
from tare.bench.scenario.design import Table
from tare.bench.scenario.file import Mebibytes
from tare.bench.scenario.plan import Effort
from tare.runners.base import RunnerError

Step = Annotated[int, Meta(ge=4, le=1 << 20)]


class LeastTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[least]``: between which grants to look, and how exactly.

    low_kib: the search takes this grant to be too little, without a trial
    high_mib: this grant must be enough
    step_kib: how exact the answer is; the limit of a cgroup counts in pages
    """

    low_kib: Annotated[int, Meta(ge=0, le=1 << 30)] = 0
    high_mib: Mebibytes = 256
    step_kib: Step = 64


class Keys(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a subject may set for itself.

    step_kib: as in ``[least]``, for this subject alone
    """

    step_kib: Step | None = None


class LeastSubject(msgspec.Struct, frozen=True, kw_only=True):
    """How exactly to look, for one subject.

    step_bytes: the resolution of the search
    """

    step_bytes: int


class LeastMemory(Experiment):
    """The smallest grant of memory with which the payload gets ready.

    No bare process is added: it need have no grant, and what does not enforce one cannot be measured here.
    """

    name = "least-memory"
    table = "least"
    table_type = LeastTable
    keys_type = Keys
    own_type = LeastSubject
    adds_process = False
    enforces = "memory"
    precise = "least_memory_bytes"
    metrics = (METRICS["least_memory_bytes"], METRICS["attempts_count"])
    section = "tare.reports.sections.least_memory.section:SECTION"
    noun = "bisection"

    def own(self, table: LeastTable, keys: Keys, memory_bytes: int) -> LeastSubject:  # noqa: ARG002 - the grant is looked for
        """The step, in bytes."""
        return LeastSubject(step_bytes=(keys.step_kib or table.step_kib) << 10)

    def effort(self, scenario: Scenario, subject: Subject) -> Effort:
        """One start at the top, and one for each halving."""
        steps = (scenario.table(LeastTable).high_mib << 20) // subject.keys(LeastSubject).step_bytes
        return Effort(starts=1 + math.ceil(math.log2(max(2, steps))))

    @contextmanager
    def around(self, session: Session) -> Iterator[None]:
        """As for a ramp: the largest grant that is tried may be more than this host can bear."""
        with many_instances(session, StackTable().floor_percent):
            yield

    def trial(self, session: Session, ready: Ready, name: str) -> TrialResult:
        """Each attempt is prepared anew, since the grant is part of the preparation."""
        numbers = itertools.count(1)

        def attempt(memory_bytes: int) -> str:
            session.interrupts.check()
            own = f"{name}-{next(numbers)}"
            granted = msgspec.structs.replace(ready.subject, memory_bytes=memory_bytes)
            with ExitStack() as cleanup:
                try:
                    folder = own.removeprefix(f"{session.scratch.prefix}-")
                    prepared = prepare.prepare(granted, ready.image, session.scratch, folder, cleanup)
                except (RunnerError, OSError) as error:
                    return str(error)
                contract = session.contract(ready.subject)
                tried = start_and_stop(prepared.launch, own, contract, interrupts=session.interrupts, cpu_ns=None)
            return "" if tried.status == "ok" else tried.reason

        table = session.scenario.table(LeastTable)
        step = ready.subject.keys(LeastSubject).step_bytes
        return least(attempt, Bounds(low=table.low_kib << 10, high=table.high_mib << 20, step=step))


LEAST_MEMORY = LeastMemory()

#: Whether an instance with so many bytes got ready, and if not, why.
Attempt = Callable[[int], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where to look, in bytes: *low* is taken to be too little, *high* must be enough, *step* is the resolution."""

    low: int
    high: int
    step: int


def least(attempt: Attempt, bounds: Bounds) -> TrialResult:
    """Bisect *bounds*. A trial that fails even with the most is a failed trial, with that attempt's reason.

    What is found was ready, and one step less was not: both were really tried. Readiness is taken to be monotonous in
    the grant, as bisection must; rounds show how far that is true.
    """
    began = clock_ns()
    why = attempt(bounds.high)
    if why:
        return TrialResult(status="failed", reason=f"not ready even with {bounds.high >> 20} MiB: {why}", at_ns=began)
    ready, short, attempts = bounds.high // bounds.step, bounds.low // bounds.step, 1
    while ready - short > 1:
        middle = (ready + short) // 2
        attempts += 1
        if attempt(middle * bounds.step):
            short = middle
        else:
            ready = middle
    values = {"least_memory_bytes": float(ready * bounds.step), "attempts_count": float(attempts)}
    return TrialResult(status="ok", reason="", at_ns=began, readings=(Reading(values=values),))
