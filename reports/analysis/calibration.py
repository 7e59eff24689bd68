"""What a run says about the instrument itself (docs/explanation/method.md, rule 15).

Three things can be in a run: a null subject, whose time to ready is what the instrument adds; subjects with a known
delay before ready, which must be recovered; pairs of the same subject, between which no difference may be called.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import pandas as pd

from tare.bench.records.header import RunHeader, SubjectRecord
from tare.bench.stats import estimate
from tare.reports import words
from tare.reports.analysis import tables
from tare.reports.analysis.figures import Compared, SubjectFigures
from tare.reports.analysis.model import Calibration, Delay, SamePair
from tare.runners import layers
from tare.runners.payload import Payload

_READY = "ready_seconds"


def calibrate(
    header: RunHeader, medians: pd.DataFrame, subjects: Sequence[SubjectFigures], comparisons: Sequence[Compared]
) -> Calibration:
    """All that this run tells of the instrument."""
    known = {subject.label for subject in subjects if _median(subject) is not None}
    delays = tuple(_delays(header, medians, known))
    pairs = tuple(_same_pairs(header, comparisons))
    null = next((subject for subject in subjects if layers.is_null(subject.runner) and subject.label in known), None)
    own = None if null is None else next(figure for figure in null.figures if figure.metric == _READY)
    found = Calibration(
        resolution_seconds=header.resolution_seconds,
        null_subject="" if null is None else null.label,
        null_seconds=None if own is None else own.median,
        null_low=None if own is None else own.low,
        null_high=None if own is None else own.high,
        delays=delays,
        pairs=pairs,
        judged=sum(pair.judged for pair in pairs),
        false_verdicts=sum(len(pair.called) for pair in pairs),
    )
    noisy = any(one.refused is not None for one in comparisons)
    return msgspec.structs.replace(found, sentences=tuple(_sentences(found, noisy=noisy)))


def delay_seconds(subject: SubjectRecord) -> float | None:
    """The delay that the subject's payload was told to make before ready, or None when it was told none."""
    return subject.payload.delay_ms / 1000 or None


def same(first: SubjectRecord, second: SubjectRecord) -> bool:
    """Whether two subjects are one and the same thing under two names."""
    return _identity(first) == _identity(second) and first.argv == second.argv


def _identity(subject: SubjectRecord) -> tuple[object, ...]:
    return subject.runner, subject.accelerator, subject.options, subject.memory_bytes, subject.cpus


def _without_delay(subject: SubjectRecord) -> Payload:
    return dataclasses.replace(subject.payload, delay_ms=0)


def _delays(header: RunHeader, medians: pd.DataFrame, known: set[str]) -> Iterator[Delay]:
    for subject in header.subject_records():
        asked = delay_seconds(subject)
        if not asked or subject.label not in known:
            continue
        plain = next(
            (
                other
                for other in header.subject_records()
                if not delay_seconds(other)
                and other.label in known
                and _identity(other) == _identity(subject)
                and _without_delay(other) == _without_delay(subject)
            ),
            None,
        )
        if plain is None:
            continue
        late, prompt = tables.paired(medians, (subject.label, _READY), (plain.label, _READY))
        if not late:
            continue
        gained = np.subtract(late, prompt)
        centre = estimate.estimate(gained.tolist())
        lower, upper = np.percentile(gained, (25, 75))
        yield Delay(
            subject=subject.label,
            without=plain.label,
            asked=asked,
            recovered=centre.median,
            low=centre.low,
            high=centre.high,
            bias=centre.median - asked,
            spread=float(upper - lower),
            rounds=len(late),
        )


def _same_pairs(header: RunHeader, comparisons: Sequence[Compared]) -> Iterator[SamePair]:
    by_label = {subject.label: subject for subject in header.subject_records()}
    for first, second in header.scenario.pairs:
        if first == second or first not in by_label or second not in by_label:
            continue
        if not same(by_label[first], by_label[second]):
            continue
        mine = [c for c in comparisons if {c.subject, c.reference} == {first, second}]
        judged = [c for c in mine if c.verdict in ("lower", "higher", "no difference shown")]
        called = tuple(c.metric for c in judged if c.verdict != "no difference shown")
        yield SamePair(first=first, second=second, judged=len(judged), called=called)


def _sentences(found: Calibration, *, noisy: bool) -> Iterator[str]:
    if found.null_seconds is not None:
        between = words.interval(found.null_low, found.null_high, "seconds")
        yield (
            f"The instrument itself takes {words.quantity(found.null_seconds, 'seconds')} (95 % CI {between}): "
            f"the time from request to ready of {found.null_subject}, which starts nothing."
        )
    if found.delays:
        worst = max(found.delays, key=lambda delay: abs(delay.bias))
        yield (
            f"Of {words.plural(len(found.delays), 'known delay')}, the least exact is {worst.subject}: "
            f"{words.quantity(worst.recovered, 'seconds')} instead of {words.quantity(worst.asked, 'seconds')}, "
            f"a bias of {words.signed(worst.bias, 'seconds')}."
        )
    if found.judged:
        yield (
            f"Identical subjects were compared {words.plural(found.judged, 'time')}; a difference was reported "
            f"{words.plural(found.false_verdicts, 'time')}, each time falsely."
            if found.false_verdicts
            else f"Identical subjects were compared {words.plural(found.judged, 'time')}; no difference was reported."
        )
    elif found.pairs and noisy:
        yield "Identical subjects were measured, but the run is too noisy to compare them."
    elif found.pairs:
        yield "Identical subjects were measured, but not in enough rounds to compare them."
    if found.resolution_seconds > 0:
        yield (
            f"The resolution of the instrument in this run is {words.quantity(found.resolution_seconds, 'seconds')}; "
            "a difference below three times that is never reported."
        )
    else:
        yield "This run has no record of its resolution: only the threshold of 5 % excludes small differences."


def _median(subject: SubjectFigures) -> float | None:
    return next((figure.median for figure in subject.figures if figure.metric == _READY), None)
