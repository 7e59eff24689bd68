"""One start and stop, timed: the trial of ``startup``."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import msgspec
from msgspec import Meta

from tare.bench.experiments.base import Experiment, Session
from tare.bench.experiments.batch import Starter
from tare.bench.experiments.prepare import Ready
from tare.bench.experiments.start import Contract, Started, StartFailed, clock_ns, start
from tare.bench.experiments.trial import Reading, TrialResult
from tare.bench.host.interrupts import Interrupts
from tare.bench.readings import processes
from tare.bench.readings.processes import pss_bytes
from tare.bench.records.metrics import METRICS
from tare.bench.records.readiness import Exec
from tare.bench.records.resolved import Scenario, Subject
from tare.bench.scenario.design import Table
from tare.bench.scenario.plan import Effort
from tare.runners.base import HasDisk, Instance, Launch, RunnerError

#: What may be stamped before an instance is ready, in the usual order. A guest's processors may run, and its kernel say
#: so, a moment before its backend says that it is created.
PHASES = ("provisioned", "created", "firmware", "kernel", "initramfs", "init", "first")

AtOnce = Annotated[int, Meta(ge=1, le=256)]


class StartupTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[startup]``: how many instances a trial starts.

    at_once: so many are started together; the time to ready is then the median of theirs
    """

    at_once: AtOnce | None = None


class Keys(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a subject may set for itself.

    at_once: as in ``[startup]``, for this subject alone
    """

    at_once: AtOnce | None = None


class StartupSubject(msgspec.Struct, frozen=True, kw_only=True):
    """How many instances a trial starts, of one subject.

    at_once: so many, together
    """

    at_once: int = 1


class Startup(Experiment):
    """What a start takes: how long each phase lasts, its processor time, and its memory once it is ready."""

    name = "startup"
    table = "startup"
    table_type = StartupTable
    keys_type = Keys
    own_type = StartupSubject
    exclusive = frozenset(("at_once",))
    metrics = tuple(
        METRICS[what]
        for what in (
            *(f"{phase}_seconds" for phase in PHASES), "ready_seconds", "stopped_seconds", "removed_seconds",
            "cpu_seconds", "runtime_seconds", "daemon_cpu_seconds", "pss_bytes", "attempt_seconds", "slowest_seconds",
            "further_seconds", "provisioned_bytes", "disk_bytes",
        )
    )  # fmt: skip
    precise = "ready_seconds"
    section = "tare.reports.sections.startup.section:SECTION"

    def own(self, table: StartupTable, keys: Keys, memory_bytes: int) -> StartupSubject:  # noqa: ARG002 - of no use here
        """The subject's own number, or that of all."""
        return StartupSubject(at_once=keys.at_once or table.at_once or 1)

    def effort(self, scenario: Scenario, subject: Subject) -> Effort:  # noqa: ARG002 - of no use here
        """All starts of a burst."""
        return Effort(starts=subject.keys(StartupSubject).at_once)

    def trial(self, session: Session, ready: Ready, name: str) -> TrialResult:
        """One start and its stop, or a burst of them."""
        contract = session.contract(ready.subject)
        at_once = ready.subject.keys(StartupSubject).at_once
        if at_once > 1:
            names = [f"{name}-{number}" for number in range(1, at_once + 1)]
            return burst(
                ready.prepared.launch,
                names,
                contract,
                interrupts=session.interrupts,
                cpu_ns=session.cpu_ns,
                resident=ready.prepared.resident_cgroups,
            )
        return start_and_stop(
            ready.prepared.launch,
            name,
            contract,
            interrupts=session.interrupts,
            cpu_ns=session.cpu_ns,
            engine=Engine(
                share=ready.prepared.share,
                daemon_pids=ready.prepared.daemon_pids,
                cgroups=ready.prepared.resident_cgroups,
            ),
        )


STARTUP = Startup()


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What an engine has besides its instances; see :class:`runners.base.Prepared`."""

    share: Callable[[], AbstractContextManager[Callable[[Instance, int], float | None]]] | None = None
    daemon_pids: frozenset[int] = frozenset()
    cgroups: frozenset[Path] = frozenset()


def start_and_stop(
    launch: Launch,
    name: str,
    contract: Contract,
    *,
    interrupts: Interrupts,
    cpu_ns: Callable[..., int] | None,
    engine: Engine = Engine(),
) -> TrialResult:
    """Start one instance, wait for its mark, stop it, remove it.

    *cpu_ns* gives the processor time spent so far by everything that belongs to the run, and by the cgroups that it is
    handed if they lie elsewhere; None where the host gives no cgroups. Raises Interrupted, after the removal.
    """
    extra: dict[str, float] = {}
    cpu_before = cpu_ns(*engine.cgroups) if cpu_ns else 0
    daemon_before = processes.cpu_ns(engine.daemon_pids)
    began = clock_ns()
    try:
        with ExitStack() as stack:
            share = stack.enter_context(engine.share()) if engine.share else None
            started = start(stack, launch, name, contract, interrupts=interrupts)
            if engine.daemon_pids:
                extra["daemon_cpu_seconds"] = max(0, processes.cpu_ns(engine.daemon_pids) - daemon_before) / 1e9
            if cpu_ns:
                extra["cpu_seconds"] = (cpu_ns(started.instance.cgroup, *engine.cgroups) - cpu_before) / 1e9
            if share and (share_s := share(started.instance, started.stamps[contract.phase])) is not None:
                extra["runtime_seconds"] = share_s
            if not contract.ends:
                extra["pss_bytes"] = float(pss_bytes(started.instance.pids()))
            if isinstance(started.instance, HasDisk) and (disk := started.instance.disk()) is not None:
                extra |= {"provisioned_bytes": float(disk.made_bytes), "disk_bytes": float(disk.now_bytes)}
            if isinstance(contract.ready, Exec):
                extra["further_seconds"] = _further(started, contract)
            stop_asked = clock_ns()
        removed = clock_ns()
    except StartFailed as failure:
        return TrialResult(status=failure.status, reason=failure.reason, at_ns=began, console=failure.console)
    except (RunnerError, OSError) as error:
        return TrialResult(status="failed", reason=_chain(error), at_ns=began)
    return TrialResult(
        status="ok",
        reason="",
        at_ns=started.stamps["requested"],
        readings=(Reading(values=_values(started, contract, stop_asked, removed) | extra),),
        console=started.console.tail(),
    )


def _further(started: Started, contract: Contract) -> float:
    """How long the command of the contract takes once more, in seconds. Raises RunnerError where it fails now."""
    words = list(started.instance.command(contract.ready.argv))  # type: ignore[union-attr]
    began = clock_ns()
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=contract.timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise RunnerError(f"{' '.join(words)} did not end", f"within {contract.timeout_s:g} s") from None
    took_s = (clock_ns() - began) / 1e9
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise RunnerError(f"{' '.join(words)} succeeded once, and then failed", f"status {done.returncode}: {said}")
    return took_s


def burst(
    launch: Launch,
    names: Sequence[str],
    contract: Contract,
    *,
    interrupts: Interrupts,
    cpu_ns: Callable[..., int] | None,
    resident: frozenset[Path] = frozenset(),
) -> TrialResult:
    """Start *names* together, wait until each is ready, and remove all. Values are those of one, by the median.

    *resident* are the cgroups of what serves all. Where one of them does not get ready, or cannot be removed, the trial
    has failed, and the reason says how many or why. Raises Interrupted.
    """
    began = clock_ns()
    with ExitStack() as removals:
        try:
            found = _together(
                removals, launch, names, contract,
                interrupts=interrupts, cpu_ns=cpu_ns, resident=resident, began=began,
            )  # fmt: skip
        except (RunnerError, OSError) as error:
            found = TrialResult(status="failed", reason=str(error), at_ns=began)
        try:
            removals.close()
        except (RunnerError, OSError) as error:
            before = f"{found.reason}; then: " if found.reason else ""
            return TrialResult(status="failed", reason=f"{before}{error}", at_ns=began, lost=found.lost)
        return found


def _together(
    removals: ExitStack, launch: Launch, names: Sequence[str], contract: Contract, *, interrupts: Interrupts,
    cpu_ns: Callable[..., int] | None, resident: frozenset[Path], began: int,
) -> TrialResult:  # fmt: skip
    """Start *names*, whose removals go onto *removals*, and read what they are."""
    cpu_before = cpu_ns(*resident) if cpu_ns else 0
    with Starter(launch, contract, interrupts, len(names)) as starter:
        attempts = starter.start(names)
    started = []
    for attempt in attempts:
        removals.push(attempt.removal)
        if attempt.started is not None:
            started.append(attempt.started)
    errors = [attempt.error for attempt in attempts if attempt.error is not None]
    if errors:
        why = f"{len(errors)} of {len(names)} did not get ready; the first: {errors[0]}"
        status = errors[0].status if isinstance(errors[0], StartFailed) else "failed"
        return TrialResult(status=status, reason=why, at_ns=began, lost=len(errors))
    waits = [one.since_request_s(contract.phase) for one in started]
    values = {"ready_seconds": median(waits), "slowest_seconds": max(waits)}
    if cpu_ns:
        used = cpu_ns(*(one.instance.cgroup for one in started), *resident)
        values["cpu_seconds"] = (used - cpu_before) / 1e9 / len(names)
    if not contract.ends:
        values["pss_bytes"] = median(float(pss_bytes(one.instance.pids())) for one in started)
    return TrialResult(status="ok", reason="", at_ns=began, readings=(Reading(values=values),))


def _chain(error: BaseException) -> str:
    """*error*, and what it came after: a removal that fails must not hide why the start did."""
    before = error.__context__
    return f"{before}; then: {error}" if isinstance(before, StartFailed) else str(error)


def _values(started: Started, contract: Contract, stop_asked: int, removed: int) -> dict[str, float]:
    """Stamps to durations. created and the marks count from the request; stopped and removed from the forced stop.

    Of a workload that has ended by itself, nothing is stopped, and no memory is held.
    """
    values = {"removed_seconds": (removed - stop_asked) / 1e9, "ready_seconds": started.since_request_s(contract.phase)}
    for phase in PHASES:
        if phase in started.stamps:
            values[f"{phase}_seconds"] = started.since_request_s(phase)
    if started.attempt_s is not None:
        values["attempt_seconds"] = started.attempt_s
    if "stopped" in started.stamps and not contract.ends:
        values["stopped_seconds"] = (started.stamps["stopped"] - stop_asked) / 1e9
    return values
