"""What an experiment is, and what all trials of a run share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from tare.bench.experiments.prepare import Ready
from tare.bench.experiments.start import Contract
from tare.bench.experiments.trial import Reading, TrialResult
from tare.bench.host.interrupts import Interrupts
from tare.bench.host.run_cgroup import RunCgroup
from tare.bench.readings.others import Others
from tare.bench.readings.stalls import Watch
from tare.bench.records.metrics import Metric
from tare.bench.records.resolved import Scenario, Subject
from tare.bench.records.rows import Trial
from tare.bench.scenario.design import Design
from tare.bench.scenario.plan import Effort, Plan, interleaved
from tare.runners.base import Scratch


@dataclass(slots=True, kw_only=True)
class Session:
    """What all trials of a run share, and what one leaves for the next.

    ``unsettled`` instances were removed, and free memory was not seen to stand still since. ``alive`` is told the
    number of instances that a trial has reached. ``others`` looks at processes that are not tare's. ``run_cgroup`` is
    None where this user may not make cgroups.
    """

    scenario: Scenario
    scratch: Scratch
    run_cgroup: RunCgroup | None
    interrupts: Interrupts
    alive: Callable[[int], None]
    watch: Watch
    host_bytes: int
    others: Others = field(default_factory=Others)
    unsettled: int = 0

    def contract(self, subject: Subject) -> Contract:
        """When a start of *subject* is over."""
        run = self.scenario.run
        return Contract(ready=subject.ready(run), timeout_s=run.timeout_s)

    @property
    def cpu_ns(self) -> Callable[..., int] | None:
        """What reads the processor time of all that the run started; None where nobody counts it."""
        return self.run_cgroup.cpu_ns if self.run_cgroup else None


class Experiment(Design, Protocol):
    """What is done to a subject in a trial. Most have a default: one trial is one start, planned once a round.

    ``noun`` is what one trial is called. ``metrics`` are what its readings hold (:mod:`bench.records.metrics` says what
    each means); one that is not known there yet is made known when the experiment is loaded. ``section`` is what shows
    it, as ``module:object``; whoever makes reports loads it. ``enforces`` names a part of the grant that a runner must
    enforce, or else its subject is skipped. An experiment that ``spots_stalls`` knows itself which of its steps do not
    count since this process did not run; of others the whole trial does not.
    """

    metrics: tuple[Metric, ...]
    section: str
    noun: str = "start"
    enforces: str = ""
    spots_stalls: bool = False

    def require(self, scenario: Scenario) -> None:
        """Raise HostError where this host cannot do what *scenario* asks for. Nothing was started yet."""
        return

    def trials(self, scenario: Scenario) -> tuple[Trial, ...]:
        """Every trial, in its order."""
        return interleaved(scenario)

    def effort(self, scenario: Scenario, subject: Subject) -> Effort:
        """What one trial of *subject* takes at most."""
        return Effort()

    def figure_of(self, readings: Sequence[Reading]) -> float | None:
        """The number of one trial that ended well in the metric ``precise``; None where it has none."""
        return next((one.values[self.precise] for one in readings if self.precise in one.values), None)

    def reclaims(self, subject: Subject) -> int:
        """How many bytes of its memory each instance of *subject* is asked for."""
        return 0

    def around(self, session: Session) -> AbstractContextManager[object]:
        """What holds from before the first trial of a stretch until after its last."""
        return nullcontext()

    def trial(self, session: Session, ready: Ready, name: str) -> TrialResult:
        """Run one trial; everything that it makes has a name that begins with *name*. Raises Interrupted."""
        ...


def plan(experiment: Experiment, scenario: Scenario) -> Plan:
    """All trials of *scenario*, whose experiment this is."""
    efforts = {subject.label: experiment.effort(scenario, subject) for subject in scenario.subjects}
    return Plan(scenario=scenario, trials=experiment.trials(scenario), noun=experiment.noun, efforts=efforts)


def run_trial(experiment: Experiment, session: Session, ready: Ready, name: str) -> TrialResult:
    """Run one trial, and judge whether it counts: where this process did not run it is invalid, however it ended.

    One that :attr:`Experiment.spots_stalls` and ended well is not thrown away. Raises Interrupted.
    """
    begun = session.watch.begin()
    found = experiment.trial(session, ready, name)
    stalled = session.watch.since(begun)
    if not stalled or (found.status == "ok" and experiment.spots_stalls):
        return found
    ended = f"; this was the reason: {found.reason}" if found.reason else ""
    return replace(found, status="invalid", reason=stalled + ended)
