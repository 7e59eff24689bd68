"""Which signals end this program before its container's program runs, and which wait until they can be passed on.

A caller may send a signal at any moment. What asks a program to end raises KeyboardInterrupt, and what is half made is
undone. The others would by default end this program and leave that behind.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the module itself imports enum: 3 ms

#: Not for the container: signals that cannot be caught, those that are about this process itself, and job control.
OURS = frozenset(
    getattr(signal, name)
    for name in (
        "SIGKILL SIGSTOP SIGPIPE SIGURG SIGSEGV SIGBUS SIGFPE SIGILL SIGTRAP SIGSYS SIGABRT SIGTTIN SIGTTOU SIGXFSZ"
    ).split()
)
#: What asks a program to end; see :func:`interruptible`.
_INTERRUPT = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def interruptible() -> None:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does: then what is half made is undone."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def postpone() -> None:
    """Block the other signals that are passed on: they come when :class:`foreground.Signals` unblocks them.

    A command that does not stay to pass them on ends without having seen them: its container is whole then.
    """
    kept = {*OURS, *_INTERRUPT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, [number for number in signal.valid_signals() if number not in kept])


def hold() -> frozenset[int]:
    """Block the signals that raise KeyboardInterrupt until :func:`release`, which is given what this returns."""
    return frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPT))


def release(mask: frozenset[int]) -> None:
    """A signal since :func:`hold` raises KeyboardInterrupt here; what the caller had blocked stays blocked."""
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
