"""Waits for a container's end in the foreground: passes signals on, reaps orphans, shows the terminal."""

from __future__ import annotations

import os
import select

from ..errors import OciError
from ..linux.signals import OURS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from ..lifecycle.notify import Relay
    from ..linux.pty import Proxy
else:
    import _signal as signal  # the module itself imports enum: 3 ms

#: Signals that are sent to end a program, and do so by default.
_ENDS = frozenset((signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM))


class Signals:
    """In the ``with`` block, signals are written to a pipe as bytes, to be passed on; also those that were blocked.

    Afterwards they are still caught, and ignored: the container's removal must not be interrupted.
    """

    def __enter__(self) -> Signals:
        self.pipe, self._end = os.pipe()
        os.set_blocking(self.pipe, False)
        os.set_blocking(self._end, False)
        signal.set_wakeup_fd(self._end, warn_on_full_buffer=False)
        for number in range(1, signal.NSIG):
            if number in OURS:
                continue
            try:
                signal.signal(number, _noted)
            except OSError:  # 32 and 33 are the C library's
                continue
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.pipe)
        os.close(self._end)

    def take(self) -> bytes:
        """The signals that came since the last call."""
        try:
            return os.read(self.pipe, 4096)
        except BlockingIOError:
            return b""


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: the byte in the pipe is enough."""


def attend(pid: int, pidfd: int, signals: Signals, proxy: Proxy | None = None, relay: Relay | None = None) -> int:
    """Wait for the end of our child *pid*; return its exit status, or 128 and its signal. Raises OciError."""
    poll = select.poll()
    poll.register(signals.pipe, select.POLLIN)
    if relay is not None:
        poll.register(relay.fileno(), select.POLLIN)
    watched: dict[int, int] = {}
    status = _reap(pid)
    while status is None:
        wanted = proxy.sources() if proxy is not None else {}
        for fd in watched.keys() - wanted:
            poll.unregister(fd)
        for fd in wanted:
            poll.register(fd, wanted[fd])
        watched = wanted
        for fd, _ in poll.poll():
            if fd == signals.pipe:
                status = _handle(signals.take(), pid, pidfd, proxy, status)
            elif relay is not None and fd == relay.fileno():
                relay.move()
            elif proxy is not None and not proxy.move(fd):
                # Nobody has the terminal open. The program may run on without it.
                proxy = None
                break
    if proxy is not None:
        _drain(proxy, signals)
    return status


def _handle(numbers: bytes, pid: int, pidfd: int, proxy: Proxy | None, status: int | None) -> int | None:
    for number in numbers:
        if number == signal.SIGCHLD:
            status = _reap(pid) if status is None else status
        elif number == signal.SIGWINCH and proxy is not None:
            proxy.resize()
        else:
            try:
                signal.pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                pass
    return status


def _reap(pid: int) -> int | None:
    """Reap every child that has ended; the exit status of *pid* if it is among them."""
    status = None
    while True:
        try:
            ended, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            if status is None:
                raise OciError(f"process {pid}", "is not our child, so its end cannot be awaited") from None
            return status
        if ended == 0:
            return status
        if ended == pid:
            code = os.waitstatus_to_exitcode(how)
            status = code if code >= 0 else 128 - code


def _drain(proxy: Proxy, signals: Signals) -> None:
    """Copy what the container wrote last, still in the terminal. If nobody reads it, a signal ends this wait."""
    while True:
        behind = proxy.out in proxy.sources()
        ready = select.poll()
        ready.register(proxy.out if behind else proxy.master, select.POLLOUT if behind else select.POLLIN)
        ready.register(signals.pipe, select.POLLIN)
        found = dict(ready.poll(None if behind else 0))
        if signals.pipe in found and not _ENDS.isdisjoint(signals.take()):
            return
        found.pop(signals.pipe, None)
        if not (found or behind) or not all(map(proxy.move, found)):
            return
