"""Plan to records: a run is begun, or goes on, under the lock of this host; :mod:`bench.trial_loop` measures it."""

from __future__ import annotations

import secrets
import shlex
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import msgspec

from tare import runners
from tare.bench import experiments
from tare.bench.errors import UsageError
from tare.bench.host import caches, conditions, facts, workspace
from tare.bench.monitor import Monitor
from tare.bench.records import inputs, run_writer, store
from tare.bench.records.header import SCHEMA_VERSION, RunHeader
from tare.bench.scenario.plan import Plan
from tare.bench.trial_loop import Result, TrialLoop


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
            run=f"{started:%Y%m%dT%H%M%SZ}-{run_writer.file_name(scenario.name)}-{token}",
            tare_version=metadata.version("tarebench"),
            git=facts.git_revision(),
            started_at=started.isoformat(timespec="seconds"),
            scenario=scenario,
            plan=planned.trials,
            host=facts.collect(),
            versions=facts.versions(),
        )
        path = run_writer.create(results, header.run)
        return TrialLoop(path, header, cache, monitor).measure(planned.trials)


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
        open_ended = bool(header.scenario.run.precision and not (header.precision and header.precision.ended))
        if not missing and not open_ended:
            fix = f"tare report {shlex.quote(str(path))}"
            raise UsageError(f"{path} is complete", "every trial has an outcome", fix)
        with inputs.parsing(f"{path / store.HEADER} is damaged", "restore it, or start a new run"):
            _check_plan(header)
        run_writer.trim(path)
        warnings = (*header.warnings, f"interrupted, and resumed at {datetime.now(UTC).isoformat(timespec='seconds')}")
        header = msgspec.structs.replace(header, state="running", finished_at="", warnings=warnings)
        loop = TrialLoop(path, header, cache, monitor)
        loop.rounds.recall(header.plan, recorded.outcomes, recorded.samples)
        return loop.measure(missing)


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
