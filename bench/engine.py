"""Plan to records: the trial loop. It knows no backend and no experiment by name.

A run goes: lock the scale, make the run cgroup, time the null baseline, probe and prepare each subject, then run the
trials in the order of the plan, each appended to disk before the next begins; then helpers stop, the audit looks for
leaks, and the header gets its end. An interruption takes the same way out.
"""

from __future__ import annotations

import gc
import itertools
import secrets
import shlex
import statistics
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from tare import runners
from tare.bench import experiments
from tare.bench.errors import HostError, Interrupted, NothingToRunError, TareError, UsageError
from tare.bench.experiments import prepare, start, startup
from tare.bench.experiments.base import Session, run_trial
from tare.bench.experiments.prepare import Ready
from tare.bench.experiments.trial import Reading
from tare.bench.host import audit, by_name, caches, conditions, facts, run_cgroup, workspace
from tare.bench.host.interrupts import Interrupts
from tare.bench.monitor import Monitor
from tare.bench.readings import stalls
from tare.bench.records import inputs, store
from tare.bench.records.metrics import METRICS
from tare.bench.records.rows import SCHEMA_VERSION, Outcome, RunHeader, RunState, Sample, Trial
from tare.bench.scenario.plan import Plan
from tare.runners import layers
from tare.runners.base import Launch, RunnerError, Scratch, Spec

#: How often an instance that is nothing is started before the first trial.
_NULL_STARTS = 100
_NULL_CONTRACT = start.Contract(ready="ready", timeout_s=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended. ``failed`` counts trials that were started and did not end well."""

    path: Path
    header: RunHeader
    failed: int


def run(planned: Plan, results: Path, cache: Path, monitor: Monitor) -> Result:
    """Measure *planned* into a new directory below *results*.

    Raises UsageError (another run measures, results not writable), HostError (cold caches impossible),
    NothingToRunError (every subject was skipped; the directory says why) and Interrupted (what was measured is kept).
    """
    scenario = planned.scenario
    with workspace.locked():
        if scenario.run.cache == "cold":
            caches.require()
        experiments.load(scenario.experiment).require(scenario)
        started = datetime.now(UTC)
        token = secrets.token_hex(2)
        header = RunHeader(
            run=f"{started:%Y%m%dT%H%M%SZ}-{store.file_name(scenario.name)}-{token}",
            tare_version=metadata.version("tarebench"),
            git=facts.git_revision(),
            started_at=started.isoformat(timespec="seconds"),
            scenario=scenario,
            plan=planned.trials,
            host=facts.collect(),
            versions=facts.versions(),
        )
        path = store.create(results, header.run)
        return _Stretch(path, header, cache, monitor).measure(planned.trials)


def resume(path: Path, cache: Path, monitor: Monitor) -> Result:
    """Run what is missing of the run at *path*: trials that have no outcome.

    Raises UsageError when the run is complete, or when anything that has a part in measuring is no longer what it was
    (:mod:`bench.host.conditions`): numbers of two conditions never share a directory.
    """
    with workspace.locked():
        recorded = store.load(path)
        header = recorded.header
        if store.schema(path) != SCHEMA_VERSION:
            why = "an older tare began it, and its records are in other words"
            raise UsageError(f"{path} cannot go on", why, "start a new run; `tare report` reads this one")
        changed = conditions.parted(
            header,
            facts.collect(),
            tare_version=metadata.version("tarebench"),
            git=facts.git_revision(),
            versions=facts.versions(),
        )
        if changed:
            fix = "start a new run; `tare compare` compares the two"
            raise UsageError(f"{path} cannot go on: its conditions have changed", "; ".join(changed), fix)
        done = {outcome.trial for outcome in recorded.outcomes if outcome.status != "invalid"}
        missing = tuple(planned for planned in header.plan if planned.id not in done)
        skipped = {subject.label for subject in header.subjects if subject.skipped}
        missing = tuple(planned for planned in missing if planned.subject not in skipped)
        if not missing:
            fix = f"tare report {shlex.quote(str(path))}"
            raise UsageError(f"{path} is complete", "every trial has an outcome", fix)
        with inputs.parsing(f"{path / store.HEADER} is damaged", "restore it, or start a new run"):
            _check_plan(header)
        store.trim(path)
        warnings = (*header.warnings, f"interrupted, and resumed at {datetime.now(UTC).isoformat(timespec='seconds')}")
        header = msgspec.structs.replace(header, state="running", finished_at="", warnings=warnings)
        return _Stretch(path, header, cache, monitor).measure(missing)


def _check_plan(header: RunHeader) -> None:
    """Raise ValueError for a header whose plan, experiment and subjects no scenario gave."""
    scenario = header.scenario
    if scenario.experiment not in experiments.REGISTRY:
        raise ValueError(f"there is no experiment '{scenario.experiment}'")
    labels = {subject.label for subject in scenario.subjects}
    for planned in header.plan:
        if planned.subject not in labels:
            raise ValueError(f"its plan names '{planned.subject}', which is not a subject of its scenario")
    for subject in scenario.subjects:
        if subject.runner not in runners.REGISTRY:
            raise ValueError(f"there is no runner '{subject.runner}'")


class _Stretch:
    """One stretch of measuring, from prepared subjects to a header that is closed."""

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

    def measure(self, trials: tuple[Trial, ...]) -> Result:
        state: RunState = "failed"
        with ExitStack() as stack:
            interrupts = stack.enter_context(Interrupts())
            stack.enter_context(self._told(interrupts))
            writer = stack.enter_context(store.RunWriter(self.path))
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
                    by_name.remove(leaks, self.prefix)
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

    def _measure(
        self, trials: tuple[Trial, ...], writer: store.RunWriter, scratch: Path, interrupts: Interrupts
    ) -> None:
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
        with session.watch, ExitStack() as helpers:
            helpers.enter_context(self.experiment.around(session))
            self._amend(resolution_seconds=self._null_baseline(interrupts))
            ready = self._prepare(writer, session, helpers)
            trials = tuple(planned for planned in trials if planned.subject in ready)
            gc.collect()
            gc.disable()  # a collection in the middle of a start would be counted as the start's
            helpers.callback(gc.enable)
            for position, planned in enumerate(trials, start=1):
                interrupts.check()
                self.monitor.starting(planned, position, len(trials))
                self._until_valid(planned, ready[planned.subject], writer, session)

    def _prepare(self, writer: store.RunWriter, session: Session, helpers: ExitStack) -> dict[str, Ready]:
        """Probe and prepare every subject that a stretch before this one did not skip."""
        known = {record.label: record for record in self.header.subjects}
        ready: dict[str, Ready] = {}
        for position, subject in enumerate(self.scenario.subjects):
            if subject.label in known and known[subject.label].skipped:
                continue
            session.interrupts.check()
            self.monitor.preparing(subject.label)
            tried = prepare.try_subject(
                subject,
                self.scenario.rootfs,
                session.scratch,
                str(position),
                helpers,
                enforced=self.experiment.enforces,
                reclaim_bytes=self.experiment.reclaims(subject),
            )
            self.monitor.probed(subject.label, tried.support)
            prepare.require_same_class(known.get(subject.label), tried.record)
            record = tried.record
            if tried.prepared is None:
                writer.trial((), prepare.skipped_outcome(record))
            else:
                files = writer.manifest(subject.label, dict(tried.prepared.manifest))
                record = msgspec.structs.replace(record, manifest=files)
                ready[subject.label] = Ready(subject, tried.prepared, record)
            known[subject.label] = record
        self._amend(subjects=tuple(known[subject.label] for subject in self.scenario.subjects))
        writer.header(self.header)
        if all(layers.is_null(one.record.runner) for one in ready.values()):
            reasons = "; ".join(f"{one.label}: {one.skipped}" for one in self.header.subjects if one.skipped)
            fixes = {one.fix for one in self.header.subjects if one.skipped}
            fix = (fixes.pop() if len(fixes) == 1 else "") or "`tare doctor` says what to install"
            raise NothingToRunError("no subject can be measured on this host", reasons, fix)
        return ready

    def _until_valid(self, planned: Trial, ready: Ready, writer: store.RunWriter, session: Session) -> None:
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

    def _one(self, planned: Trial, ready: Ready, writer: store.RunWriter, session: Session, name: str) -> Outcome:
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
        )
        # Only a trial that kept the contract has figures: those of a broken one would mean something else. Those of an
        # invalid one are kept, and do not count.
        readings = result.readings if status in ("ok", "invalid") else ()
        invalid = reason if status == "invalid" else ""
        writer.trial(self._samples(planned, result.at_ns, readings, invalid), outcome)
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

    def _null_baseline(self, interrupts: Interrupts) -> float:
        """The instrument's resolution: the spread (p95 - p5) of ready_seconds of an instance that is nothing."""
        runner = runners.load("null")
        spec = Spec(argv=("nothing",), rootfs=Path("/"), memory_bytes=0, cpus=1)
        where = Scratch(directory=Path("/"), cache=self.cache, cgroup=None, prefix=self.prefix)
        with runner.prepare(spec, {}, where) as prepared:
            readings = [self._start_nothing(prepared.launch, interrupts) for _ in range(_NULL_STARTS)]
        cuts = statistics.quantiles(readings, n=20)
        return cuts[-1] - cuts[0]

    def _start_nothing(self, launch: Launch, interrupts: Interrupts) -> float:
        """The ready_seconds of an instance that is nothing; again, but not for ever, where the host stood still."""
        reason = ""
        for _ in range(1 + stalls.MOST_REPEATS):
            one = startup.start_and_stop(launch, "null", _NULL_CONTRACT, interrupts=interrupts, cpu_ns=None)
            if one.status == "ok":
                return one.values["ready_seconds"]
            interrupts.check()
            reason = one.reason
        raise HostError(
            "the resolution of the instrument cannot be measured",
            reason,
            "check what else runs on this host, then run again",
        )

    def _amend(self, **changes: Any) -> None:
        self.header = msgspec.structs.replace(self.header, **changes)

    def _owner(self, name: str) -> str:
        """The subject whose instance's name occurs in *name*; the longest: tare-1a2b-1 is part of tare-1a2b-12."""
        found = [instance for instance in self.owners if instance in name]
        return self.owners[max(found, key=len)] if found else ""
