"""Reads an instance's console while something is awaited: marks are stamped, and the end of what was said is kept."""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tare.bench.host.interrupts import TrialTimeout
from tare.bench.readings import guest

_READ_BYTES = 65536
#: How often :meth:`Console.catch_up` reads at most: one that is written without end is never empty.
_MOST_READS = 64
_LOOK_S = 0.1
_TAIL_BYTES = 2000
#: Of the end of what was said, in the reason of a failure.
_SAID_CHARS = 300
#: A mark is written by one write(2), so its line has an end; its beginning may follow what the workload wrote last.
_MARK = re.compile(rb"tare ((?:first|ready|" + guest.WORD.encode() + rb")[^\r\n]{0,200})\r?\n")
#: What the longest line with a mark fits into, and how many of those that are no phase are kept.
_LINE_BYTES = 256
_TOLD = 64

clock_ns = time.monotonic_ns


def hung_up(fd: int) -> bool:
    """Whether nobody can write to *fd* any more; what was written before may still be there."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(0))


@dataclass(slots=True)
class Console:
    """Reads an instance's console, stamps the payload's marks, and keeps what it tells of its memory.

    Of the rest it keeps the end alone, however much is written. ``look`` is shown what was read, and the time. Without
    ``marks`` nothing of it is one: a start that is awaited in another way is not over because a workload says so.
    """

    stamps: dict[str, int]
    end: bytes = b""
    told: list[str] = field(default_factory=list)
    look: Callable[[bytes, int], None] | None = None
    marks: bool = True

    def wait(
        self,
        fd: int,
        done: Callable[[], bool],
        deadline_ns: int,
        *,
        check: Callable[[], None] | None = None,
        wake: int = -1,
    ) -> bool:
        """Read until *done* (True) or the console ends (False). Raises TrialTimeout at *deadline_ns*.

        *done* is asked after each read, and whenever *wake* can be read. *check* is called ten times a second while
        nothing comes, and may raise what ends the wait.
        """
        most_s = _LOOK_S if check else float("inf")
        with select.epoll() as poll:
            poll.register(fd, select.EPOLLIN)
            if wake >= 0:
                poll.register(wake, select.EPOLLIN)
            while not done():
                ready = poll.poll(max(0.0, min(most_s, (deadline_ns - clock_ns()) / 1e9)))
                now_ns = clock_ns()
                if now_ns > deadline_ns:  # whether ready or not: one that writes without end always is
                    raise TrialTimeout
                if check is not None:
                    check()
                for each, _ in ready:
                    if each == wake:
                        with suppress(BlockingIOError):
                            os.eventfd_read(wake)
                    elif not self._read(fd, now_ns):
                        return done()
        return True

    def _read(self, fd: int, now_ns: int) -> bool:
        """Read what is there; False at the end."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return True
        except ConnectionResetError:  # a socket's way to say that the other side died
            return False
        if not data:
            return False
        # A mark may have begun in what was read before.
        line = self.end[self.end.rfind(b"\n") + 1 :][-_LINE_BYTES:]
        for found in _MARK.finditer(line + data):
            self._note(found[1].decode("ascii", "replace").strip(), now_ns)
        self.keep(data)
        if self.look is not None:
            self.look(data, now_ns)
        return True

    def _note(self, words: str, now_ns: int) -> None:
        if words in ("first", "ready"):
            if self.marks:
                self.stamps.setdefault(words, now_ns)
        elif words.startswith(guest.WORD) and len(self.told) < _TOLD:
            self.told.append(words)

    def catch_up(self, fd: int) -> None:
        """Read what was written before this call: what is awaited may be over before all is read."""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        for _ in range(_MOST_READS):
            if not poll.poll(0) or not self._read(fd, clock_ns()):
                return

    def keep(self, data: bytes) -> None:
        """Add *data*, of which the end is kept."""
        self.end = (self.end + data)[-_TAIL_BYTES:]

    def tail(self) -> str:
        """The last lines, for a reader."""
        return self.end.decode("utf-8", "replace")

    def said(self) -> str:
        """The end of what it said besides marks, on one line; empty if it said nothing."""
        lines = (line.strip() for line in self.tail().splitlines())
        return "; ".join(line for line in lines if line and not line.startswith("tare "))[-_SAID_CHARS:]
