"""The trials of a run, one after the other, each on disk before the next begins. It knows no backend by name.

A stretch of measuring is what one process measures of a run: all of it, or what was missing of it. First comes the run
cgroup, then the null baseline, then each subject is probed and prepared, then the trials follow in their order; then
what was prepared is closed, the audit looks for leaks, and the header gets its end. An interruption takes the same way
out.
"""

from __future__ import annotations

import dataclasses
import gc
import itertools
import shlex
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tare.bench import experiments
from tare.bench.errors import Interrupted, NothingToRunError, TareError
from tare.bench.experiments import null_baseline, prepare
from tare.bench.experiments.base import Session, run_trial
from tare.bench.experiments.prepare import Ready
from tare.bench.experiments.trial import Reading
from tare.bench.host import audit, caches, clean, run_cgroup, workspace
from tare.bench.host.interrupts import Interrupts
from tare.bench.monitor import Monitor
from tare.bench.readings import stalls
from tare.bench.records.header import RunHeader, RunState
from tare.bench.records.metrics import METRICS
from tare.bench.records.readiness import kind
from tare.bench.records.rows import Outcome, Sample, Trial
from tare.bench.records.run_writer import RunWriter
from tare.bench.rounds import Rounds
from tare.bench.scenario.plan import rounds_of
from tare.runners import layers
from tare.runners.base import RunnerError, Scratch
from tare.runners.image import kept

#: Between short trials nobody looks at other processes more often: it costs some milliseconds, and the caches' content.
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended. ``failed`` counts trials that were started and did not end well."""

    path: Path
    header: RunHeader
    failed: int


class TrialLoop:
    """One stretch of measuring: from a header that is open to one that is closed."""

    def __init__(self, path: Path, header: RunHeader, cache: Path, monitor: Monitor) -> None:
        self.header = header
        self.path = path
        self.scenario = header.scenario
        self.experiment = experiments.load(header.scenario.experiment)
        self.cache = cache
        self.monitor = monitor
        # A new name for each stretch: what a killed one left must not look like ours.
        self.prefix = workspace.new_prefix()
        self.owners: dict[str, str] = {}
        self.failed = 0
        self.numbers = itertools.count(1)
        self.run_cgroup: run_cgroup.RunCgroup | None = None
        self.serving: frozenset[int] = frozenset()
        self.last = False
        self.rounds = Rounds(self.experiment, self.scenario, header.precision)

    def measure(self, trials: tuple[Trial, ...]) -> Result:
        """Run *trials* in their order. Raises as :func:`bench.engine.run` does."""
        state: RunState = "failed"
        with ExitStack() as stack:
            interrupts = stack.enter_context(Interrupts())
            stack.enter_context(self._told(interrupts))
            writer = stack.enter_context(RunWriter(self.path))
            writer.header(self.header)
            try:
                scratch = stack.enter_context(workspace.scratch(self.prefix))
                self.run_cgroup = stack.enter_context(run_cgroup.opened(self.prefix))
                before = audit.take(self.prefix, scratch)
                try:
                    self._measure(trials, writer, scratch, interrupts)
                    state = "complete"
                finally:
                    self.monitor.finishing()
                    after = audit.take(self.prefix, scratch)
                    leaks = audit.difference(before, after, self._owner)
                    self._amend(leaks=(*self.header.leaks, *leaks))
                    clean.remove_leaks(leaks, self.prefix)
            finally:
                if interrupts.pending and state != "complete":
                    state = "interrupted"
                finished = datetime.now(UTC).isoformat(timespec="seconds")
                self._amend(state=state, finished_at=finished)
                writer.header(self.header)
        return Result(path=self.path, header=self.header, failed=self.failed)

    @contextmanager
    def _told(self, interrupts: Interrupts) -> Iterator[None]:
        """After a signal, whatever came of it on the way out: say what was left behind, and how to go on."""
        try:
            yield
        except (TareError, RunnerError, OSError) as error:
            stopped = interrupts.pending
            if stopped is None:
                raise
            left = [f"{leak.kind} {leak.name}" for leak in self.header.leaks]
            why = [f"the run left something on this host: {', '.join(left[:5])}"] if left else []
            why += [str(error)] if error is not stopped else []
            fix = f"tare run --resume {shlex.quote(str(self.path))}"
            raise Interrupted(stopped.what, "; ".join(why), fix, run=self.path) from None

    def _measure(self, trials: tuple[Trial, ...], writer: RunWriter, scratch: Path, interrupts: Interrupts) -> None:
        session = Session(
            scenario=self.scenario,
            scratch=Scratch(
                directory=scratch,
                cache=self.cache,
                cgroup=self.run_cgroup.load if self.run_cgroup else None,
                prefix=self.prefix,
            ),
            run_cgroup=self.run_cgroup,
            interrupts=interrupts,
            alive=self.monitor.alive,
            watch=stalls.Watch(),
            host_bytes=self.header.host.memory_bytes,
        )
        with session.watch, ExitStack() as cleanup:
            cleanup.enter_context(self.experiment.around(session))
            self._weigh_nothing(interrupts)
            ready = self._prepare(writer, session, cleanup)
            gc.collect()
            gc.disable()  # a collection in the middle of a start would be counted as the start's
            cleanup.callback(gc.enable)
            serving = (one.prepared.resident_pids | one.prepared.daemon_pids for one in ready.values())
            self.serving = frozenset[int]().union(*serving)
            session.others.look(self.serving)
            ended, trials = 0, (trials or self._further(writer))
            while trials := tuple(planned for planned in trials if planned.subject in ready):
                for position, planned in enumerate(trials, start=ended + 1):
                    interrupts.check()
                    self.monitor.starting(planned, position, ended + len(trials))
                    self.last = position == ended + len(trials)
                    self._until_valid(planned, ready[planned.subject], writer, session)
                ended += len(trials)
                trials = self._further(writer)

    def _weigh_nothing(self, interrupts: Interrupts) -> None:
        """The resolution of the instrument, and that of each kind of contract that is awaited by attempts."""
        asked = (one.ready(self.scenario.run) for one in self.scenario.subjects)
        kinds = {kind(one): one for one in asked}
        told = (null_baseline.of_attempts(one, self.cache, self.prefix, interrupts) for one in kinds.values())
        attempts = tuple(one for one in told if one is not None)
        seconds = null_baseline.resolution(self.cache, self.prefix, interrupts)
        largest = max((seconds, *(one.resolution_seconds for one in attempts)))
        self._amend(resolution_seconds=largest, attempts=attempts)

    def _further(self, writer: RunWriter) -> tuple[Trial, ...]:
        """The trials of rounds that are added where a precision is wanted; the header has them first."""
        added = self.rounds.look(rounds_of(self.header.plan))
        if self.rounds.precision is not None:
            self._amend(plan=(*self.header.plan, *added), precision=self.rounds.precision)
            writer.header(self.header)
            self.monitor.looked(self.rounds.precision, rounds_of(self.header.plan))
        return added

    def _prepare(self, writer: RunWriter, session: Session, cleanup: ExitStack) -> dict[str, Ready]:
        """Probe and prepare every subject that a stretch before this one did not skip."""
        known = {record.label: record for record in self.header.subjects}
        cleanup.enter_context(kept.in_use(session.scratch.cache))
        images = prepare.images(session.scratch.cache, self.scenario.rootfs, self.monitor.making)
        ready: dict[str, Ready] = {}
        for position, subject in enumerate(self.scenario.subjects):
            if subject.label in known and known[subject.label].skipped:
                continue
            session.interrupts.check()
            self.monitor.preparing(subject.label)
            tried = prepare.try_subject(
                subject,
                images,
                session.scratch,
                str(position),
                cleanup,
                enforced=self.experiment.enforces,
                reclaim_bytes=self.experiment.reclaims(subject),
                interrupts=session.interrupts,
            )
            self.monitor.probed(subject.label, tried.support)
            prepare.require_same_class(known.get(subject.label), tried.record)
            record = tried.record
            if tried.ready is None:
                writer.trial((), prepare.skipped_outcome(record))
            else:
                files = writer.manifest(subject.label, dict(tried.ready.prepared.manifest))
                record = msgspec.structs.replace(record, manifest=files)
                ready[subject.label] = dataclasses.replace(tried.ready, record=record)
            known[subject.label] = record
        self._amend(subjects=tuple(known[subject.label] for subject in self.scenario.subjects))
        writer.header(self.header)
        if all(layers.is_null(one.subject.runner) for one in ready.values()):
            reasons = "; ".join(f"{one.label}: {one.skipped}" for one in self.header.subjects if one.skipped)
            fixes = {one.fix for one in self.header.subjects if one.skipped}
            fix = (fixes.pop() if len(fixes) == 1 else "") or "`tare doctor` says what to install"
            raise NothingToRunError("no subject can be measured on this host", reasons, fix)
        return ready

    def _until_valid(self, planned: Trial, ready: Ready, writer: RunWriter, session: Session) -> None:
        """Run a trial; repeat it while it is invalid, a limited number of times."""
        for left in range(stalls.MOST_REPEATS, -1, -1):
            outcome = self._one(planned, ready, writer, session, f"{self.prefix}-{next(self.numbers)}")
            gc.collect()
            if outcome.status != "invalid":
                return
            again = "repeated" if left else f"invalid {1 + stalls.MOST_REPEATS} times; not tried again"
            self._amend(warnings=(*self.header.warnings, f"{planned.id}: {outcome.reason}; {again}"))
            session.interrupts.check()
        self.failed += 1

    def _one(self, planned: Trial, ready: Ready, writer: RunWriter, session: Session, name: str) -> Outcome:
        if self.scenario.run.cache == "cold" and not caches.drop():
            self._amend(warnings=(*self.header.warnings, f"{planned.id}: the disks were not quiet when it started"))
        self.owners[name] = planned.subject
        result = run_trial(self.experiment, session, ready, name)
        if result.status != "ok":  # after a signal that says nothing of the subject: a resumed run tries again
            session.interrupts.check()
        self._amend(warnings=(*self.header.warnings, *(f"{planned.id}: {text}" for text in result.warnings)))
        status, reason = result.status, result.reason
        values = ((metric, value) for reading in result.readings for metric, value in reading.values.items())
        doubts = [METRICS[metric].implausible(value) for metric, value in values]
        if status == "ok" and any(doubts):
            status, reason = "failed", "; ".join(filter(None, doubts))
        writer.output(planned.subject, planned.id, result.console)
        log = ""
        if status in ("failed", "timeout") or result.lost:
            self.failed += 1
            log = writer.log(planned.id, f"{reason}\n\nThe end of its console:\n{result.console}\n")
        meanwhile = None
        if self.last or session.others.unrecorded_s >= _LOOK_EVERY_S:
            session.others.look(self.serving)
            meanwhile = session.others.record()
        outcome = Outcome(
            trial=planned.id,
            subject=planned.subject,
            kind=planned.kind,
            round=planned.round,
            order=planned.order,
            status=status,
            reason=reason,
            log=log,
            reached=result.reached,
            lost=result.lost,
            stopped_by=result.stopped_by,
            meanwhile=meanwhile,
        )
        # Only a trial that kept the contract has figures: those of a broken one would mean something else. Those of an
        # invalid one are kept, and do not count.
        readings = result.readings if status in ("ok", "invalid") else ()
        invalid = reason if status == "invalid" else ""
        writer.trial(self._samples(planned, result.at_ns, readings, invalid), outcome)
        if status != "invalid":
            self.rounds.note(planned, ok=status == "ok", readings=readings)
        self.monitor.ended(outcome, result.values if status == "ok" else {})
        return outcome

    def _samples(self, planned: Trial, at_ns: int, readings: Iterable[Reading], invalid: str) -> Iterator[Sample]:
        for reading in readings:
            for metric, value in reading.values.items():
                yield Sample(
                    run=self.header.run,
                    trial=planned.id,
                    scenario=self.scenario.name,
                    subject=planned.subject,
                    kind=planned.kind,
                    metric=metric,
                    value=value,
                    unit=METRICS[metric].unit,
                    round=planned.round,
                    order=planned.order,
                    at_ns=at_ns,
                    n=reading.n,
                    role=reading.role,
                    serves=reading.serves,
                    stage=reading.stage,
                    invalid=reading.invalid or invalid,
                )

    def _amend(self, **changes: Any) -> None:
        self.header = msgspec.structs.replace(self.header, **changes)

    def _owner(self, name: str) -> str:
        """The subject whose instance's name occurs in *name*; the longest: tare-1a2b-1 is part of tare-1a2b-12."""
        found = [instance for instance in self.owners if instance in name]
        return self.owners[max(found, key=len)] if found else ""
