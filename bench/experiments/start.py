"""A start and its clock: from the request to the readiness mark, or to the reason why it never came.

CLOCK_MONOTONIC of the host, in one process, for every subject. A guest's clock is never used.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field

from tare.bench.host.interrupts import Interrupts, TrialTimeout
from tare.bench.readings import guest
from tare.bench.records.rows import Status
from tare.runners.base import Instance, Launch
from tare.runners.launch import drain

_READ_BYTES = 65536
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What every start of a run has in common: the mark that counts as ready, and how long it may take."""

    ready: str
    timeout_s: float


class StartFailed(Exception):  # noqa: N818 - an outcome, counted by whoever started
    """The instance did not get ready: ``status`` and ``reason``, and the end of its console."""

    def __init__(self, status: Status, reason: str, console: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.console = console


@dataclass(slots=True)
class Console:
    """Reads an instance's console, stamps the payload's marks, and keeps what it tells of its memory.

    Of the rest it keeps the end alone, however much is written.
    """

    stamps: dict[str, int]
    end: bytes = b""
    told: list[str] = field(default_factory=list)

    def wait(self, fd: int, mark: str, deadline_ns: int, check: Callable[[], None] | None = None) -> bool:
        """Read until *mark* was seen (True) or the console ends (False). Raises TrialTimeout at *deadline_ns*.

        *check* is called ten times a second while nothing comes, and may raise what ends the wait.
        """
        most_s = _LOOK_S if check else float("inf")
        with select.epoll() as poll:
            poll.register(fd, select.EPOLLIN)
            while mark not in self.stamps:
                ready = poll.poll(max(0.0, min(most_s, (deadline_ns - clock_ns()) / 1e9)))
                now_ns = clock_ns()
                if now_ns > deadline_ns:  # whether ready or not: one that writes without end always is
                    raise TrialTimeout
                if check is not None:
                    check()
                if not ready:
                    continue
                try:
                    data = os.read(fd, _READ_BYTES)
                except BlockingIOError:
                    continue
                except ConnectionResetError:  # a socket's way to say that the other side died
                    data = b""
                if not data:
                    return False
                self._look(data, now_ns)
        return True

    def _look(self, data: bytes, now_ns: int) -> None:
        """Note the marks in *data*; the first may have begun in what was read before it."""
        line = self.end[self.end.rfind(b"\n") + 1 :][-_LINE_BYTES:]
        for found in _MARK.finditer(line + data):
            self._note(found[1].decode("ascii", "replace").strip(), now_ns)
        self.keep(data)

    def _note(self, words: str, now_ns: int) -> None:
        if words in ("first", "ready"):
            self.stamps.setdefault(words, now_ns)
        elif words.startswith(guest.WORD) and len(self.told) < _TOLD:
            self.told.append(words)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """An instance that is ready. ``stamps`` maps phases to CLOCK_MONOTONIC nanoseconds; *requested* is among them."""

    instance: Instance
    stamps: dict[str, int]
    console: Console

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
    console = Console(stamps)
    instance: Instance | None = None
    stamps["requested"] = clock_ns()
    deadline_ns = stamps["requested"] + int(contract.timeout_s * 1e9)
    try:
        # A launch is never interrupted: what it has just made would be known to nobody. Its runner limits its waits.
        instance = stack.enter_context(launch(name, lambda phase: stamps.__setitem__(phase, clock_ns())))
        with _allowed(interrupts, max(0.001, (deadline_ns - clock_ns()) / 1e9)):
            alive = console.wait(instance.console, contract.ready, deadline_ns, check)
    except TrialTimeout:
        why = f"no '{contract.ready}' within {contract.timeout_s:g} s"
        raise StartFailed("timeout", _explained(why, instance, console), console.tail()) from None
    if not alive:
        why = f"its console ended before '{contract.ready}'"
        raise StartFailed("failed", _explained(why, instance, console), console.tail())
    drain.take(instance.console, console.keep)
    return Started(instance=instance, stamps=stamps, console=console)


def _allowed(interrupts: Interrupts | None, timeout_s: float) -> AbstractContextManager[None]:
    return nullcontext() if interrupts is None else interrupts.allowed(timeout_s=timeout_s)


def _explained(why: str, instance: Instance | None, console: Console) -> str:
    """*why*, what the backend knows of it, and the last that the workload or its monitor said."""
    known = instance.explain() if instance is not None else ""
    return ": ".join(filter(None, (why, known, console.said())))
