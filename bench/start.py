"""A start and its clock: from the request to the readiness mark, or to the reason why it never came.

CLOCK_MONOTONIC of the host, in one process, for every subject. A guest's clock is never used.
"""

from __future__ import annotations

import os
import select
import time
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field

from bench.interrupts import Interrupts, TrialTimeout
from bench.probes import inside
from bench.records import Status
from runners.base import Instance, Launch

_READ_BYTES = 65536
_TAIL_CHARS = 2000
_MARK = b"tare "

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
    """Reads lines from an instance's console, stamps the payload's marks, and keeps what it tells of its memory."""

    stamps: dict[str, int]
    text: bytearray = field(default_factory=bytearray)
    told: list[str] = field(default_factory=list)

    def wait(self, fd: int, mark: str, deadline_ns: int) -> bool:
        """Read until *mark* was seen (True) or the console ends (False). Raises TrialTimeout at *deadline_ns*."""
        line_at = 0
        with select.epoll() as poll:
            poll.register(fd, select.EPOLLIN)
            while mark not in self.stamps:
                ready = poll.poll(max(0.0, (deadline_ns - clock_ns()) / 1e9))
                now_ns = clock_ns()
                if not ready:
                    raise TrialTimeout
                try:
                    data = os.read(fd, _READ_BYTES)
                except BlockingIOError:
                    continue
                except ConnectionResetError:  # a socket's way to say that the other side died
                    data = b""
                if not data:
                    return False
                self.text += data
                while (end := self.text.find(b"\n", line_at)) >= 0:
                    line = bytes(self.text[line_at:end]).strip()
                    line_at = end + 1
                    if line.startswith(_MARK):
                        self._note(line.removeprefix(_MARK).decode("ascii", "replace"), now_ns)
        return True

    def _note(self, words: str, now_ns: int) -> None:
        if words.startswith(inside.WORD):
            self.told.append(words)
        else:
            self.stamps.setdefault(words, now_ns)

    def tail(self) -> str:
        """The last lines, for a reader."""
        return self.text.decode("utf-8", "replace")[-_TAIL_CHARS:]


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
        return inside.parse(self.console.told)

    @property
    def unseen(self) -> str:
        """Why the payload could not see it, if it was asked."""
        return inside.refusal(self.console.told)


def start(stack: ExitStack, launch: Launch, name: str, contract: Contract, *, interrupts: Interrupts | None) -> Started:
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
        with _allowed(interrupts, contract.timeout_s):
            instance = stack.enter_context(launch(name, lambda phase: stamps.__setitem__(phase, clock_ns())))
        with _allowed(interrupts, max(0.001, (deadline_ns - clock_ns()) / 1e9)):
            alive = console.wait(instance.console, contract.ready, deadline_ns)
    except TrialTimeout:
        why = f"no '{contract.ready}' within {contract.timeout_s:g} s"
        raise StartFailed("timeout", _explained(why, instance), console.tail()) from None
    if not alive:
        why = f"its console ended before '{contract.ready}'"
        raise StartFailed("failed", _explained(why, instance), console.tail())
    return Started(instance=instance, stamps=stamps, console=console)


def _allowed(interrupts: Interrupts | None, timeout_s: float) -> AbstractContextManager[None]:
    return nullcontext() if interrupts is None else interrupts.allowed(timeout_s=timeout_s)


def _explained(why: str, instance: Instance | None) -> str:
    return ": ".join(filter(None, (why, instance.explain() if instance is not None else "")))
