"""What SIGINT, SIGTERM and SIGHUP do, from the first moment of a command to its last: it ends with exit code 130.

A command that makes nothing on the host ends at once (:func:`at_the_door`). One that does must not be torn out of what
it does: an exception in the middle of a start or of a removal would leave half an instance behind, and one that arrives
in an import or a finalizer is printed and lost. So within :class:`Interrupts` a signal is remembered, and becomes an
exception where the engine asks (:meth:`Interrupts.check`) or waits for a mark (:meth:`Interrupts.allowed`). A second
one changes nothing: what is being removed is removed, within the limits that each removal has.

A signal that is ignored stays so: whoever started tare with nohup wants that.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import ClassVar, NoReturn

from tare.bench.errors import Interrupted
from tare.bench.records import files

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TrialTimeout(Exception):  # noqa: N818 - an event that the trial handles
    """The alarm of :meth:`Interrupts.allowed` went off."""


class Interrupts:
    """Handlers for the main thread, in force inside the ``with`` block. Within another such block it is that one."""

    _active: ClassVar[Interrupts | None] = None

    def __init__(self) -> None:
        self._raise = False
        self._pending: Interrupted | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if Interrupts._active is not None:
            return Interrupts._active
        Interrupts._active = self
        self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._alarm)
        self._before |= _handle(self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            Interrupts._active = None
        for number, handler in self._before.items():
            # What was registered for the end of the process is still to be removed: see leave().
            signal.signal(number, _note if handler is _quit else handler)  # type: ignore[arg-type]

    @property
    def pending(self) -> Interrupted | None:
        """What a signal asked for that came since the block began."""
        return self._pending

    def check(self) -> None:
        """Raise Interrupted if a signal came."""
        if self._pending is not None:
            raise self._pending

    @contextmanager
    def allowed(self, *, timeout_s: float) -> Iterator[None]:
        """Let Interrupted be raised inside the block, and TrialTimeout after *timeout_s*, also out of a system call.

        The block must wait and do nothing else: the exception may come between any two of its lines.
        """
        self.check()
        self._raise = True
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        try:
            yield
        finally:
            self._raise = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._pending is not None:
            _say("still removing what the run made; please wait")
            return
        _arrived.append(number)
        _say(f"{signal.Signals(number).name}: removing what the run made")
        self._pending = Interrupted(f"interrupted by {signal.Signals(number).name}")
        if self._raise:
            self._raise = False
            raise self._pending

    def _alarm(self, _number: int, _frame: FrameType | None) -> None:
        if self._raise:
            self._raise = False
            raise TrialTimeout


#: The signals that came while one was remembered.
_arrived: list[int] = []


def at_the_door() -> None:
    """From now on a signal ends this process at once, with 130; one that came before, while it was blocked, too.

    Whoever started Python may have blocked them (``tare.sh``): it takes a tenth of a second to get here.
    That children ended is told to us whatever the caller does about its own: ignored, SIGCHLD has the kernel throw
    their statuses away (wait(2)), and each would count as a success.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
    _handle(_quit)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def leave(code: int) -> NoReturn:
    """End this process with *code*, or with 130 if a signal came meanwhile.

    By _exit(2), after all that was registered for the end: the interpreter's own end would swallow a signal.
    """
    _handle(_note)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(Interrupted.exit_code if _arrived else code)


def _handle(handler: Callable[[int, FrameType | None], None]) -> dict[int, object]:
    """Set *handler* for what is not ignored; return the handlers of before."""
    chosen = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in chosen}


def _note(number: int, _frame: FrameType | None) -> None:
    """It ends by itself now; with 130."""
    _arrived.append(number)


def _quit(number: int, _frame: FrameType | None) -> NoReturn:
    """No exception: in an import or a finalizer it would be printed and lost."""
    if os.isatty(2):
        _say("\x1b[?25h\r", ends="")  # a bar that was drawn hid the cursor
    files.remove_half_written()
    _say(f"interrupted by {signal.Signals(number).name}")
    os._exit(Interrupted.exit_code)


def _say(text: str, ends: str = "\n") -> None:
    """On standard error, if that takes it at once: who reads it may have gone, or stand still."""
    with suppress(OSError, ValueError):
        writable = select.poll()
        writable.register(2, select.POLLOUT)
        if any(events & select.POLLOUT for _, events in writable.poll(0)):
            os.write(2, (f"tare: {text}{ends}" if ends else text).encode())
