"""Before the first trial: is a subject possible here, and what exactly will be started?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tare import runners
from tare.bench.errors import UsageError
from tare.bench.experiments import specification
from tare.bench.experiments.start import Contract, StartFailed, start
from tare.bench.host import doctor
from tare.bench.host.interrupts import Interrupts
from tare.bench.records.header import ImageRecord, ProbedSubject
from tare.bench.records.readiness import Exec, Exit
from tare.bench.records.resolved import Subject, Timing
from tare.bench.records.rows import Outcome
from tare.runners.base import DISK, Image, Prepared, Runner, RunnerError, Scratch, Support
from tare.runners.image import sources

#: How long an instance may take whose state is then saved: an emulated system with cloud-init takes minutes.
_ORIGINAL_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How the preparation of a subject went. Without ``ready`` it is skipped; ``support`` says why."""

    support: Support
    record: ProbedSubject
    ready: Ready | None


@dataclass(frozen=True, slots=True)
class Ready:
    """A subject that can be started, from its image."""

    subject: Subject
    prepared: Prepared
    record: ProbedSubject
    image: Image


def try_subject(
    subject: Subject,
    images: Callable[[Subject], Image],
    scratch: Scratch,
    folder: str,
    cleanup: ExitStack,
    *,
    enforced: str = "",
    reclaim_bytes: int = 0,
    interrupts: Interrupts | None = None,
) -> Preparation:
    """Probe and prepare *subject*; what must be closed goes into *cleanup*. A refusal is a skipped subject.

    *images* finds the image of a subject, and makes it if need be. *enforced* names a part of the grant that the
    runner must enforce, or else be skipped; where each instance is to be asked for *reclaim_bytes* of its memory, it
    must have the means.
    """
    runner = runners.load(subject.runner)
    support = doctor.probe(runner, subject.options, scratch.cache)
    if support.ok and enforced in support.unlimited:
        why = f"the runner {subject.runner} does not enforce a grant of {enforced}"
        fix = 'measure a container, a virtual machine, or a process with the option limit = "cgroup"'
        support = Support(ok=False, version=support.version, why=why, fix=fix)
    if support.ok and reclaim_bytes and not support.reclaims:
        why = f"the host cannot ask an instance of the runner {subject.runner} for memory"
        fix = 'a virtual machine needs balloon = "virtio", a process limit = "cgroup", a container cgroups'
        support = Support(ok=False, version=support.version, why=why, fix=fix)
    if support.ok:
        support = _able(subject, support)
    prepared: Prepared | None = None
    image: Image | None = None
    if support.ok:
        try:
            image = images(subject)
            prepared = prepare(subject, image, scratch, folder, cleanup, interrupts)
            if prepared.walls is not None:
                support = replace(support, walls=prepared.walls)
        except RunnerError as error:
            support = Support(ok=False, version=support.version, why=str(error), fix=error.fix)
        except OSError as error:
            why = f"it could not be prepared: {error}"
            support = Support(ok=False, version=support.version, why=why, fix="tare doctor")
    record = _record(subject, runner, support, reclaim_bytes, image if prepared else None)
    ready = Ready(subject, prepared, record, image) if prepared is not None and image is not None else None
    return Preparation(support=support, record=record, ready=ready)


def _able(subject: Subject, support: Support) -> Support:
    """*support*, or why its runner cannot do what the workload of *subject* needs."""
    work = subject.workload
    if work is None:
        return support
    why = fix = ""
    if hasattr(work.ready, "port") and not support.reached:
        why = (
            f"the runner {subject.runner} gives its instances no address, and the workload is ready when a port answers"
        )
    elif isinstance(work.ready, Exec) and not support.enters:
        why = f"the runner {subject.runner} cannot run a command beside the workload"
    elif work.image.partition(":")[0] == DISK and not support.disks:
        why = f"the runner {subject.runner} cannot take the image {work.image}: it is the disk of a whole machine"
        fix = 'runner = "vm", options = { boot = "cloud" }'
    elif work.image.partition(":")[0] in support.images:
        why = f"the runner {subject.runner} cannot take the image {work.image}"
        fix = sources.MAKE_ONE if work.image == sources.HOST else ""
    return replace(support, ok=False, why=why, fix=fix) if why else support


def images(cache: Path, rootfs: str | None = None, note: sources.Note = sources.silent) -> Callable[[Subject], Image]:
    """What finds the image of a subject: each is made once, and all subjects that name it share it.

    *rootfs* is the one of subjects that run the payload; None: the built-in one. *note* is told how the making goes on.
    """
    made: dict[str, Image | RunnerError] = {}

    def find(subject: Subject) -> Image:
        source = subject.workload.image if subject.workload else rootfs or sources.PAYLOAD
        if source not in made:
            try:
                made[source] = sources.find(source, cache, note)
            except RunnerError as error:  # minutes may have gone by: the next subject need not wait for the same answer
                made[source] = error
        if isinstance(found := made[source], RunnerError):
            raise found
        return found

    return find


def prepare(
    subject: Subject,
    image: Image,
    scratch: Scratch,
    folder: str,
    cleanup: ExitStack,
    interrupts: Interrupts | None = None,
) -> Prepared:
    """Prepare *subject* in *folder*, a new directory of *scratch*, the run's. Raises RunnerError or OSError.

    Where all instances are restored from the state of one, that is started here, saved when it is ready, and ended.
    """
    directory = scratch.directory / folder
    directory.mkdir()
    spec = specification.of(subject, image)
    where = replace(scratch, directory=directory)
    prepared = cleanup.enter_context(runners.load(subject.runner).prepare(spec, subject.options, where))
    if prepared.original is not None:
        if subject.workload is not None and isinstance(subject.workload.ready, Exit):
            why = "the workload has ended when it is ready, and its machine with it"
            raise RunnerError("no state can be saved", why, "boot it in another way, or give it another ready")
        contract = Contract(ready=subject.ready(Timing()), timeout_s=_ORIGINAL_S)
        try:
            with ExitStack() as stack:
                begun = start(stack, prepared.original.launch, f"{scratch.prefix}-0", contract, interrupts=interrupts)
                prepared.original.keep(begun.instance)
        except StartFailed as failure:
            raise RunnerError(f"the instance whose state was to be saved did not get ready: {failure.reason}") from None
    return prepared


def _record(
    subject: Subject, runner: Runner, support: Support, reclaim_bytes: int, image: Image | None
) -> ProbedSubject:
    if not reclaim_bytes:
        support = replace(support, reclaims="")
    return ProbedSubject(
        **doctor.proved(runner, support),
        label=subject.label,
        reclaim_bytes=reclaim_bytes,
        skipped="" if support.ok else support.why or "its probe failed without a reason",
        image=None if image is None else ImageRecord(source=image.source, digest=image.digest),
    )


def skipped_outcome(record: ProbedSubject) -> Outcome:
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


def require_same_class(before: ProbedSubject | None, now: ProbedSubject) -> None:
    """Raise UsageError when a resumed run would mix versions, accelerators or images under one label."""
    if before is None:
        return
    if before.image and now.image and before.image.digest != now.image.digest:
        raise UsageError(
            f"the run cannot go on: the image {now.image.source} of {now.label} changed",
            f"its digest was {before.image.digest}, it is {now.image.digest}",
            "start a new run",
        )
    if (before.version, before.accelerator) == (now.version, now.accelerator):
        return
    raise UsageError(
        f"the run cannot go on: {now.label} changed",
        f"it was {before.version} {before.accelerator or ''}, it is {now.version} {now.accelerator or ''}",
        "start a new run",
    )
