"""Control groups: one protocol, two kernels' interfaces (v1 hierarchies, the v2 unified one).

A cgroup is named by its path relative to the root of every hierarchy. Where v1 controllers are mounted they are driven,
even if a v2 hierarchy with few or no controllers stands beside them ("hybrid"): a controller lives in one of the two.

Creating a directory in a hierarchy costs about 100 µs and stands on the hot path of a start, so an instance uses a
fixed small set and no more: :data:`NEEDED`, which is memory, pids, cpu and cpuacct (v1: as many directories as these
have hierarchies, often two of them share one; v2: one directory). :meth:`Cgroup.remove` looks at every mounted
hierarchy nevertheless, because crun and runc make directories in all of them.

Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,pids,cpusets,cpuacct}.rst,
Documentation/scheduler/sched-bwc.rst, proc_pid_mountinfo(5). Every function raises OSError that names the path.
"""

# The methods of V1 and V2 do what :class:`Cgroup` says.
# ruff: noqa: D102

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .bundle import CPU_PERIOD_US
from .hierarchies import NEEDED, NEEDED_V2, Layout, Mode, below, kill, layout, processes, read, remove, write

__all__ = [
    "V1",
    "V2",
    "Cgroup",
    "Layout",
    "Mode",
    "at",
    "counts_swap",
    "cpu_stat_ns",
    "find",
    "layout",
    "mode",
    "usable",
]

#: cpuset too, only so that instances may use it.
_ENABLE_V2 = (*NEEDED_V2, "cpuset")


class Cgroup(Protocol):
    """One cgroup, existing or not."""

    @property
    def relative(self) -> str:
        """Path relative to each hierarchy's root, without a leading slash."""

    @property
    def path(self) -> Path:
        """The directory in the cpuacct (v1) or unified (v2) hierarchy."""

    def paths(self) -> tuple[Path, ...]:
        """The directories in all hierarchies that an instance uses."""

    def child(self, name: str) -> Cgroup:
        """The cgroup *name* below this one; nothing is created, and no file is read."""

    def create(self) -> None:
        """Make the directories and those above them; enable controllers for them. An existing one is no error."""

    def add(self, pid: int) -> None:
        """Move process *pid* with all its threads here; 0 is the caller."""

    def limit(self, *, memory_bytes: int | None = None, pids: int | None = None, cpus: float | None = None) -> None:
        """Set limits: memory without swap on top, number of tasks, processors as a quota. None leaves one as it is."""

    def limits(
        self, *, memory_bytes: int | None = None, pids: int | None = None, cpus: float | None = None
    ) -> list[tuple[str, str]]:
        """The writes that :meth:`limit` makes: (file, text)."""

    def pids(self) -> frozenset[int]:
        """Every process here and below, in the caller's pid namespace; empty if the cgroup does not exist."""

    def cpu_ns(self) -> int:
        """Processor time used here and below since creation, in nanoseconds."""

    def kill(self) -> None:
        """SIGKILL every process here and below, and return when none runs any more."""

    def remove(self) -> None:
        """Remove the directories here and below, in every mounted hierarchy; what is gone already is no error."""


def mode() -> Mode:
    """Which interface this host has; see :class:`Layout`."""
    return layout().mode


@dataclass(frozen=True, slots=True)
class V1:
    """A cgroup as one directory in each of some v1 hierarchies."""

    relative: str
    layout: Layout
    #: Controllers in whose hierarchies the directories are made.
    controllers: tuple[str, ...] = NEEDED

    def _directory(self, controller: str) -> str:
        mount = self.layout.v1.get(controller)
        if mount is None:
            raise FileNotFoundError(errno.ENOENT, "no cgroup v1 hierarchy is mounted for", controller)
        return f"{mount}/{self.relative}"

    def _directories(self) -> list[str]:
        return list(dict.fromkeys(map(self._directory, self.controllers)))

    @property
    def path(self) -> Path:
        return Path(self._directory("cpuacct"))

    def paths(self) -> tuple[Path, ...]:
        return tuple(map(Path, self._directories()))

    def child(self, name: str) -> V1:
        return V1(f"{self.relative}/{name}", self.layout, self.controllers)

    def create(self) -> None:
        for directory in self._directories():
            try:
                os.mkdir(directory)
            except FileExistsError:
                pass
            except FileNotFoundError:
                os.makedirs(directory, exist_ok=True)
        if "cpuset" in self.controllers:
            self._inherit_cpuset()

    def _inherit_cpuset(self) -> None:
        """Copy processors and nodes down: a new cpuset is empty and refuses processes (cpusets.rst, 1.3)."""
        parent = self.layout.v1["cpuset"]
        for name in self.relative.split("/"):
            for file in ("cpuset.cpus", "cpuset.mems"):
                if not read(f"{parent}/{name}/{file}").strip():
                    write(f"{parent}/{name}/{file}", read(f"{parent}/{file}").strip())
            parent = f"{parent}/{name}"

    def add(self, pid: int) -> None:
        for directory in self._directories():
            write(f"{directory}/cgroup.procs", str(pid))

    def limit(self, *, memory_bytes: int | None = None, pids: int | None = None, cpus: float | None = None) -> None:
        for path, text in self.limits(memory_bytes=memory_bytes, pids=pids, cpus=cpus):
            write(path, text)

    def limits(
        self, *, memory_bytes: int | None = None, pids: int | None = None, cpus: float | None = None
    ) -> list[tuple[str, str]]:
        """The writes that :meth:`limit` makes: (file, text)."""
        writes = []
        if memory_bytes is not None:
            directory = self._directory("memory")
            writes.append((f"{directory}/memory.limit_in_bytes", str(memory_bytes)))
            # The order matters: memory+swap may not be below memory. Absent without swap accounting.
            if os.path.exists(f"{self.layout.v1['memory']}/memory.memsw.limit_in_bytes"):
                writes.append((f"{directory}/memory.memsw.limit_in_bytes", str(memory_bytes)))
        if pids is not None:
            writes.append((f"{self._directory('pids')}/pids.max", str(pids)))
        if cpus is not None:
            directory = self._directory("cpu")
            writes.append((f"{directory}/cpu.cfs_period_us", str(CPU_PERIOD_US)))
            writes.append((f"{directory}/cpu.cfs_quota_us", str(round(cpus * CPU_PERIOD_US))))
        return writes

    def pids(self) -> frozenset[int]:
        return processes(self._directories())

    def cpu_ns(self) -> int:
        return int(read(f"{self._directory('cpuacct')}/cpuacct.usage"))

    def kill(self) -> None:
        # No new tasks from here on: else a fork bomb outruns us (v1 has no cgroup.kill).
        for directory in below(self._directory("pids")):
            write(f"{directory}/pids.max", "0")
        kill(self.pids, self.relative)

    def remove(self) -> None:
        for mount in self.layout.mounts:
            remove(f"{mount}/{self.relative}")


@dataclass(frozen=True, slots=True)
class V2:
    """A cgroup as one directory of the unified hierarchy."""

    relative: str
    layout: Layout

    @property
    def _mount(self) -> str:
        if self.layout.v2 is None:
            raise FileNotFoundError(errno.ENOENT, "no cgroup v2 hierarchy is mounted", "/proc/self/mountinfo")
        return self.layout.v2

    @property
    def path(self) -> Path:
        return Path(self._mount, self.relative)

    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def child(self, name: str) -> V2:
        return V2(f"{self.relative}/{name}", self.layout)

    def create(self) -> None:
        """Top-down constraint: a controller works here only if every cgroup above hands it down.

        A cgroup that hands down controllers may hold no processes itself (the root may), so this fails with EBUSY below
        a cgroup with processes.
        """
        directory = self._mount
        for name in self.relative.split("/"):
            has = read(f"{directory}/cgroup.controllers").split()
            on = read(f"{directory}/cgroup.subtree_control").split()
            missing = [f"+{word}" for word in _ENABLE_V2 if word in has and word not in on]
            if missing:
                write(f"{directory}/cgroup.subtree_control", " ".join(missing))
            directory = f"{directory}/{name}"
            with suppress(FileExistsError):
                os.mkdir(directory)

    def add(self, pid: int) -> None:
        write(f"{self._mount}/{self.relative}/cgroup.procs", str(pid))

    def limit(self, *, memory_bytes: int | None = None, pids: int | None = None, cpus: float | None = None) -> None:
        for path, text in self.limits(memory_bytes=memory_bytes, pids=pids, cpus=cpus):
            write(path, text)

    def limits(
        self, *, memory_bytes: int | None = None, pids: int | None = None, cpus: float | None = None
    ) -> list[tuple[str, str]]:
        """The writes that :meth:`limit` makes: (file, text)."""
        directory = f"{self._mount}/{self.relative}"
        writes = []
        if memory_bytes is not None:
            writes.append((f"{directory}/memory.max", str(memory_bytes)))
            if os.path.exists("/proc/swaps"):  # memory.swap.* exist only in a kernel with CONFIG_SWAP
                writes.append((f"{directory}/memory.swap.max", "0"))
        if pids is not None:
            writes.append((f"{directory}/pids.max", str(pids)))
        if cpus is not None:
            writes.append((f"{directory}/cpu.max", f"{round(cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}"))
        return writes

    def pids(self) -> frozenset[int]:
        return processes([str(self.path)])

    def cpu_ns(self) -> int:
        return cpu_stat_ns(read(f"{self._mount}/{self.relative}/cpu.stat"))

    def kill(self) -> None:
        try:
            write(f"{self._mount}/{self.relative}/cgroup.kill", "1")  # Linux 5.14; kills what forks meanwhile, too
        except FileNotFoundError:
            if not self.path.exists():
                return
        kill(self.pids, self.relative)

    def remove(self) -> None:
        for mount in self.layout.mounts:
            remove(f"{mount}/{self.relative}")


def cpu_stat_ns(text: str) -> int:
    """The processor time in a v2 ``cpu.stat`` text, in nanoseconds."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) * 1000
    raise OSError(errno.EINVAL, "no usage_usec in cpu.stat")


def at(relative: str, *, where: Layout | None = None) -> Cgroup:
    """The cgroup at *relative* to each hierarchy's root. Raises OSError if no usable hierarchy is mounted."""
    where = where or layout()
    words = relative.strip("/").split("/")
    if not all(words) or any(word in (".", "..") for word in words):
        raise OSError(errno.EINVAL, "not a relative cgroup path", relative)
    clean = "/".join(words)
    if where.mode == "none":
        raise FileNotFoundError(errno.ENOENT, "no cgroup hierarchy is mounted", "/proc/self/mountinfo")
    return V2(clean, where) if where.mode == "v2" else V1(clean, where)


def counts_swap() -> bool:
    """Whether memory and swap can be limited together here."""
    where = layout()
    if where.mode == "v2":
        return os.path.exists("/proc/swaps")  # memory.swap.* exist in a kernel with CONFIG_SWAP
    return os.path.exists(f"{where.v1.get('memory')}/memory.memsw.limit_in_bytes")


def usable() -> str:
    """Why this user may not create cgroups here; empty when it can. Tries it, with the controllers of an instance."""
    where = layout()
    if where.mode == "none":
        return "no cgroup hierarchy is mounted"
    if where.mode == "v2":
        try:
            has = read(f"{where.v2}/cgroup.controllers").split()
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        missing = [word for word in NEEDED_V2 if word not in has]
    else:
        missing = [word for word in NEEDED if word not in where.v1]
    if missing:
        return f"no cgroup hierarchy offers: {', '.join(missing)}"
    trial = at(f"tare-probe-{os.getpid()}", where=where)
    try:
        trial.create()
        trial.limit(memory_bytes=1 << 26, pids=16, cpus=1)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    finally:
        with suppress(OSError):
            trial.remove()
    return ""


def find(prefix: str) -> list[str]:
    """Names of top-level cgroups, in any hierarchy, that start with *prefix*; sorted, for :func:`at`."""
    where = layout()
    names: set[str] = set()
    for mount in where.mounts:
        with suppress(OSError):
            names.update(e.name for e in os.scandir(mount) if e.name.startswith(prefix) and e.is_dir())
    return sorted(names)
