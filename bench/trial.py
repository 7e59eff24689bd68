"""One start, weighed: the only place where the clock is read.

CLOCK_MONOTONIC of the host, in one process, for every subject. A guest's clock is never used.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.interrupts import Interrupts, TrialTimeout
from bench.probes.memory import pss_bytes
from bench.records import Status
from runners.base import Instance, Launch, RunnerError

_READ_BYTES = 65536
_TAIL_CHARS = 2000
_MARK = b"tare "

clock_ns = time.monotonic_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What every start of a run has in common: the mark that counts as ready, and how long it may take."""

    ready: str
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """How one start went. ``values`` maps metric names to values in base units, as far as the start came."""

    status: Status
    reason: str
    at_ns: int
    values: dict[str, float]
    console: str


@dataclass(slots=True)
class _Console:
    """Reads lines from an instance's console and stamps the payload's marks."""

    stamps: dict[str, int]
    text: bytearray = field(default_factory=bytearray)

    def wait(self, fd: int, mark: str) -> bool:
        """Read until *mark* was seen (True) or the console ends (False)."""
        line_at = 0
        with select.epoll() as poll:
            poll.register(fd, select.EPOLLIN)
            while mark not in self.stamps:
                poll.poll()
                now_ns = clock_ns()
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
                        self.stamps.setdefault(line.removeprefix(_MARK).decode("ascii", "replace"), now_ns)
        return True

    def tail(self) -> str:
        return self.text.decode("utf-8", "replace")[-_TAIL_CHARS:]


def weigh(
    launch: Launch,
    name: str,
    contract: Contract,
    *,
    interrupts: Interrupts,
    cpu_ns: Callable[[Path | None], int] | None,
) -> Weighing:
    """Start one instance, wait for its mark, stop it, remove it.

    *cpu_ns* gives the processor time spent so far by everything that belongs to the run, and by the cgroup that it is
    handed if that lies elsewhere; None where the host gives no cgroups. Raises Interrupted, after the removal.
    """
    stamps: dict[str, int] = {}
    console = _Console(stamps)
    extra: dict[str, float] = {}
    status: Status = "ok"
    reason = ""
    instance: Instance | None = None
    cpu_before = cpu_ns(None) if cpu_ns else 0
    requested = clock_ns()
    try:
        with ExitStack() as stack:
            try:
                with interrupts.allowed(timeout_s=contract.timeout_s):
                    instance = stack.enter_context(launch(name, lambda phase: stamps.__setitem__(phase, clock_ns())))
                left_s = max(0.001, contract.timeout_s - (clock_ns() - requested) / 1e9)
                with interrupts.allowed(timeout_s=left_s):
                    alive = console.wait(instance.console, contract.ready)
                if alive:
                    if cpu_ns:
                        extra["cpu_seconds"] = (cpu_ns(instance.cgroup) - cpu_before) / 1e9
                    extra["pss_bytes"] = float(pss_bytes(instance.pids()))
                else:
                    status, reason = "failed", f"its console ended before '{contract.ready}'"
            except TrialTimeout:
                status, reason = "timeout", f"no '{contract.ready}' within {contract.timeout_s:g} s"
            if instance is not None and status != "ok":
                reason = ": ".join(filter(None, (reason, instance.explain())))
            stop_asked = clock_ns()
        removed = clock_ns()
    except (RunnerError, OSError) as error:
        reason = f"{reason}; then: {error}" if reason else str(error)
        return Weighing(status="failed", reason=reason, at_ns=requested, values={}, console=console.tail())
    values = _values(stamps, requested, stop_asked, removed, contract) | extra
    return Weighing(status=status, reason=reason, at_ns=requested, values=values, console=console.tail())


def _values(
    stamps: dict[str, int], requested: int, stop_asked: int, removed: int, contract: Contract
) -> dict[str, float]:
    """Stamps to durations. created and the marks count from the request; stopped and removed from the forced stop."""
    values = {"removed_seconds": (removed - stop_asked) / 1e9}
    for phase, since in (("created", requested), ("first", requested), ("stopped", stop_asked)):
        if phase in stamps:
            values[f"{phase}_seconds"] = (stamps[phase] - since) / 1e9
    if contract.ready in stamps:
        values["ready_seconds"] = (stamps[contract.ready] - requested) / 1e9
    return values
