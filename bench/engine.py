"""Plan to records: the trial loop. It knows no backend by name.

A run goes: lock the scale, open the pan, weigh the empty pan, probe and prepare each subject, then the trials in the
order of the plan, each appended to disk before the next begins; then helpers stop, the audit looks for leaks, and the
header gets its end. An interruption takes the same way out.
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
from tare.bench.errors import HostError, Interrupted, NothingToRunError, TareError, UsageError
from tare.bench.experiments import prepare, start, startup
from tare.bench.experiments.prepare import Place, Ready
from tare.bench.experiments.probing import Prober
from tare.bench.experiments.trial import Reading
from tare.bench.host import audit, by_name, caches, conditions, descriptors, facts, ksm, run_cgroup, workspace
from tare.bench.host.interrupts import Interrupts
from tare.bench.monitor import Monitor
from tare.bench.readings import stalls
from tare.bench.records import inputs, store
from tare.bench.records.metrics import METRICS
from tare.bench.records.rows import Outcome, RunHeader, RunState, Sample, Trial
from tare.bench.scenario import plan
from tare.bench.scenario.resolve import Scenario
from tare.runners import layers
from tare.runners.base import Launch, RunnerError, Scratch, Spec

#: How often the empty pan is weighed before the first trial.
_EMPTY_WEIGHINGS = 100
_LEAST_CONTRACT = start.Contract(ready="ready", timeout_s=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a run ended. ``failed`` counts trials that were started and did not end well."""

    path: Path
    header: RunHeader
    failed: int


def run(planned: plan.Plan, results: Path, cache: Path, monitor: Monitor) -> Result:
    """Measure *planned* into a new directory below *results*.

    Raises UsageError (another run measures, results not writable), HostError (cold caches impossible),
    NothingToRunError (every subject was skipped; the directory says why) and Interrupted (what was measured is kept).
    """
    scenario = planned.scenario
    with workspace.locked():
        if scenario.run.cache == "cold":
            caches.require()
        if scenario.stack.ksm:
            ksm.require()
        started = datetime.now(UTC)
        token = secrets.token_hex(2)
        header = RunHeader(
            run=f"{started:%Y%m%dT%H%M%SZ}-{store.file_name(scenario.name)}-{token}",
            tare_version=metadata.version("tarebench"),
            git=facts.git_revision(),
            started_at=started.isoformat(timespec="seconds"),
            name=scenario.name,
            question=scenario.question,
            scenario_text=scenario.text,
            scenario=msgspec.to_builtins(scenario),
            seed=scenario.run.seed,
            rounds=scenario.run.rounds,
            warmup=scenario.run.warmup,
            cache=scenario.run.cache,
            ready=scenario.run.ready,
            timeout_s=scenario.run.timeout_s,
            reference=scenario.reference,
            pairs=scenario.pairs,
            plan=planned.trials,
            host=facts.collect(),
            versions=facts.versions(),
        )
        path = store.create(results, header.run)
        return _Session(path, header, scenario, cache, monitor).measure(planned.trials)


def resume(path: Path, cache: Path, monitor: Monitor) -> Result:
    """Run what is missing of the run at *path*: trials that have no outcome.

    Raises UsageError when the run is complete, or when anything that has a part in measuring is no longer what it was
    (:mod:`bench.host.conditions`): numbers of two conditions never share a directory.
    """
    with workspace.locked():
        recorded = store.load(path)
        header = recorded.header
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
            scenario = msgspec.convert(header.scenario, Scenario)
            _check_plan(scenario, header)
        store.trim(path)
        warnings = (*header.warnings, f"interrupted, and resumed at {datetime.now(UTC).isoformat(timespec='seconds')}")
        header = msgspec.structs.replace(header, state="running", finished_at="", warnings=warnings)
        return _Session(path, header, scenario, cache, monitor).measure(missing)


def _check_plan(scenario: Scenario, header: RunHeader) -> None:
    """Raise ValueError for a header whose plan and subjects no scenario gave."""
    labels = {subject.label for subject in scenario.subjects}
    for planned in header.plan:
        if planned.subject not in labels:
            raise ValueError(f"its plan names '{planned.subject}', which is not a subject of its scenario")
    for subject in scenario.subjects:
        if subject.runner not in runners.REGISTRY:
            raise ValueError(f"there is no runner '{subject.runner}'")


class _Session:
    """One stretch of measuring, from prepared subjects to a header that is closed."""

    def __init__(self, path: Path, header: RunHeader, scenario: Scenario, cache: Path, monitor: Monitor) -> None:
        self.header = header
        self.path = path
        self.scenario = scenario
        self.cache = cache
        self.monitor = monitor
        # A new name for each stretch: what a killed one left must not look like ours.
        self.prefix = workspace.new_prefix()
        self.owners: dict[str, str] = {}
        self.failed = 0
        self.numbers = itertools.count(1)
        self.pan: run_cgroup.Pan | None = None

    def measure(self, trials: tuple[Trial, ...]) -> Result:
        state: RunState = "failed"
        with ExitStack() as stack:
            interrupts = stack.enter_context(Interrupts())
            stack.enter_context(self._told(interrupts))
            writer = stack.enter_context(store.RunWriter(self.path))
            writer.header(self.header)
            try:
                scratch = stack.enter_context(workspace.scratch(self.prefix))
                self.pan = stack.enter_context(run_cgroup.opened(self.prefix))
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
        prober = Prober(
            scenario=self.scenario,
            place=Place(
                scratch=scratch, cache=self.cache, cgroup=self.pan.load if self.pan else None, prefix=self.prefix
            ),
            pan=self.pan,
            interrupts=interrupts,
            alive=self.monitor.alive,
            watch=stalls.Watch(),
        )
        with prober.watch, ExitStack() as helpers:
            if self.scenario.probe != "startup":
                helpers.enter_context(descriptors.all_allowed())
                if self.pan:
                    floor = self.scenario.stack.floor_percent / 100
                    self.pan.ceiling(round(self.header.host.memory_bytes * (1 - floor)))
            self._amend(resolution_seconds=self._weigh_empty_pan(interrupts))
            ready = self._bring_up(writer, prober.place, interrupts, helpers)
            trials = tuple(planned for planned in trials if planned.subject in ready)
            gc.collect()
            gc.disable()  # a collection in the middle of a start would be counted as the start's
            helpers.callback(gc.enable)
            for position, planned in enumerate(trials, start=1):
                interrupts.check()
                self.monitor.starting(planned, position, len(trials))
                self._until_valid(planned, ready[planned.subject], writer, prober)

    def _bring_up(
        self, writer: store.RunWriter, place: Place, interrupts: Interrupts, helpers: ExitStack
    ) -> dict[str, Ready]:
        """Probe and prepare every subject that a stretch before this one did not skip."""
        known = {record.label: record for record in self.header.subjects}
        enforced = "memory" if self.scenario.probe == "least-memory" else ""
        ready: dict[str, Ready] = {}
        for position, subject in enumerate(self.scenario.subjects):
            if subject.label in known and known[subject.label].skipped:
                continue
            interrupts.check()
            self.monitor.preparing(subject.label)
            brought = prepare.bring_up(subject, self.scenario.rootfs, place, str(position), helpers, enforced=enforced)
            self.monitor.probed(subject.label, brought.support)
            prepare.require_same_class(known.get(subject.label), brought.record)
            record = brought.record
            if brought.prepared is None:
                writer.trial((), prepare.skipped_outcome(record))
            else:
                files = writer.manifest(subject.label, dict(brought.prepared.manifest))
                record = msgspec.structs.replace(record, manifest=files)
                ready[subject.label] = Ready(subject, brought.prepared, record)
            known[subject.label] = record
        self._amend(subjects=tuple(known[subject.label] for subject in self.scenario.subjects))
        writer.header(self.header)
        if all(layers.is_null(one.record.runner) for one in ready.values()):
            reasons = "; ".join(f"{one.label}: {one.skipped}" for one in self.header.subjects if one.skipped)
            fixes = {one.fix for one in self.header.subjects if one.skipped}
            fix = (fixes.pop() if len(fixes) == 1 else "") or "`tare doctor` says what to install"
            raise NothingToRunError("no subject can be measured on this host", reasons, fix)
        return ready

    def _until_valid(self, planned: Trial, ready: Ready, writer: store.RunWriter, prober: Prober) -> None:
        """Run a trial; repeat it while it is invalid, a limited number of times."""
        for left in range(stalls.MOST_REPEATS, -1, -1):
            outcome = self._one(planned, ready, writer, prober, f"{self.prefix}-{next(self.numbers)}")
            gc.collect()
            if outcome.status != "invalid":
                return
            again = "repeated" if left else f"invalid {1 + stalls.MOST_REPEATS} times; not tried again"
            self._amend(warnings=(*self.header.warnings, f"{planned.id}: {outcome.reason}; {again}"))
            prober.interrupts.check()
        self.failed += 1

    def _one(self, planned: Trial, ready: Ready, writer: store.RunWriter, prober: Prober, name: str) -> Outcome:
        if self.scenario.run.cache == "cold" and not caches.drop():
            self._amend(warnings=(*self.header.warnings, f"{planned.id}: the disks were not quiet when it started"))
        self.owners[name] = planned.subject
        weighing = prober.weigh(ready, name)
        if weighing.status != "ok":  # after a signal that says nothing of the subject: a resumed run tries again
            prober.interrupts.check()
        self._amend(warnings=(*self.header.warnings, *(f"{planned.id}: {text}" for text in weighing.warnings)))
        status, reason = weighing.status, weighing.reason
        values = ((metric, value) for reading in weighing.readings for metric, value in reading.values.items())
        doubts = [METRICS[metric].implausible(value) for metric, value in values]
        if status == "ok" and any(doubts):
            status, reason = "failed", "; ".join(filter(None, doubts))
        writer.output(planned.subject, planned.id, weighing.console)
        log = ""
        if status in ("failed", "timeout") or weighing.lost:
            self.failed += 1
            log = writer.log(planned.id, f"{reason}\n\nThe end of its console:\n{weighing.console}\n")
        outcome = Outcome(
            trial=planned.id,
            subject=planned.subject,
            kind=planned.kind,
            round=planned.round,
            order=planned.order,
            status=status,
            reason=reason,
            log=log,
            reached=weighing.reached,
            lost=weighing.lost,
            stopped_by=weighing.stopped_by,
        )
        # Only a trial that kept the contract has figures: those of a broken one would mean something else. Those of an
        # invalid one are kept, and do not count.
        readings = weighing.readings if status in ("ok", "invalid") else ()
        invalid = reason if status == "invalid" else ""
        writer.trial(self._samples(planned, weighing.at_ns, readings, invalid), outcome)
        self.monitor.ended(outcome, weighing.values if status == "ok" else {})
        return outcome

    def _samples(self, planned: Trial, at_ns: int, readings: Iterable[Reading], invalid: str) -> Iterator[Sample]:
        for reading in readings:
            for metric, value in reading.values.items():
                yield Sample(
                    run=self.header.run,
                    trial=planned.id,
                    scenario=self.header.name,
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
                    stage=reading.stage,
                    invalid=reading.invalid or invalid,
                )

    def _weigh_empty_pan(self, interrupts: Interrupts) -> float:
        """The instrument's resolution: the spread (p95 - p5) of ready_seconds of an instance that is nothing."""
        runner = runners.load("null")
        spec = Spec(argv=("nothing",), rootfs=Path("/"), memory_bytes=0, cpus=1)
        where = Scratch(directory=Path("/"), cache=self.cache, cgroup=None, prefix=self.prefix)
        with runner.prepare(spec, {}, where) as prepared:
            readings = [self._weigh_nothing(prepared.launch, interrupts) for _ in range(_EMPTY_WEIGHINGS)]
        cuts = statistics.quantiles(readings, n=20)
        return cuts[-1] - cuts[0]

    def _weigh_nothing(self, launch: Launch, interrupts: Interrupts) -> float:
        """The ready_seconds of an instance that is nothing; again, but not for ever, where the host stood still."""
        reason = ""
        for _ in range(1 + stalls.MOST_REPEATS):
            one = startup.weigh(launch, "empty", _LEAST_CONTRACT, interrupts=interrupts, cpu_ns=None)
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
