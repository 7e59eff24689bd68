"""A cgroup of version 1: a directory in each of some hierarchies. See :mod:`cgroups`."""

from __future__ import annotations

import errno
import os
import time

from ..light.dataclasses import record
from ..linux.files import read, write, write_if_there
from .hierarchies import CPU_PERIOD_US, NEEDED, Layout, below, kill, processes, remove, send_kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_FREEZE_MS = 10_000


@record
class V1:
    """A cgroup, existing or not, as one directory in each of some v1 hierarchies."""

    relative: str
    layout: Layout
    #: Controllers in whose hierarchies the directories are made.
    controllers: tuple[str, ...] = NEEDED
    #: Whether there is a directory in the v2 hierarchy, too, for programs that find processes by it.
    unified: bool = False

    version = 1

    def _directory(self, controller: str) -> str:
        mount = self.layout.v1.get(controller)
        if mount is None:
            raise FileNotFoundError(errno.ENOENT, "no cgroup v1 hierarchy is mounted for", controller)
        return f"{mount}/{self.relative}"

    def directories(self) -> list[str]:
        """The directories in all hierarchies that an instance uses."""
        found = list(dict.fromkeys(map(self._directory, self.controllers)))
        if self.unified and self.layout.v2 is not None:
            found.append(f"{self.layout.v2}/{self.relative}")
        return found

    def file(self, controller: str, name: str) -> str:
        """The path of the file *name* of *controller*. Raises FileNotFoundError if it has no hierarchy."""
        return f"{self._directory(controller)}/{name}"

    @property
    def path(self) -> Path:
        """The directory in the cpuacct (v1) or unified (v2) hierarchy."""
        from pathlib import Path  # imported late: a start does not need it

        return Path(self._directory("cpuacct"))

    def paths(self) -> tuple[Path, ...]:
        """:meth:`directories` as paths."""
        from pathlib import Path

        return tuple(map(Path, self.directories()))

    def entrances(self) -> tuple[str, ...]:
        """The files by which a process of one thread enters: it writes 0 to each. See :class:`basic.JoinCgroup`."""
        here = self.directories()
        in_v2 = here.pop() if self.unified and self.layout.v2 is not None else None
        return tuple(f"{directory}/tasks" for directory in here) + ((f"{in_v2}/cgroup.procs",) if in_v2 else ())

    def by_controller(self) -> dict[str, str]:
        """The directory of each controller, and of each named hierarchy."""
        return {word: f"{mount}/{self.relative}" for word, mount in self.layout.v1.items() if word in self.controllers}

    def child(self, name: str) -> V1:
        """The cgroup *name* below this one; nothing is created, and no file is read."""
        return V1(f"{self.relative}/{name}", self.layout, self.controllers, self.unified)

    def create(self) -> None:
        """Make the directories and those above them, and enable controllers for them. An existing one is no error."""
        for directory in self.directories():
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
        """Move process *pid* with all its threads here; 0 is the caller."""
        for directory in self.directories():
            write(f"{directory}/cgroup.procs", str(pid))

    def limit(self, *, memory_bytes: int | None = None, pids: int | None = None, cpus: float | None = None) -> None:
        """Set limits of a new cgroup: memory (and no swap), tasks, processors as a quota. None sets no limit."""
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
            # The quota for the default period, which a new cgroup has. To write the period, too, would take 0.6 ms more
            # on a host with 2500 cgroups: at each of the two writes, the kernel walks through all of them
            # (kernel/sched/core.c, tg_set_bandwidth).
            writes.append((f"{self._directory('cpu')}/cpu.cfs_quota_us", str(round(cpus * CPU_PERIOD_US))))
        return writes

    def pids(self) -> frozenset[int]:
        """Every process here and below, in the caller's pid namespace; empty if the cgroup does not exist."""
        return processes(self.directories())

    def cpu_ns(self) -> int:
        """Processor time used here and below since creation, in nanoseconds."""
        return int(read(f"{self._directory('cpuacct')}/cpuacct.usage"))

    def reclaim(self, size_bytes: int) -> None:  # noqa: ARG002 - this version takes all that it can get, and no amount
        """Ask the kernel to free *size_bytes* of its memory; returns when that is freed, or no more can be.

        The kernel frees page cache, and what was given back with MADV_FREE. It frees anonymous memory in use only if
        the host has swap (memory.rst, 5.1).
        """
        write(self.file("memory", "memory.force_empty"), "0")

    def freeze(self) -> None:
        """Stop every process here and below; returns when all are stopped."""
        file = self.file("freezer", "freezer.state")
        deadline = time.monotonic() + _FREEZE_MS / 1000
        while True:
            # Again and again: if a process forks at that moment, the cgroup may stay FREEZING for ever (runc had that
            # fault).
            write(file, "FROZEN")
            if read(file).strip() == "FROZEN":
                return
            if time.monotonic() > deadline:
                self.thaw()
                raise TimeoutError(errno.ETIMEDOUT, "does not freeze: a process waits for a device or a server", file)
            time.sleep(0.001)  # v1 has no event for it

    def thaw(self) -> None:
        """Let the processes run again; no error where they do."""
        write(self.file("freezer", "freezer.state"), "THAWED")

    def thaw_if_there(self) -> None:
        """:meth:`thaw`, after a SIGKILL, also below: another may remove the cgroup meanwhile."""
        for directory in below(self._directory("freezer")):
            write_if_there(f"{directory}/freezer.state", "THAWED")

    def frozen(self) -> bool:
        """Whether the processes are stopped by :meth:`freeze`, here or above; False if the cgroup does not exist."""
        try:
            # FREEZING: some are stopped, and a process that enters will be
            return read(self.file("freezer", "freezer.state")).strip() != "THAWED"
        except FileNotFoundError:
            return False

    def frozen_by(self) -> str:
        """Which cgroup was told to stop the processes here, this one or one above; empty if none was."""
        path = ""
        for name in self.relative.split("/"):
            path = f"{path}/{name}"
            try:
                if read(f"{self.layout.v1['freezer']}{path}/freezer.self_freezing").strip() == "1":
                    return path
            except (FileNotFoundError, KeyError):  # it is not made yet, nor what is below it; or there is no freezer
                return ""
        return ""

    def kill(self) -> None:
        """SIGKILL every process here and below, frozen or not, and return when none runs any more."""
        # No new tasks from now on: a fork bomb could make them faster than they are killed (v1 has no cgroup.kill).
        if "pids" in self.controllers:
            for directory in below(self._directory("pids")):
                write_if_there(f"{directory}/pids.max", "0")
        if "freezer" in self.layout.v1 and self._any_frozen():
            send_kill(self.pids())  # a frozen process dies when it is thawed, before it does anything else
            self.thaw_if_there()
        above = self.frozen_by()
        kill(self.pids, f"{above} (frozen)" if above else f"/{self.relative}", self._pull_in)

    def _pull_in(self, pids: Iterable[int]) -> None:
        """Move processes here that were moved to a frozen cgroup of others: here they can die."""
        for pid in pids:
            try:
                write(self.file("freezer", "cgroup.procs"), str(pid))
            except OSError:  # it has ended, or there is no such cgroup
                pass

    def _any_frozen(self) -> bool:
        """Whether this cgroup is frozen, or one below, which the container may have made and frozen."""
        for directory in below(self._directory("freezer")):
            try:
                if read(f"{directory}/freezer.state").strip() != "THAWED":
                    return True
            except FileNotFoundError:
                pass
        return False

    def remove(self) -> None:
        """Remove the directories here and below, in every mounted hierarchy; what is missing is no error."""
        for mount in self.layout.mounts:
            remove(f"{mount}/{self.relative}")
