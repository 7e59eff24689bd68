"""Reads consoles after their readiness mark: what a workload writes must cost every subject the same.

If nobody reads its output, a workload stops once the pipe is full (64 KiB, pipe(7)), and so does its monitor if that
writes something at the end. So a console is read from its start to its end: until the readiness mark by the code that
waits for it, and then here, in one thread for all. Only what a :data:`Sink` keeps of it is kept.

A console must be closed by :func:`close`: a moment later, another descriptor may have its number.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache as once

#: Takes what was read.
Sink = Callable[[bytes], None]

_READ_BYTES = 65536
#: How often :func:`catch_up` reads a descriptor at most: one that is written without end is never empty.
_MOST_READS = 64


class Tail:
    """A sink that keeps the last *size* bytes."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._end = b""

    def keep(self, data: bytes) -> None:
        """Add *data*."""
        self._end = (self._end + data)[-self._size :]

    def text(self) -> str:
        """What is kept, for a reader."""
        return self._end.decode("utf-8", "replace")


class _Drain:
    """One thread and its descriptors."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._sinks: dict[int, Sink] = {}
        #: Held while a descriptor is read, so that it is not closed, and its number reused, meanwhile.
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="drain", daemon=True).start()

    def take(self, fd: int, sink: Sink) -> None:
        with self._lock:
            self._sinks[fd] = sink
            self._poll.register(fd, select.EPOLLIN)

    def flow(self, fd: int) -> None:
        with self._lock:
            if fd not in self._sinks:
                self._sinks[fd] = _discard
                self._poll.register(fd, select.EPOLLIN)

    def leave(self, fd: int) -> None:
        with self._lock:
            self._forget(fd)

    def close(self, fd: int) -> None:
        with self._lock:
            self._forget(fd)
            os.close(fd)

    def catch_up(self, fd: int) -> None:
        with self._lock:
            for _ in range(_MOST_READS):
                if fd not in self._sinks or not self._read(fd):
                    return

    def _run(self) -> None:
        while True:
            for fd, _ in self._poll.poll():
                with self._lock:
                    if fd in self._sinks:
                        self._read(fd)

    def _read(self, fd: int) -> bool:
        """Whether there was something to read."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # ECONNRESET: a socket reports so that the other side died
            data = b""
        if data:
            self._sinks[fd](data)
        else:
            self._forget(fd)
        return bool(data)

    def _forget(self, fd: int) -> None:
        if self._sinks.pop(fd, None) is not None:
            with suppress(OSError):
                self._poll.unregister(fd)


def _discard(data: bytes) -> None:
    pass


@once
def _the() -> _Drain:
    return _Drain()


def take(fd: int, sink: Sink) -> None:
    """Read *fd*, which does not block, from now on and hand to *sink* what comes, in another thread."""
    _the().take(fd, sink)


def flow(fd: int) -> None:
    """Read *fd* from now on for nobody, unless it was taken: whoever writes to it can come to its end."""
    _the().flow(fd)


def catch_up(fd: int) -> None:
    """Return when the sink of *fd* has what was written before this call."""
    _the().catch_up(fd)


def leave(fd: int) -> None:
    """Stop reading *fd*: before a kill, so that its end does not wake the other thread in a timed removal."""
    _the().leave(fd)


def close(fd: int) -> None:
    """Close *fd*, whether it was taken or not."""
    _the().close(fd)
