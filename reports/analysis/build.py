"""Run -> Report: every figure of the report, once, for all renderers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tare.bench.records import readiness
from tare.bench.records.header import AttemptResolution, Host, RunHeader
from tare.bench.records.metrics import METRICS
from tare.bench.records.store import Run
from tare.bench.scenario.plan import rounds_of
from tare.reports import sections, words
from tare.reports.analysis import noise, tables
from tare.reports.analysis.calibration import calibrate
from tare.reports.analysis.claims import several_modes
from tare.reports.analysis.compare import compare_within
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Contract, Failure, HostFacts, MergedRun, Precise, Report
from tare.reports.analysis.several.agreement import disagreements
from tare.reports.analysis.subjects import subject_figures
from tare.reports.sections import Found, Section


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """A run and all that was made of it: the report, which is data, and the tables that charts draw from.

    ``frame`` and ``medians`` are those of :mod:`reports.analysis.tables`; ``drawn`` is the section's own.
    """

    run: Run
    report: Report
    section: Section
    frame: pd.DataFrame
    medians: pd.DataFrame
    drawn: Any


def analyse(run: Run, sizes: Sequence[object] = ()) -> Analysed:
    """Compute the report of *run*. Works on partial runs too: what is missing is said, not guessed.

    *sizes* are hosts to predict for, besides this one. Raises UsageError where the run predicts nothing.
    """
    header, section = run.header, sections.of(sections.experiment(run.header))
    ground = section.analyse(run, sizes)
    frame = tables.samples(run, ground.derived)
    medians = tables.round_medians(frame)
    meanwhile = noise.disturbance(run)
    metrics = tables.asked_for(frame, section.metrics)
    subjects = tuple(
        subject_figures(run, frame, medians, subject, section, metrics, ground, meanwhile)
        for subject in header.subject_records()
    )
    comparisons = tuple(compare_within(header, metrics, medians, subjects))
    found = Found(
        header=header, subjects=subjects, comparisons=comparisons, analysis=ground.analysis,
        calibration=calibrate(header, medians, subjects, comparisons),
    )  # fmt: skip
    rounds_done = _rounds_done(run)
    report = Report(
        run=header.run,
        name=header.scenario.name,
        question=header.scenario.question,
        state=header.state,
        complete=header.state == "complete",
        status=_status(header, rounds_done),
        started_at=header.started_at,
        finished_at=header.finished_at,
        tare_version=header.tare_version,
        git=header.git,
        versions=header.versions,
        reference=header.scenario.reference,
        references=tuple(sorted(header.scenario.references)),
        metric=section.primary,
        experiment=sections.experiment(header),
        probe=sections.experiment(header),
        rounds_done=rounds_done,
        lead=section.lead(found),
        answer=tuple(section.answer(found)),
        subjects=subjects,
        comparisons=comparisons,
        calibration=found.calibration,
        failures=tuple(_failures(run)),
        leaks=header.leaks,
        warnings=(*_warnings(header), *several_modes(subjects)),
        notes=(*_notes(run), *ground.notes),
        contract=_contract(header, subjects),
        precision=_precision(header),
        host=_host(header.host),
        limits=tuple(section.limits(found)),
        quantities=section.quantities(found),
        scenario_text=header.scenario.text,
        merged=tuple(map(_merged, run.merged)),
        unlike=run.unlike,
        disagreements=tuple(_disagreements(run, medians, subjects, section)),
        analysis=ground.analysis,
    )
    return Analysed(run=run, report=report, section=section, frame=frame, medians=medians, drawn=ground.drawn)


def _rounds_done(run: Run) -> int:
    """Rounds in which every planned trial has an outcome."""
    ended = {outcome.trial for outcome in run.outcomes}
    skipped = {subject.label for subject in run.header.subject_records() if subject.skipped}
    rounds: dict[int, bool] = {}
    for trial in run.header.plan:
        if trial.kind == "measured" and trial.subject not in skipped:
            rounds[trial.round] = rounds.get(trial.round, True) and trial.id in ended
    return sum(rounds.values())


def _merged(run: Run) -> MergedRun:
    header = run.header
    return MergedRun(
        run=header.run,
        started_at=header.started_at,
        finished_at=header.finished_at,
        state=header.state,
        rounds=_rounds_done(run),
        seed=header.scenario.run.seed,
    )


def _disagreements(
    run: Run, medians: pd.DataFrame, subjects: Sequence[SubjectFigures], section: Section
) -> Iterator[str]:
    """Whether merged runs tell the same of what the answer is about, for each subject that has a figure of it."""
    labels = [subject.label for subject in subjects if subject.figure(section.primary).median is not None]
    metric = next(metric for metric in section.metrics if metric.name == section.primary)
    return disagreements(run, medians, labels, metric)


def _status(header: RunHeader, rounds_done: int) -> str:
    done = f"{rounds_done} of {words.plural(rounds_of(header.plan) or header.scenario.run.rounds, 'round')} done"
    match header.state:
        case "complete":
            return f"complete: {done}"
        case "running":
            return f"not complete: {done}; the run is still going on, or it was killed"
        case "interrupted":
            return f"not complete: interrupted, {done}"
        case "failed":
            return f"failed: {done}; make no claim from its numbers"


def _failures(run: Run) -> Iterator[Failure]:
    for outcome in tables.last_outcomes(run).values():
        if outcome.status in ("failed", "timeout", "invalid"):
            yield Failure(
                trial=outcome.trial,
                subject=outcome.subject,
                kind=outcome.kind,
                round=outcome.round,
                status=outcome.status,
                reason=outcome.reason,
                fix=outcome.fix,
                log=outcome.log,
            )


def _warnings(header: RunHeader) -> Iterator[str]:
    seen = set()
    findings = (
        f"{finding.name}: {finding.what}" + (f" ({finding.fix})" if finding.fix else "")
        for finding in header.host.findings
        if finding.level != "ok"
    )
    for warning in (*header.warnings, *findings):
        if warning not in seen:
            seen.add(warning)
            yield warning


def _notes(run: Run) -> Iterator[str]:
    yield from run.notes
    unknown = sorted({sample.metric for sample in run.samples} - METRICS.keys())
    if unknown:
        yield f"metrics that this tare does not know are left out: {', '.join(unknown)}"
    labels = {subject.label for subject in run.header.subject_records()}
    strangers = sorted({sample.subject for sample in run.samples} - labels)
    if strangers:
        yield f"samples of subjects that the header does not name are left out: {', '.join(strangers)}"


def _how_exactly(attempts: AttemptResolution) -> str:
    """What follows the sentence of a contract that is awaited by attempts."""
    period, attempt, resolution = (
        words.quantity(value, "seconds")
        for value in (attempts.period_seconds, attempts.attempt_seconds, attempts.resolution_seconds)
    )
    return f" (asked every {period}; the asking takes {attempt}; so this is known to {resolution})"


def _contract(header: RunHeader, subjects: Sequence[SubjectFigures]) -> Contract:
    memory = tuple(sorted({subject.memory_bytes for subject in subjects}))
    cpus = tuple(sorted({subject.cpus for subject in subjects}))
    argv = tuple(dict.fromkeys(subject.argv for subject in subjects if subject.argv))
    run = header.scenario.run
    seen = {one.by: _how_exactly(one) for one in header.attempts}
    asked = dict.fromkeys(one.ready(run) for one in header.scenario.subjects)
    when = tuple(f"{readiness.sentence(one)}{seen.get(readiness.kind(one), '')}" for one in asked)
    images = {one.workload.image if one.workload else "" for one in header.scenario.subjects}
    parts = (
        ("the workload's command", argv), ("its image", images), ("when it counts as ready", when), ("memory", memory),
        ("processors", cpus),
    )  # fmt: skip
    differ = [name for name, values in parts if len(values) > 1]
    return Contract(
        sentence=(
            f"The subjects differ in {' and '.join(differ)}; everything else was the same."
            if differ
            else "Every subject ran the same workload under the same grant."
        ),
        ready=header.scenario.run.ready,
        ready_when=when,
        attempts_resolution_seconds=max((one.resolution_seconds for one in header.attempts), default=0.0),
        cache=header.scenario.run.cache,
        memory_bytes=memory,
        cpus=cpus,
        argv=argv,
        timeout_seconds=header.scenario.run.timeout_s,
        rounds=rounds_of(header.plan) or header.scenario.run.rounds,
        warmup=header.scenario.run.warmup,
        seed=header.scenario.run.seed,
    )


def _precision(header: RunHeader) -> Precise | None:
    """How the number of rounds came about, once it was looked at."""
    found = header.precision
    if found is None or not found.looks:
        return None
    look = found.looks[-1]
    label, half = look.widest
    return Precise(
        metric=found.metric,
        wanted=found.wanted,
        reached=half,
        widest=label,
        rounds=look.rounds,
        max_rounds=found.max_rounds,
        ended=found.ended,
        sentence=words.precision_found(found),
    )


def _host(host: Host) -> HostFacts:
    return HostFacts(
        cpu_model=host.cpu_model,
        cpus=host.cpus,
        memory_bytes=host.memory_bytes,
        kernel=host.kernel,
        cgroup_mode=host.cgroup_mode,
        virtualization=host.virtualization,
        facts=host.facts,
        findings=host.findings,
    )
