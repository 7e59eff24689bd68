"""Stalls: times in which the measuring process did not run, or the machine slept. What was timed then is no figure.

A stopped process (SIGSTOP, a frozen cgroup, a debugger), a paused virtual machine and a starved one have one thing in
common: a timer goes off, and nobody comes. A thread that wakes ten times a second keeps the times at which it came late
though nothing of this process ran. It takes about a thousandth of a processor, and the main thread does not wait for
it: that one sleeps in epoll_wait(2), without Python's lock. What the thread cannot see, the kernel counts:
CLOCK_BOOTTIME goes on while the machine is suspended and CLOCK_MONOTONIC does not (clock_gettime(2)); time that a
hypervisor gave to others (proc_stat(5), ``steal``); time that the main thread waited for a processor
(Documentation/scheduler/sched-stats.rst).
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tare.bench.records.metrics import show

PERIOD_NS = 100_000_000
#: What is shorter is a scheduler's or a hypervisor's business: with three milliseconds a turn, somebody waits so long
#: only behind thirty others. It is an outlier then, and flagged as one; no trial may be thrown away for being slow. A
#: stop of a period more is found without fail, a shorter one if the thread was due early in it.
LEAST_NS = 100_000_000
#: Time taken in slices counts from this part of a trial on: below it the host is busy, which is a finding, and rounds
#: even it out; above it the figure is another machine's.
LEAST_SHARE = 0.25
#: What was read from files so short a time ago is read already: a start is slower by some microseconds right after.
FRESH_NS = 50_000_000
#: How often what a stall spoilt is measured again.
MOST_REPEATS = 3


class Stalled(Exception):  # noqa: N818 - what was measured is invalid, and can be measured again
    """A reading without which a trial means nothing stalled each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """What the kernel says at one moment, in ns: both clocks, the time *stolen* from each processor since boot, and how
    long the main thread *waited* for one since it began.
    """

    monotonic: int
    boottime: int
    stolen: tuple[int, ...] = ()
    waited: int = 0


def judge(before: Clocks, after: Clocks, late_ns: int) -> str:
    """Why what was measured between two readings does not count; empty if it does.

    *late_ns* is the longest time that the thread came too late by, although this process used no processor.
    """
    lasted = after.monotonic - before.monotonic
    slept = (after.boottime - after.monotonic) - (before.boottime - before.monotonic)
    stolen = max((now - then for then, now in zip(before.stolen, after.stolen, strict=False)), default=0)
    waited = after.waited - before.waited
    sliced = max(LEAST_NS, LEAST_SHARE * lasted)
    causes = (
        (slept >= LEAST_NS, f"the machine was suspended for {_s(slept)}"),
        (
            late_ns >= LEAST_NS,
            f"the measuring process did not run for {_s(late_ns)}: it was stopped, frozen, or got no processor",
        ),
        (stolen >= sliced, f"a hypervisor took {_s(stolen)} of a processor's {_s(lasted)}"),
        (waited >= sliced, f"the measuring process waited {_s(waited)} of {_s(lasted)} for a processor"),
    )
    return "; ".join(text for holds, text in causes if holds)


class Watch:
    """Looks out for stalls inside the ``with`` block; outside of it, only the kernel's clocks are compared."""

    def __init__(self) -> None:
        self._over = threading.Lock()
        self._thread: threading.Thread | None = None
        self._seen = 0
        #: (when it was seen, by how much the thread was late), in ns.
        self._late: list[tuple[int, int]] = []
        self._last = Clocks(monotonic=-FRESH_NS, boottime=0)

    def __enter__(self) -> Watch:
        self._over.acquire()
        self._seen = time.monotonic_ns()
        self._thread = threading.Thread(target=self._look_out, name="stalls", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.release()
        if self._thread:
            self._thread.join()
        self._thread = None

    def begin(self) -> Clocks:
        """The clocks before what is measured."""
        self._catch_up()
        monotonic, boottime = _both()
        if monotonic - self._last.monotonic > FRESH_NS:
            self._last = read()
            monotonic, boottime = _both()
        return replace(self._last, monotonic=monotonic, boottime=boottime)

    def since(self, begun: Clocks) -> str:
        """Why what was measured since *begun* does not count; empty if it does."""
        self._catch_up()
        late = max((late for seen, late in self._late if seen > begun.monotonic), default=0)
        self._last = read()
        return judge(begun, self._last, late)

    def _catch_up(self) -> None:
        """Let the thread look first if it is overdue: after a stall both threads run again, in any order."""
        while self._thread and time.monotonic_ns() - self._seen > 2 * PERIOD_NS:
            time.sleep(PERIOD_NS / 1e10)

    def _look_out(self) -> None:
        # Signals are the main thread's: one that came here would not end its waiting.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        before = _moment()
        while not self._over.acquire(timeout=PERIOD_NS / 1e9):
            now = _moment()
            if (late := _late_ns(before, now)) >= LEAST_NS:
                self._late.append((now[0], late))
            before, self._seen = now, now[0]


def _moment() -> tuple[int, int, int]:
    """Now, this process's processor time, both in ns, and how often this thread let go of its processor."""
    switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    return time.monotonic_ns(), time.process_time_ns(), switches


def _late_ns(before: tuple[int, int, int], now: tuple[int, int, int]) -> int:
    """What of the time between two looks is not accounted for.

    Where another thread holds Python's lock (posix_spawn(3) waits with it for the disk) this one asks for it again
    every 5 ms, and each time is a voluntary switch: as long as it does, the process is not stopped.
    """
    passed, worked, asked = (after - then for then, after in zip(before, now, strict=True))
    return int(passed - PERIOD_NS - worked - asked * sys.getswitchinterval() * 1e9)


def read() -> Clocks:
    """Everything now, some of it from files."""
    monotonic, boottime = _both()
    return Clocks(
        monotonic=monotonic,
        boottime=boottime,
        stolen=stolen_ns(_text("/proc/stat"), os.sysconf("SC_CLK_TCK")),
        waited=waited_ns(_text("/proc/self/schedstat")),
    )


def _both() -> tuple[int, int]:
    """CLOCK_MONOTONIC and CLOCK_BOOTTIME, read three times: who is interrupted between them sees the machine sleep."""
    pairs = [(time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.monotonic_ns()) for _ in range(3)]
    boottime, monotonic = max(pairs, key=lambda pair: pair[0] - pair[1])
    return monotonic, boottime


def stolen_ns(proc_stat: str, ticks_a_second: int) -> tuple[int, ...]:
    """Of each processor, the eighth figure of its line (proc_stat(5)); empty where the kernel does not count it."""
    lines = (line.split() for line in proc_stat.splitlines() if line.startswith("cpu") and line[3:4].isdigit())
    return tuple(int(words[8]) * 1_000_000_000 // ticks_a_second for words in lines if len(words) > 8)


def waited_ns(schedstat: str) -> int:
    """The second figure of a thread's schedstat: ns on a run queue; 0 where the kernel does not count it."""
    words = schedstat.split()
    return int(words[1]) if len(words) > 1 else 0


def _text(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="ascii")
    return ""


def _s(nanoseconds: float) -> str:
    return show(nanoseconds / 1e9, "seconds")
