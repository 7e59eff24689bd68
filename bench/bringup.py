"""Before the first trial: is a subject possible here, and what exactly will be started?"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import runners
from bench.errors import UsageError
from bench.records import Outcome, SubjectRecord
from bench.scenario import Subject
from runners.base import Prepared, Runner, RunnerError, Scratch, Spec, Support
from runners.image.rootfs import payload_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where all subjects of a run work; see :class:`runners.base.Scratch`."""

    scratch: Path
    cache: Path
    cgroup: str | None
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """One subject after its preparation. ``prepared`` is None when it is skipped; ``support`` says why."""

    support: Support
    record: SubjectRecord
    prepared: Prepared | None


def bring_up(subject: Subject, rootfs: str | None, place: Place, position: int, helpers: ExitStack) -> Brought:
    """Probe and prepare *subject*; what stays alive for it is closed by *helpers*. A refusal is a skipped subject."""
    runner = runners.load(subject.runner)
    support, prepared = _try(subject, runner, rootfs, place, position, helpers)
    return Brought(support=support, record=_record(subject, runner, support), prepared=prepared)


def _try(
    subject: Subject, runner: Runner, rootfs: str | None, place: Place, position: int, helpers: ExitStack
) -> tuple[Support, Prepared | None]:
    support = runner.probe(subject.options, place.cache)
    if not support.ok:
        return support, None
    directory = place.scratch / str(position)
    directory.mkdir()
    try:
        root = Path(rootfs) if rootfs else payload_root(place.cache)
        spec = Spec(argv=subject.argv, rootfs=root, memory_bytes=subject.memory_bytes, cpus=subject.cpus)
        where = Scratch(directory=directory, cache=place.cache, cgroup=place.cgroup, prefix=place.prefix)
        return support, helpers.enter_context(runner.prepare(spec, subject.options, where))
    except RunnerError as error:
        return Support(ok=False, version=support.version, why=str(error), fix=error.fix), None
    except OSError as error:
        return Support(
            ok=False, version=support.version, why=f"it could not be prepared: {error}", fix="tare doctor"
        ), None


def _record(subject: Subject, runner: Runner, support: Support) -> SubjectRecord:
    return SubjectRecord(
        label=subject.label,
        runner=subject.runner,
        kind=runner.KIND,
        options=subject.options,
        version=support.version,
        accelerator=support.accelerator,
        argv=subject.argv,
        memory_bytes=subject.memory_bytes,
        cpus=subject.cpus,
        walls=support.walls,
        unlimited=support.unlimited,
        facts=dict(support.facts),
        skipped="" if support.ok else support.why or "its probe failed without a reason",
        fix=support.fix,
    )


def skipped_outcome(record: SubjectRecord) -> Outcome:
    """The outcome that stands for all trials of a skipped subject."""
    return Outcome(
        trial=f"skipped-{record.label}",
        subject=record.label,
        kind="measured",
        round=0,
        order=0,
        status="skipped",
        reason=record.skipped,
        fix=record.fix,
    )


def require_same_class(before: SubjectRecord | None, now: SubjectRecord) -> None:
    """Raise UsageError when a resumed run would mix two versions or two accelerators under one label."""
    if before is None or (before.version, before.accelerator) == (now.version, now.accelerator):
        return
    raise UsageError(
        f"the run cannot go on: {now.label} changed",
        f"it was {before.version} {before.accelerator or ''}, it is {now.version} {now.accelerator or ''}",
        "start a new run",
    )
