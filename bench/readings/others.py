"""Other processes of this host: which of them grew, and which of them ran, while something was measured.

Memory is anonymous memory (proc_pid_statm(5): resident less shared), processor time is that of all threads
(proc_pid_stat(5)). Looking costs some milliseconds, and the kernel a name and an inode for each file: so nobody looks
inside a start, a ramp looks once before its first reading, and instances are not opened at all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tare.bench.readings import hostload
from tare.bench.readings.hostload import Totals
from tare.bench.records.rows import Meanwhile, Other

#: So many processes are named.
NAMED = 3
#: What moved by less, or ran for less, is not named.
_LEAST_BYTES, _LEAST_S = 1 << 20, 0.01
_PAGE, _TICK_S = os.sysconf("SC_PAGE_SIZE"), 1 / os.sysconf("SC_CLK_TCK")


class Who(NamedTuple):
    """One process as long as it lives: its pid may be another's later, but not with the same start (in ticks)."""

    pid: int
    started: int


class Seen(NamedTuple):
    """What it is called, its parent, its anonymous memory in bytes, and its processor time in seconds."""

    name: str
    parent: int
    memory_bytes: int
    cpu_s: float


@dataclass(slots=True)
class _Course:
    """Between which sizes a process, or all of them, moved since the last record, and how long it ran."""

    name: str
    least_bytes: int
    most_bytes: int
    cpu_s: float = 0.0

    @property
    def moved_bytes(self) -> int:
        return self.most_bytes - self.least_bytes

    def saw(self, memory_bytes: int) -> None:
        self.least_bytes, self.most_bytes = min(self.least_bytes, memory_bytes), max(self.most_bytes, memory_bytes)


@dataclass(slots=True)
class Others:
    """Looks at all processes but this one, its children, and those that it is told are tare's; keeps what they did."""

    proc: Path = Path("/proc")
    own: int = field(default_factory=os.getpid)
    _last: Mapping[Who, Seen] = field(default_factory=dict)
    _courses: dict[Who, _Course] = field(default_factory=dict)
    _whole: _Course = field(default_factory=lambda: _Course("", 0, 0))
    _load: Totals | None = None
    _began_ns: int = 0

    @property
    def unrecorded_s(self) -> float:
        """How long ago the last record was made, or else the first look; 0 before that."""
        return (time.monotonic_ns() - self._began_ns) / 1e9 if self._load else 0.0

    def look(self, ours: Collection[int] = ()) -> None:
        """Look once. Those with a pid in *ours* are instances, or serve them."""
        skipped = frozenset((self.own, *ours))
        now = {who: one for who, one in read(self.proc, skipped) if who.pid != self.own}
        now = _without_children(now, skipped)
        if self._load is None:
            self._restart(now)
        for who, one in now.items():
            before = self._last.get(who)
            course = self._course(who, one.name, before.memory_bytes if before else 0)
            course.saw(one.memory_bytes)
            course.cpu_s += one.cpu_s - (before.cpu_s if before else 0.0)
        for who in self._last.keys() - now.keys():
            before = self._last[who]
            if who.pid not in skipped:
                self._course(who, before.name, before.memory_bytes).saw(0)
        self._whole.saw(sum(one.memory_bytes for one in now.values()))
        self._last = now

    def record(self) -> Meanwhile | None:
        """What was seen between the last record and now; None where nobody looked yet."""
        if self._load is None:
            return None
        load, seconds = hostload.read(), max(1e-9, (time.monotonic_ns() - self._began_ns) / 1e9)
        ratios = hostload.difference(self._load, load, seconds)
        found = Meanwhile(
            seconds=seconds,
            cpu_seconds=sum(course.cpu_s for course in self._courses.values()),
            busy_seconds=max(0, load.busy_ticks - self._load.busy_ticks) * _TICK_S,
            # Where the kernel does not count who waits, nobody waits longer than the processors are busy.
            waited_ratio=ratios.get("pressure_cpu_some_ratio", ratios.get("host_busy_ratio", 0.0)),
            memory_bytes=self._whole.moved_bytes,
            grew=self._named(lambda course: course.moved_bytes, _LEAST_BYTES),
            ran=self._named(lambda course: course.cpu_s, _LEAST_S),
        )
        self._restart(self._last)
        return found

    def _course(self, who: Who, name: str, memory_bytes: int) -> _Course:
        return self._courses.setdefault(who, _Course(name, memory_bytes, memory_bytes))

    def _named(self, amount: Callable[[_Course], float], least: float) -> tuple[Other, ...]:
        """Those with the largest *amount*, if it is so much at least."""
        large = [(amount(course), who, course) for who, course in self._courses.items() if amount(course) >= least]
        return tuple(
            Other(name=course.name, pid=who.pid, memory_bytes=course.moved_bytes, cpu_seconds=course.cpu_s)
            for _, who, course in sorted(large, key=lambda one: -one[0])[:NAMED]
        )

    def _restart(self, now: Mapping[Who, Seen]) -> None:
        self._load, self._began_ns = hostload.read(), time.monotonic_ns()
        self._last, self._courses = now, {}
        whole = sum(one.memory_bytes for one in now.values())
        self._whole = _Course("", whole, whole)


def read(proc: Path, skipped: Collection[int]) -> Iterator[tuple[Who, Seen]]:
    """Every process below *proc* that is not *skipped*, and is not gone before it was read."""
    for entry in os.scandir(proc):
        if not entry.name.isdigit() or int(entry.name) in skipped:
            continue
        try:
            stat, statm = (Path(entry.path, name).read_bytes() for name in ("stat", "statm"))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if found := parse(stat, statm):
            yield found


def parse(stat: bytes, statm: bytes) -> tuple[Who, Seen] | None:
    """The two files of one process; None for the empty ones of a process that just ended. Names hold any character."""
    before, _, after = stat.rpartition(b")")
    pid, _, name = before.partition(b" (")
    fields, pages = after.split(), statm.split()
    if len(fields) < 20 or len(pages) < 3:
        return None
    user, system = int(fields[11]), int(fields[12])
    seen = Seen(
        name=name.decode("utf-8", "replace"),
        parent=int(fields[1]),
        memory_bytes=max(0, int(pages[1]) - int(pages[2])) * _PAGE,
        cpu_s=(user + system) * _TICK_S,
    )
    return Who(pid=int(pid), started=int(fields[19])), seen


def _without_children(now: Mapping[Who, Seen], ours: Collection[int]) -> dict[Who, Seen]:
    """*now* without whatever a process in *ours* started, children of children among it."""
    parents = {who.pid: one.parent for who, one in now.items()}
    mine = set(ours)
    for start in list(parents):
        pid, line = start, list[int]()
        while pid in parents and pid not in mine and pid not in line:
            line.append(pid)
            pid = parents[pid]
        if pid in mine:
            mine.update(line)
    return {who: one for who, one in now.items() if who.pid not in mine}
