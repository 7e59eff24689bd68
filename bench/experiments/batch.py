"""Starting several instances at once, for a ramp: the starts run in threads, what they mean is told in one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field

from tare.bench.experiments.start import Contract, Started, StartFailed, start
from tare.bench.host.interrupts import Interrupts
from tare.runners.base import Launch, RunnerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one start went: *started*, with *removal* that undoes it, or the *error* for which nothing of it is left."""

    started: Started | None = None
    removal: ExitStack = field(default_factory=ExitStack)
    error: StartFailed | RunnerError | OSError | None = None


class Starter:
    """Starts at most *at_once* instances at a time. A context manager: its threads end with it."""

    def __init__(self, launch: Launch, contract: Contract, interrupts: Interrupts, at_once: int) -> None:
        self._launch = launch
        self._contract = contract
        self._interrupts = interrupts
        # Kept from one batch to the next: a runner may give each thread a fork server of its own.
        self._threads = ThreadPoolExecutor(at_once)

    def __enter__(self) -> Starter:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def start(self, names: Sequence[str]) -> list[Attempt]:
        """Start *names* together, and return when each is ready or lost.

        Raises Interrupted; nothing of *names* is left then.
        """
        if len(names) == 1:
            return [self._attempt(names[0], self._interrupts)]
        # Awaited before any is asked how it went: what runs is the caller's to remove, even if another is a defect.
        futures = [self._threads.submit(self._attempt, name) for name in names]
        wait(futures)
        attempts = [future.result() for future in futures if future.exception() is None]
        if defect := next(filter(None, (future.exception() for future in futures)), None):
            with ExitStack() as removals:
                for attempt in attempts:
                    removals.push(attempt.removal)
                raise defect
        return attempts

    def _attempt(self, name: str, interrupts: Interrupts | None = None) -> Attempt:
        try:
            with ExitStack() as own:
                check = None if interrupts else self._interrupts.check
                started = start(own, self._launch, name, self._contract, interrupts=interrupts, check=check)
                return Attempt(started=started, removal=own.pop_all())
        except (StartFailed, RunnerError, OSError) as error:
            return Attempt(error=error)
