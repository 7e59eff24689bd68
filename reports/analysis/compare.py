"""One subject compared with another: the ratio and its verdict, in figures and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import pandas as pd

from tare.bench.records.header import RunHeader
from tare.bench.records.metrics import Metric
from tare.bench.stats.compare import compare
from tare.reports import words
from tare.reports.analysis import noise, tables
from tare.reports.analysis.figures import Compared, Figure, SubjectFigures


def wanted(header: RunHeader) -> Iterator[tuple[str, str, Literal["reference", "pair"]]]:
    """Which subjects are compared: each with the reference, then the pairs that the scenario names."""
    labels = [subject.label for subject in header.subject_records()]
    seen: set[frozenset[str]] = set()
    for label in labels:
        reference = header.scenario.reference_of(label)
        if label != reference and reference in labels:
            seen.add(frozenset((label, reference)))
            yield label, reference, "reference"
    for first, second in header.scenario.pairs:
        pair = frozenset((first, second))
        if pair not in seen and len(pair) == 2 and pair <= set(labels):
            seen.add(pair)
            yield first, second, "pair"


def judge(
    subject: SubjectFigures,
    reference: SubjectFigures,
    metric: Metric,
    series: tuple[Sequence[float], Sequence[float]],
    *,
    why_compared: Literal["reference", "pair", "run"],
    resolution_seconds: float,
    paired: bool = True,
) -> Compared:
    """Hold one metric of *subject* against *reference*, given both round medians, and put the verdict into words."""
    mine, theirs = subject.figure(metric.name), reference.figure(metric.name)
    base = Compared(
        subject=subject.label,
        reference=reference.label,
        metric=metric.name,
        title=metric.title,
        unit=metric.unit,
        why_compared=why_compared,
        verdict="no figure",
        word="no figure",
        lead="",
        detail="",
        subject_median=mine.median,
        reference_median=theirs.median,
        emulated="emulated" in (subject.result_class, reference.result_class),
    )
    # What scatters alike in both may have a ratio that does not: it has an interval of its own.
    missing = {s.label: f.why for s, f in ((subject, mine), (reference, theirs)) if f.median is None and not _wide(f)}
    if missing:
        refused = next((f.refused for f in (mine, theirs) if f.refused is not None), None)
        return _said(msgspec.structs.replace(base, refused=refused), because=words.no_figures(missing))
    if min(map(len, series)) == 0:
        found = msgspec.structs.replace(base, verdict="not enough rounds", word="not enough rounds")
        return _said(found)
    if min(*series[0], *series[1]) <= 0:
        return _said(base, because="a ratio needs values above zero")
    resolution = resolution_seconds if metric.unit == "seconds" else 0.0
    result = compare(*series, resolution=resolution, paired=paired)
    refused = noise.refuse(result.ratio, "ratio", ends=(result.low, result.high), rounds=result.rounds)
    if refused is not None:
        return _said(msgspec.structs.replace(base, refused=refused), because=f"no ratio: {refused.sentence}")
    found = msgspec.structs.replace(
        base,
        verdict=result.verdict,
        word=words.word(result.verdict, metric.unit),
        ratio=result.ratio,
        low=result.low,
        high=result.high,
        p=result.p,
        rounds=result.rounds,
        threshold=result.threshold,
    )
    return _said(found, and_also=words.torn(((subject.label, mine), (reference.label, theirs))))


def _wide(figure: Figure) -> bool:
    """Whether *figure* is refused for its spread alone."""
    return figure.refused is not None and figure.refused.reason == "spread"


def _said(found: Compared, *, because: str = "", and_also: str = "") -> Compared:
    mark = f" ({words.EMULATED})" if because and found.emulated else ""
    detail = f"{because}{mark}." if because else words.grounds(found)
    return msgspec.structs.replace(found, lead=words.lead(found), detail=detail + and_also)


def compare_within(
    header: RunHeader, metrics: Sequence[Metric], medians: pd.DataFrame, subjects: Sequence[SubjectFigures]
) -> Iterator[Compared]:
    """Every comparison of one run: metric by metric, each subject against the reference, then the pairs."""
    by_label = {subject.label: subject for subject in subjects}
    for metric in metrics:
        for label, reference, why in wanted(header):
            yield judge(
                by_label[label],
                by_label[reference],
                metric,
                tables.paired(medians, (label, metric.name), (reference, metric.name)),
                why_compared=why,
                resolution_seconds=header.resolution_seconds,
            )
