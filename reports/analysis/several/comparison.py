"""Two runs compared: ``tare compare BEFORE AFTER``.

Rounds of different runs are not paired. What must not differ (the contract, the class of result) refuses the
comparison; what may explain a difference (host, versions, options) is said beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from tare.bench.errors import UsageError
from tare.bench.host import conditions
from tare.bench.records import readiness
from tare.bench.records.header import ImageRecord, RunHeader, SubjectRecord
from tare.bench.records.store import Run
from tare.bench.stats.verdict import ALPHA, LEAST_CHANGE, RESOLUTIONS
from tare.reports import sections, words
from tare.reports.analysis import tables
from tare.reports.analysis.build import analyse
from tare.reports.analysis.claims import claim, several_modes
from tare.reports.analysis.compare import judge
from tare.reports.analysis.figures import Compared, SubjectFigures
from tare.reports.analysis.several.model import RunsComparison
from tare.reports.analysis.subjects import result_class
from tare.reports.sections import Section
from tare.runners import layers

#: So many changes are told in the first sentence, the largest ones.
_MOST_TOLD = 3
_HOST = ("machine_id", "cpu_model", "cpus", "memory_bytes", "kernel", "cgroup_mode", "virtualization")


def compare_runs(before: Run, after: Run) -> RunsComparison:
    """Every metric of every subject that both runs measured: *after* against *before*, unpaired.

    Raises UsageError when the runs share no subject, or when contract or class of result of a shared one differ.
    """
    first, second = before.header, after.header
    mine = {subject.label: subject for subject in first.subject_records()}
    theirs = {subject.label: subject for subject in second.subject_records()}
    shared = [label for label in mine if label in theirs]
    if not shared:
        raise UsageError(
            f"the runs {first.run} and {second.run} cannot be compared",
            f"they share no subject: {', '.join(mine) or 'none'} here, {', '.join(theirs) or 'none'} there",
            "compare two runs of the same scenario",
        )
    refused = [*contract(first, second)]
    for label in shared:
        refused += subject_contract(mine[label], theirs[label])
    if refused:
        raise UsageError(
            f"the runs {first.run} and {second.run} cannot be compared",
            f"their contracts differ: {'; '.join(refused)}",
            "run the same scenario twice with the same options, on hosts that both have KVM or both lack it",
        )
    measured = [label for label in shared if _ran(mine[label], theirs[label])]
    new, old = _weigh(after, measured), _weigh(before, measured)
    resolution = max(first.resolution_seconds, second.resolution_seconds)
    comparisons = tuple(_compare(new, old, resolution))
    main = [one for one in comparisons if one.metric == old.section.primary]
    lead, grounds = _lead(main)
    return RunsComparison(
        name=second.scenario.name,
        question=second.scenario.question,
        metric=old.section.primary,
        lead=lead,
        grounds=grounds,
        before=first.run,
        after=second.run,
        answer=tuple(claim(one) for one in sorted(main, key=lambda one: one.emulated)),
        comparisons=comparisons,
        only_before=tuple(label for label in mine if label not in theirs or theirs[label].skipped),
        only_after=tuple(label for label in theirs if label not in mine or mine[label].skipped),
        differs=(
            *_conditions(first, second),
            *_rules(first, second, shared),
            *(line for label in shared for line in _differs(mine[label], theirs[label])),
        ),
        warnings=(
            *_warnings(before, after),
            *(f"{first.run}: {text}" for text in several_modes(old.figures.values())),
            *(f"{second.run}: {text}" for text in several_modes(new.figures.values())),
        ),
    )


def _lead(main: Sequence[Compared]) -> tuple[str, str]:
    """The answer in a sentence, and what it rests on: which subjects changed in what the runs are about."""
    judged = [one for one in main if one.verdict in ("lower", "higher", "no difference shown")]
    changed = sorted(
        (one for one in judged if one.verdict != "no difference shown"),
        key=lambda one: abs(math.log(one.ratio or 1.0)),
        reverse=True,
    )
    if not judged:
        why = "; ".join(dict.fromkeys(f"{one.subject}: {one.detail.rstrip('.')}" for one in main))
        return "There is no answer yet.", f"No subject can be judged: {why or 'both runs measured none'}."
    about = words.about(judged[0].metric, judged[0].title)[1]
    of = words.plural(len(judged), "subject")
    if not changed:
        lead = f"No difference was shown {about}, in any of {of}."
    else:
        told = "; ".join(map(_change, changed[:_MOST_TOLD]))
        more = f"; and {len(changed) - _MOST_TOLD} more" if len(changed) > _MOST_TOLD else ""
        lead = f"{len(changed)} of {of} changed {about}: {told}{more}."
    n = min(one.rounds for one in judged)
    grounds = (
        f"At least {words.plural(n, 'round')} in each run, which are not paired. A change is told if p ≤ {ALPHA} and "
        f"it is at least {words.plain(100 * LEAST_CHANGE)} % and {words.plain(RESOLUTIONS)} times the resolution."
    )
    missing = len(main) - len(judged)
    return lead, grounds + (f" {words.plural(missing, 'subject')} cannot be judged." if missing else "")


def _change(one: Compared) -> str:
    before, after = (words.quantity(value, one.unit) for value in (one.reference_median, one.subject_median))
    mark = " (emulated)" if one.emulated else ""
    return f"{one.subject}{mark} {words.percent((one.ratio or 1.0) - 1)}, {before} to {after}"


def _ran(first: SubjectRecord, second: SubjectRecord) -> bool:
    return not first.skipped and not second.skipped


def contract(first: RunHeader, second: RunHeader) -> Iterator[str]:
    """What is not the same although the numbers would be of different things, field by field."""
    for name, one, other in (
        ("experiment", sections.experiment(first), sections.experiment(second)),
        ("cache", first.scenario.run.cache, second.scenario.run.cache),
        ("readiness", _when(first), _when(second)),
        ("image", _images(first), _images(second)),
        ("samepage merging", _rule(first, "ksm"), _rule(second, "ksm")),
        ("starts at once", _rule(first, "at_once"), _rule(second, "at_once")),
    ):
        if one != other and None not in (one, other):
            yield f"{name} is {one!r} in the first and {other!r} in the second"


def _when(header: RunHeader) -> str:
    """What ended a start, in words; each contract of the run once."""
    asked = header.scenario
    return "; ".join(dict.fromkeys(readiness.sentence(one.ready(asked.run)) for one in asked.subjects))


def _images(header: RunHeader) -> str:
    own = {one.workload.image if one.workload else header.scenario.rootfs for one in header.scenario.subjects}
    return ", ".join(sorted(image or "the built-in one" for image in own))


def _rule(header: RunHeader, key: str) -> object:
    """What the experiment's table says, if it has that key: a part of the contract of a ramp; None in older runs."""
    return next(iter(header.scenario.tables.values()), {}).get(key)


def subject_contract(first: SubjectRecord, second: SubjectRecord) -> Iterator[str]:
    """The same of one subject; nothing where one of the two runs could not start it."""
    if not _ran(first, second):
        return
    pairs: tuple[tuple[str, object, object], ...] = (
        ("layers of isolation", layers.kind(first.runner, first.layers), layers.kind(second.runner, second.layers)),
        ("class of result", result_class(first), result_class(second)),
        ("memory", f"{first.memory_bytes} bytes", f"{second.memory_bytes} bytes"),
        ("cpus", first.cpus, second.cpus),
        ("payload", " ".join(first.argv), " ".join(second.argv)),
        ("memory asked back", f"{first.reclaim_bytes} bytes", f"{second.reclaim_bytes} bytes"),
    )
    for name, one, other in pairs:
        if one != other:
            yield f"{first.label}: {name} is {one} in the first and {other} in the second"


def _differs(first: SubjectRecord, second: SubjectRecord) -> Iterator[str]:
    for name in ("runner", "version", "options", "walls", "unlimited", "reclaims"):
        one, other = getattr(first, name), getattr(second, name)
        if one != other:
            yield f"{first.label}: {name} was {spelled(one)}, is {spelled(other)}"
    if first.image and second.image and first.image.digest != second.image.digest:
        yield f"{first.label}: image was {_named(first.image)}, is {_named(second.image)}"
    yield from (f"{first.label}: {text}" for text in conditions.differences(first.facts, second.facts))


def _named(image: ImageRecord) -> str:
    return f"{image.source} ({image.digest or 'not read'})"


def _conditions(first: RunHeader, second: RunHeader) -> Iterator[str]:
    """What else was not the same; the hosts themselves, and the version of tare, are a warning."""
    then, now = (conditions.of_measuring(one.host, git=one.git, versions=one.versions) for one in (first, second))
    if first.host.machine_id != second.host.machine_id:
        del then["start of the host"]
    yield from conditions.differences(then, now)
    yield from conditions.differences(conditions.of_scenario(first), conditions.of_scenario(second))


def _rules(first: RunHeader, second: RunHeader, labels: Iterable[str]) -> Iterator[str]:
    """By which counts and steps subjects were measured; those of which the same is to be said in one line."""
    said: dict[str, list[str]] = {}
    for label in labels:
        for text in conditions.differences(*(conditions.of_subject(one, label) for one in (first, second))):
            said.setdefault(text, []).append(label)
    yield from (f"{', '.join(of)}: {text}" for text, of in said.items())


def spelled(value: object) -> str:
    """A value of a record, for a reader."""
    if isinstance(value, dict):
        return ", ".join(f"{key} = {item}" for key, item in value.items()) or "none"
    return (", ".join(value) if isinstance(value, tuple) else str(value)) or "none"


def _warnings(before: Run, after: Run) -> Iterator[str]:
    first, second = before.header, after.header
    hosts = [name for name in _HOST if getattr(first.host, name) != getattr(second.host, name)]
    if hosts:
        shown = [name for name in hosts if name != "machine_id"]
        yield "the hosts differ" + (
            ": "
            + "; ".join(f"{name} was {getattr(first.host, name)}, is {getattr(second.host, name)}" for name in shown)
            if shown
            else ": another machine of the same make"
        )
    if first.tare_version != second.tare_version:
        yield f"tare itself was {first.tare_version}, is {second.tare_version}"
    for header in (first, second):
        if header.state != "complete":
            yield f"{header.run} is not complete: its state is {header.state}"
        if header.leaks:
            yield f"{header.run} left {words.plural(len(header.leaks), 'thing')} on the host"
    for run in (before, after):
        yield from (f"{run.header.run}: {note}" for note in run.notes)


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two runs: round medians, and the figures of each subject that both runs measured, by its label."""

    section: Section
    medians: pd.DataFrame
    figures: dict[str, SubjectFigures]


def _weigh(run: Run, labels: Sequence[str]) -> _Side:
    analysed = analyse(run)
    figures = {subject.label: subject for subject in analysed.report.subjects if subject.label in labels}
    return _Side(analysed.section, analysed.medians, {label: figures[label] for label in labels})


def _compare(new: _Side, old: _Side, resolution: float) -> Iterator[Compared]:
    for metric in new.section.metrics:
        for label in new.figures:
            if not all(side.figures[label].has(metric.name) for side in (new, old)):
                continue
            values = (tables.series(side.medians, label, metric.name).tolist() for side in (new, old))
            yield judge(
                new.figures[label],
                old.figures[label],
                metric,
                (next(values), next(values)),
                why_compared="run",
                resolution_seconds=resolution,
                paired=False,
            )
