"""One start and stop, timed: the trial of ``startup``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tare.bench.experiments.base import Experiment, Session
from tare.bench.experiments.prepare import Ready
from tare.bench.experiments.start import Contract, Started, StartFailed, clock_ns, start
from tare.bench.experiments.trial import Reading, TrialResult
from tare.bench.host.interrupts import Interrupts
from tare.bench.readings.processes import pss_bytes
from tare.bench.records.metrics import METRICS
from tare.runners.base import Launch, RunnerError


class Startup(Experiment):
    """What a start takes: how long each phase lasts, its processor time, and its memory once it is ready."""

    name = "startup"
    metrics = tuple(
        METRICS[what]
        for what in (
            "created_seconds", "first_seconds", "ready_seconds", "stopped_seconds", "removed_seconds",
            "cpu_seconds", "pss_bytes", "attempt_seconds",
        )
    )  # fmt: skip
    precise = "ready_seconds"
    section = "tare.reports.sections.startup.section:SECTION"

    def trial(self, session: Session, ready: Ready, name: str) -> TrialResult:
        """One start and its stop."""
        contract = session.contract(ready.subject)
        return start_and_stop(
            ready.prepared.launch, name, contract, interrupts=session.interrupts, cpu_ns=session.cpu_ns
        )


STARTUP = Startup()


def start_and_stop(
    launch: Launch,
    name: str,
    contract: Contract,
    *,
    interrupts: Interrupts,
    cpu_ns: Callable[[Path | None], int] | None,
) -> TrialResult:
    """Start one instance, wait for its mark, stop it, remove it.

    *cpu_ns* gives the processor time spent so far by everything that belongs to the run, and by the cgroup that it is
    handed if that lies elsewhere; None where the host gives no cgroups. Raises Interrupted, after the removal.
    """
    extra: dict[str, float] = {}
    cpu_before = cpu_ns(None) if cpu_ns else 0
    began = clock_ns()
    try:
        with ExitStack() as stack:
            started = start(stack, launch, name, contract, interrupts=interrupts)
            if cpu_ns:
                extra["cpu_seconds"] = (cpu_ns(started.instance.cgroup) - cpu_before) / 1e9
            extra["pss_bytes"] = float(pss_bytes(started.instance.pids()))
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


def _chain(error: BaseException) -> str:
    """*error*, and what it came after: a removal that fails must not hide why the start did."""
    before = error.__context__
    return f"{before}; then: {error}" if isinstance(before, StartFailed) else str(error)


def _values(started: Started, contract: Contract, stop_asked: int, removed: int) -> dict[str, float]:
    """Stamps to durations. created and the marks count from the request; stopped and removed from the forced stop."""
    values = {"removed_seconds": (removed - stop_asked) / 1e9, "ready_seconds": started.since_request_s(contract.phase)}
    for phase in ("created", "first"):
        if phase in started.stamps:
            values[f"{phase}_seconds"] = started.since_request_s(phase)
    if started.attempt_s is not None:
        values["attempt_seconds"] = started.attempt_s
    if "stopped" in started.stamps:
        values["stopped_seconds"] = (started.stamps["stopped"] - stop_asked) / 1e9
    return values
