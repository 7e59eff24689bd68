"""Ready by its end: the time until the workload has ended with the status that is wanted."""

from __future__ import annotations

from tare.bench.readiness.base import READY, Waited
from tare.bench.readiness.console import clock_ns
from tare.bench.records.readiness import Exit

PERIOD_S = 0.0


def wait(asked: Exit, start: Waited) -> bool:
    """The end of the output is the event; the end of the process follows it at once, and has the status."""
    start.console.wait(start.instance.console, lambda: False, start.deadline_ns, check=start.check)
    status = start.instance.status()
    ended_ns = clock_ns()
    if status != asked.code:
        start.last_words = (
            f"it ended with status {status}" if status is not None else "it closed its output and runs on"
        )
        return False
    start.stamps[READY] = ended_ns
    return True
