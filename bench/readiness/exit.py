"""Ready by its end: the time until the workload has ended with the status that is wanted."""

from __future__ import annotations

from tare.bench.readiness.base import READY, Waited
from tare.bench.readiness.console import clock_ns, hung_up
from tare.bench.records.readiness import Exit

PERIOD_S = 0.0


class _Held(Exception):  # noqa: N818 - an outcome, not an error
    """The workload has ended, and its output has not."""


def wait(asked: Exit, start: Waited) -> bool:
    """The end of the output is the event; the end of the process follows it at once, and has the status.

    Where something else still holds the output, the end of the process is seen late, and its time is not known.
    """

    def check() -> None:
        if start.check is not None:
            start.check()
        # Its own end comes after that of all that it had opened.
        if not hung_up(fd) and start.instance.status() is not None and not hung_up(fd):
            raise _Held

    fd = start.instance.console
    try:
        start.console.wait(fd, lambda: False, start.deadline_ns, check=check)
    except _Held:
        start.last_words = "it has ended, and something that it started holds its output: let it wait for that"
        return False
    status = start.instance.status()
    ended_ns = clock_ns()
    if status != asked.code:
        start.last_words = (
            f"it ended with status {status}" if status is not None else "it closed its output and runs on"
        )
        return False
    start.stamps[READY] = ended_ns
    return True
