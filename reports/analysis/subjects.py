"""What the report says of one subject: its class of result, how its trials ended, its figures and its phases.

The method (docs/explanation/method.md): the round is the unit of replication; a subject that fails too often has no
figure; a software-emulated machine is another class of result and every sentence about it says so.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence

import msgspec
import pandas as pd

from tare.bench.records.header import SubjectRecord
from tare.bench.records.metrics import Metric
from tare.bench.records.store import Run
from tare.bench.stats.estimate import estimate, tails
from tare.bench.stats.modes import modes
from tare.reports import words
from tare.reports.analysis import noise, tables
from tare.reports.analysis.figures import Class, Counts, Figure, Mode, Refused, SubjectFigures
from tare.reports.analysis.noise import Disturbance
from tare.reports.analysis.phases import phases
from tare.reports.sections import Groundwork, Section
from tare.runners import layers
from tare.runners.base import Accelerator

_CLASSES: dict[Accelerator | None, Class] = {
    None: "native",
    "kvm": "accelerated",
    "uml": "user-mode",
    "tcg": "emulated",
}


def result_class(subject: SubjectRecord) -> Class:
    """Which class of result a subject gives; results of different classes are never ranked together."""
    return _CLASSES[subject.accelerator]


def count(run: Run, subject: SubjectRecord) -> Counts:
    """How the subject's trials ended."""
    mine = [outcome for outcome in tables.last_outcomes(run).values() if outcome.subject == subject.label]
    tried = [outcome.status for outcome in mine if outcome.kind == "measured" and outcome.status != "skipped"]
    ended = [status for status in tried if status != "invalid"]
    warmups = [outcome.status for outcome in mine if outcome.kind == "warmup" and outcome.status != "skipped"]
    return Counts(
        planned=sum(trial.subject == subject.label and trial.kind == "measured" for trial in run.header.plan),
        started=len(ended),
        ready=ended.count("ok"),
        failed=ended.count("failed"),
        timeout=ended.count("timeout"),
        invalid=tried.count("invalid"),
        warmups=len(warmups),
        warmups_failed=sum(status != "ok" for status in warmups),
    )


def figure(
    frame: pd.DataFrame, medians: pd.DataFrame, label: str, metric: Metric, why: str, *, resolution_seconds: float
) -> Figure:
    """One metric of one subject; without numbers when *why* says that there may be none."""
    empty = Figure(metric=metric.name, unit=metric.unit, title=metric.title)
    single = tables.values(frame, label, metric.name)
    per_round = tables.series(medians, label, metric.name)
    if why or per_round.empty:
        return msgspec.structs.replace(empty, why=why or "no figure: not measured", n=len(single))
    centre, (p95, p99) = estimate(per_round.to_numpy()), tails(single["value"].to_numpy())
    return msgspec.structs.replace(
        empty,
        median=centre.median,
        low=centre.low,
        high=centre.high,
        p95=p95,
        p99=p99,
        n=len(single),
        rounds=len(per_round),
        outliers=int(single["outlier"].sum()),
        modes=tuple(
            Mode(value=one.value, share=one.share)
            for one in modes(single["value"].to_numpy(), resolution=_resolution(metric, resolution_seconds))
        ),
    )


def _resolution(metric: Metric, seconds: float) -> float:
    """The smallest step that the instrument tells apart, in the unit of *metric*; memory is counted in pages."""
    return {"seconds": seconds, "bytes": float(mmap.PAGESIZE), "count": 1.0}.get(metric.unit, 0.0)


def subject_figures(
    run: Run,
    frame: pd.DataFrame,
    medians: pd.DataFrame,
    subject: SubjectRecord,
    section: Section,
    metrics: Sequence[Metric],
    ground: Groundwork,
    meanwhile: Disturbance,
) -> SubjectFigures:
    """All that the report says of one subject; *meanwhile* is what other processes of the host did."""
    counts = count(run, subject)
    why = f"skipped: {subject.skipped}" if subject.skipped else words.no_figure(counts)
    claims = {name: f"no claim: {why}" for name, why in ground.unclaimed.get(subject.label, {}).items()}
    refused = ground.refused.get(subject.label, {})
    figures = tuple(
        judged(
            figure(
                frame,
                medians,
                subject.label,
                metric,
                why or claims.get(metric.name, ""),
                resolution_seconds=run.header.resolution_seconds,
            ),
            metric,
            refused.get(metric.name),
            meanwhile,
        )
        for metric in metrics
    )
    # What the host did to the whole it did to its parts.
    spoilt = any(one.refused is not None for one in figures if one.metric == section.primary)
    return SubjectFigures(
        **msgspec.structs.asdict(subject),
        kind=layers.kind(subject.runner, subject.layers),
        result_class=result_class(subject),
        counts=counts,
        figures=figures,
        phases=tuple(phases(frame, medians, subject.label)) if section.phases and not (why or spoilt) else (),
    )


def judged(found: Figure, metric: Metric, refused: Refused | None, meanwhile: Disturbance) -> Figure:
    """*found* as it may be shown: without its numbers where the host spoilt it."""
    if refused is not None and found.median is not None:
        return noise.withdrawn(found, refused)
    return noise.of_figure(found, metric, meanwhile)


def ordered(subjects: Sequence[SubjectFigures]) -> tuple[list[SubjectFigures], list[SubjectFigures]]:
    """Native and accelerated subjects, and the emulated ones, each in the order of the scenario."""
    shown = [subject for subject in subjects if not subject.skipped]
    emulated = [subject for subject in shown if subject.result_class == "emulated"]
    return [subject for subject in shown if subject.result_class != "emulated"], emulated
