"""A start and its clock: from the request to the readiness mark, or to the reason why it never came.

CLOCK_MONOTONIC of the host, in one process, for every subject. A guest's clock is never used.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

from tare.bench import readiness
from tare.bench.host.interrupts import Interrupts, TrialTimeout
from tare.bench.readiness.console import Console, clock_ns
from tare.bench.readings import guest
from tare.bench.records.readiness import Exit, Mark, Ready, missing
from tare.bench.records.rows import Status
from tare.runners.base import Instance, Launch
from tare.runners.launch import drain

__all__ = ["Contract", "StartFailed", "Started", "clock_ns", "start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What all starts of a subject have in common: what counts as ready, and how long it may take."""

    ready: Ready
    timeout_s: float

    @property
    def phase(self) -> str:
        """The stamp that says when it was ready."""
        return readiness.phase(self.ready)

    @property
    def ends(self) -> bool:
        """Whether the workload has ended when it counts as ready."""
        return isinstance(self.ready, Exit)


class StartFailed(Exception):  # noqa: N818 - an outcome, counted by whoever started
    """The instance did not get ready: ``status`` and ``reason``, and the end of its console."""

    def __init__(self, status: Status, reason: str, console: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.console = console


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """An instance that is ready. ``stamps`` maps phases to CLOCK_MONOTONIC nanoseconds; *requested* is among them.

    ``attempt_s`` is how long the attempt took that found it ready; None where no attempts were made.
    """

    instance: Instance
    stamps: dict[str, int]
    console: Console
    attempt_s: float | None = None

    def since_request_s(self, phase: str) -> float:
        """Seconds from the request to *phase*."""
        return (self.stamps[phase] - self.stamps["requested"]) / 1e9

    @property
    def inside_bytes(self) -> dict[str, float]:
        """What the payload saw of memory from where it stands, by metric; empty unless it was asked, and could."""
        return guest.parse(self.console.told)

    @property
    def unseen(self) -> str:
        """Why the payload could not see it, if it was asked."""
        return guest.refusal(self.console.told)


def start(
    stack: ExitStack,
    launch: Launch,
    name: str,
    contract: Contract,
    *,
    interrupts: Interrupts | None,
    check: Callable[[], None] | None = None,
) -> Started:
    """Start one instance on *stack* and await its mark. Raises StartFailed; the instance is on *stack* even then.

    Raises Interrupted when the user wants to stop, and RunnerError or OSError when the runner fails. *interrupts* are
    the main thread's; without them the wait for the mark is bounded by the contract, and the launch by its runner.
    """
    stamps: dict[str, int] = {}
    console = Console(stamps, marks=isinstance(contract.ready, Mark))
    instance: Instance | None = None
    waited: readiness.Waited | None = None
    stamps["requested"] = clock_ns()
    deadline_ns = stamps["requested"] + int(contract.timeout_s * 1e9)
    try:
        # A launch is never interrupted: what it has just made would be known to nobody. Its runner limits its waits.
        instance = stack.enter_context(launch(name, lambda phase: stamps.__setitem__(phase, clock_ns())))
        waited = readiness.Waited(instance=instance, console=console, deadline_ns=deadline_ns, check=check)
        with _allowed(interrupts, max(0.001, (deadline_ns - clock_ns()) / 1e9)):
            alive = readiness.wait(contract.ready, waited)
    except TrialTimeout:
        why = f"{missing(contract.ready)} within {contract.timeout_s:g} s"
        raise StartFailed("timeout", _explained(why, waited, console), console.tail()) from None
    if not alive:
        why = f"it ended before it was ready: {missing(contract.ready)}"
        raise StartFailed("failed", _explained(why, waited, console), console.tail())
    drain.take(instance.console, console.keep)
    attempt_s = waited.attempt_s if waited.attempts else None
    return Started(instance=instance, stamps=stamps, console=console, attempt_s=attempt_s)


def _allowed(interrupts: Interrupts | None, timeout_s: float) -> AbstractContextManager[None]:
    return nullcontext() if interrupts is None else interrupts.allowed(timeout_s=timeout_s)


def _explained(why: str, waited: readiness.Waited | None, console: Console) -> str:
    """*why*, the last failed attempt, what the backend knows, and the last that the workload or its monitor said.

    *console* has all that was written when this returns.
    """
    tried = known = ""
    if waited is not None:
        console.catch_up(waited.instance.console)
        tried, known = waited.last_words, waited.instance.explain()
    return ": ".join(filter(None, (why, tried, known, console.said())))
