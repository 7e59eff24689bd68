"""Signals become exceptions, but only where the engine can take one.

An exception in the middle of a removal would leave half an instance behind. So SIGINT, SIGTERM and the alarm of a trial
raise only inside :meth:`Interrupts.allowed`; elsewhere the wish is remembered until :meth:`Interrupts.check`.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bench.errors import Interrupted

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TrialTimeout(Exception):  # noqa: N818 - an event that the trial handles
    """The alarm of :meth:`Interrupts.allowed` went off."""


class Interrupts:
    """Handlers for the main thread, in force inside the ``with`` block."""

    def __init__(self) -> None:
        self._raise = False
        self._pending: Interrupted | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        for number in _STOPS:
            self._before[number] = signal.signal(number, self._stop)
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._alarm)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Raise Interrupted if a signal came while none was allowed."""
        if self._pending is not None:
            raise self._pending

    @contextmanager
    def allowed(self, *, timeout_s: float) -> Iterator[None]:
        """Let Interrupted be raised inside the block, and TrialTimeout after *timeout_s*, also out of a system call."""
        self.check()
        self._raise = True
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        try:
            yield
        finally:
            self._raise = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._pending = Interrupted(
            f"interrupted by {signal.Signals(number).name}", "", "`tare run --resume DIR` goes on where it stopped"
        )
        if self._raise:
            self._raise = False
            raise self._pending

    def _alarm(self, _number: int, _frame: FrameType | None) -> None:
        if self._raise:
            raise TrialTimeout
