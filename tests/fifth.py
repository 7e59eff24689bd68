"""A fifth experiment, outside of the packages: how long an instance takes to end after SIGTERM. See its two tests."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated

from msgspec import Meta

from tare.bench import experiments
from tare.bench.experiments.base import Experiment, Session
from tare.bench.experiments.prepare import Ready
from tare.bench.experiments.start import StartFailed, clock_ns, start
from tare.bench.experiments.trial import Reading, TrialResult
from tare.bench.records import metrics
from tare.bench.records.metrics import Metric
from tare.bench.scenario.design import Table
from tare.reports.sections.standard import Standard
from tare.runners.base import RunnerError

ENDED = Metric(
    name="ended_seconds",
    unit="seconds",
    title="ended",
    meaning="from SIGTERM to its first process until that process is gone",
    most=3600.0,
)


class EndTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[end]``: how long to wait for the end."""

    patience_s: Annotated[float, Meta(gt=0, le=60)] = 10.0


class End(Experiment):
    """Starts an instance, sends SIGTERM to its newest process, and waits until that is gone."""

    name = "end"
    table = "end"
    table_type = EndTable
    metrics = (ENDED,)
    section = f"{__name__}:SECTION"
    noun = "end"

    def trial(self, session: Session, ready: Ready, name: str) -> TrialResult:
        """One start, and its end."""
        began = clock_ns()
        patience_s = session.scenario.table(EndTable).patience_s
        try:
            with ExitStack() as stack:
                started = start(
                    stack, ready.prepared.launch, name, session.contract(ready.subject), interrupts=session.interrupts
                )
                pidfd = os.pidfd_open(max(started.instance.pids()))
                stack.callback(os.close, pidfd)
                gone = select.poll()
                gone.register(pidfd, select.POLLIN)
                asked = clock_ns()
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                ended = bool(gone.poll(patience_s * 1000))
                took_s = (clock_ns() - asked) / 1e9
        except (StartFailed, RunnerError, OSError) as error:
            return TrialResult(status="failed", reason=str(error), at_ns=began)
        if not ended:
            return TrialResult(status="timeout", reason=f"alive {patience_s:g} s after SIGTERM", at_ns=began)
        return TrialResult(status="ok", reason="", at_ns=began, readings=(Reading(values={ENDED.name: took_s}),))


END = End()
SECTION = Standard(metrics=(ENDED,), primary=ENDED.name, says="ends after")
SCENARIO = """
schema = 1
question = "How long does it take to end?"
experiment = "end"
reference = "process"
[run]
rounds = 3
warmup = 0
[end]
patience_s = 5
[[subjects]]
label = "process"
runner = "process"
"""


@contextmanager
def registered() -> Iterator[None]:
    """The one line in the registry; afterwards tare has the experiments and metrics that it had."""
    experiments.REGISTRY[END.name] = "tests.fifth:END"
    try:
        yield
    finally:
        del experiments.REGISTRY[END.name]
        metrics.METRICS.pop(ENDED.name, None)
