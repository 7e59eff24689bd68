"""Several runs of one host as one: ``tare report RUN RUN...``.

What is merged are rounds, the unit of replication. Each keeps the trials that were measured in it, gets a number that
no other has, and stays after those of the runs before: pairs are of one round, hence of one run, and what the host was
like in one run is never held against another. What must not differ between two runs that are compared
(:func:`reports.analysis.several.comparison.contract`) must not differ here either; whatever else a run may not go on
under (:mod:`bench.host.conditions`) is refused unless the user insists, and is said wherever the report is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from tare.bench.errors import UsageError
from tare.bench.host import conditions
from tare.bench.records.header import AttemptResolution, ProbedSubject, RunHeader
from tare.bench.records.rows import Outcome, Sample, Trial
from tare.bench.records.store import Run
from tare.reports.analysis.several import comparison
from tare.reports.analysis.several.agreement import rounds

_Row = TypeVar("_Row", Sample, Outcome)

#: What may differ between runs that are merged: how many rounds each has, and in which order they were made.
_FREE = frozenset(("rounds", "seed"))
#: Of a subject's record: files of its run, and what the contract of two runs holds already.
_OWN = frozenset(
    ("label", "manifest", "facts", "layers", "memory_bytes", "cpus", "argv", "reclaim_bytes", "accelerator")
)


def merge(parts: Sequence[Run], *, force: bool = False) -> Run:
    """One run with all rounds of *parts*, in the order in which those began.

    Raises UsageError, which names the fields, where they are not measurements of one thing, or where one is given
    twice; without *force* also where anything of the host, of tare, of the scenario or of a subject differs.
    """
    parts = sorted(parts, key=lambda run: (run.header.started_at, run.header.run))
    first = parts[0]
    for run in parts[1:]:
        refused = list(dict.fromkeys(_contract(first.header, run.header)))
        if refused:
            raise _cannot(
                first, run, f"they measure different things: {'; '.join(refused)}", "merge runs of one scenario"
            )
    _twice(parts)
    unlike = {run.header.run: list(dict.fromkeys(_unlike(first, run))) for run in parts[1:]}
    differ = {name: found for name, found in unlike.items() if found}
    if differ and not force:
        name, found = next(iter(differ.items()))
        run = next(run for run in parts if run.header.run == name)
        why = f"they were not made under the same conditions: {'; '.join(found)}"
        raise _cannot(first, run, why, "compare them with `tare compare`, or merge them all the same with --force")
    offsets = [sum(map(rounds, parts[:place])) for place in range(len(parts))]
    return Run(
        path=Path(),
        header=_header(parts, offsets),
        samples=tuple(
            row
            for run, offset, later in zip(parts, offsets, _later(parts), strict=True)
            for row in _samples(run, offset, later)
        ),
        outcomes=tuple(
            msgspec.structs.replace(row, log=_named(run, row.log))
            for run, offset in zip(parts, offsets, strict=True)
            for row in _moved(run, run.outcomes, offset)
        ),
        notes=tuple(f"{run.header.run}: {note}" for run in parts for note in run.notes),
        merged=tuple(parts),
        unlike=tuple(f"{name}: {text}" for name, found in differ.items() for text in found),
    )


def _cannot(first: Run, other: Run, why: str, fix: str) -> UsageError:
    return UsageError(f"the runs {first.header.run} and {other.header.run} cannot be merged", why, fix)


def _twice(parts: Sequence[Run]) -> None:
    seen: dict[str, Run] = {}
    for run in parts:
        if known := seen.get(run.header.run):
            why = f"{known.path} and {run.path} hold the same run"
            raise UsageError(f"the run {run.header.run} is given twice", why, "give each run once")
        seen[run.header.run] = run


def _contract(first: RunHeader, other: RunHeader) -> Iterator[str]:
    """What two runs that are merged may never differ in."""
    yield from comparison.contract(first, other)
    mine = {subject.label: subject for subject in first.subject_records()}
    for subject in other.subject_records():
        if subject.label in mine:
            yield from comparison.subject_contract(mine[subject.label], subject)


def _unlike(first: Run, other: Run) -> Iterator[str]:
    """What they differ in besides, field by field."""
    one, two = first.header, other.header
    if first.schema != other.schema:
        yield f"schema of the records was {first.schema}, is {other.schema}"
    yield from conditions.parted(one, two.host, tare_version=two.tare_version, git=two.git, versions=two.versions)
    yield from conditions.differences(_scenario(one), _scenario(two))
    for label in dict.fromkeys(subject.label for header in (one, two) for subject in header.subjects):
        yield from (f"{label}: {text}" for text in _subject(one, two, label))


def _scenario(header: RunHeader) -> dict[str, str]:
    scenario, asked = header.scenario, conditions.of_scenario(header)
    named = {name: value for name, value in asked.items() if name not in _FREE}
    return named | {
        "scenario": scenario.name,
        "reference": scenario.reference,
        "pairs": ", ".join(f"{one} and {other}" for one, other in scenario.pairs),
        "prices": ", ".join(scenario.prices),
    }


def _subject(first: RunHeader, other: RunHeader, label: str) -> Iterator[str]:
    found = [next((one for one in header.subject_records() if one.label == label), None) for header in (first, other)]
    mine, theirs = found
    if mine is None or theirs is None:
        yield f"it is in {(other if mine is None else first).run} alone"
        return
    if bool(mine.skipped) != bool(theirs.skipped):
        yield f"it was skipped in {(first if mine.skipped else other).run}"
        return
    for name in mine.__struct_fields__:
        before, after = getattr(mine, name), getattr(theirs, name)
        if name not in _OWN and before != after:
            yield f"{name} was {comparison.spelled(before)}, is {comparison.spelled(after)}"
    yield from conditions.differences(mine.facts, theirs.facts)
    yield from conditions.differences(*(conditions.of_subject(header, label) for header in (first, other)))


def _header(parts: Sequence[Run], offsets: Sequence[int]) -> RunHeader:
    headers = [run.header for run in parts]
    first, scenario = headers[0], headers[0].scenario
    ended = [header.finished_at for header in headers if header.finished_at]
    known = {subject.label: subject for header in headers for subject in header.scenario.subjects}
    return msgspec.structs.replace(
        first,
        run=_all([header.run for header in headers]),
        finished_at=max(ended, default=""),
        state=next((header.state for header in headers if header.state != "complete"), "complete"),
        scenario=msgspec.structs.replace(
            scenario,
            run=msgspec.structs.replace(scenario.run, rounds=sum(map(rounds, parts))),
            subjects=tuple(known.values()),
        ),
        subjects=tuple(_subjects(parts)),
        plan=tuple(trial for run, offset in zip(parts, offsets, strict=True) for trial in _plan(run, offset)),
        resolution_seconds=max(header.resolution_seconds for header in headers),
        attempts=_least_exact(headers),
        precision=None,
        leaks=tuple(leak for header in headers for leak in header.leaks),
        warnings=tuple(f"{header.run}: {text}" for header in headers for text in header.warnings),
        host=msgspec.structs.replace(
            first.host, findings=tuple(dict.fromkeys(one for header in headers for one in header.host.findings))
        ),
    )


def _least_exact(headers: Sequence[RunHeader]) -> tuple[AttemptResolution, ...]:
    """Of each contract the run that saw it least exactly."""
    found: dict[str, AttemptResolution] = {}
    for one in (one for header in headers for one in header.attempts):
        if one.by not in found or one.resolution_seconds > found[one.by].resolution_seconds:
            found[one.by] = one
    return tuple(found.values())


def _all(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"


def _subjects(parts: Sequence[Run]) -> Iterator[ProbedSubject]:
    """Each subject as the first run records it that measured it."""
    for label in dict.fromkeys(subject.label for run in parts for subject in run.header.subjects):
        records = [(run, one) for run in parts for one in run.header.subjects if one.label == label]
        run, record = next(((run, one) for run, one in records if not one.skipped), records[0])
        yield msgspec.structs.replace(record, manifest=tuple(_named(run, name) for name in record.manifest))


def _plan(run: Run, offset: int) -> Iterator[Trial]:
    """The trials of *run*, but for those that it could not start."""
    skipped = {subject.label for subject in run.header.subjects if subject.skipped}
    for trial in run.header.plan:
        if trial.subject not in skipped:
            number = trial.round + offset if trial.kind == "measured" else trial.round
            yield msgspec.structs.replace(trial, id=_named(run, trial.id), round=number)


def _samples(run: Run, offset: int, later_ns: int) -> Iterator[Sample]:
    for row in _moved(run, run.samples, offset):
        yield msgspec.structs.replace(row, at_ns=row.at_ns + later_ns)


def _later(parts: Sequence[Run]) -> Iterator[int]:
    """By how many nanoseconds each is moved, to come after those before it: the clocks of two boots begin anew."""
    end = 0
    for run in parts:
        times = [row.at_ns for row in run.samples] or [0]
        yield end - min(times)
        end += max(times) - min(times) + 1


def _moved(run: Run, rows: Sequence[_Row], offset: int) -> Iterator[_Row]:
    """*rows* with the names and the rounds that they have in the merged run."""
    for row in rows:
        number = row.round + offset if row.kind == "measured" else row.round
        yield msgspec.structs.replace(row, trial=_named(run, row.trial), round=number)


def _named(run: Run, name: str) -> str:
    return f"{run.header.run}/{name}" if name else ""
