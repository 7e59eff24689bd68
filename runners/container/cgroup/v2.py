"""A cgroup of version 2: one directory. See :mod:`cgroups`."""

# The methods do what the docstrings of v1.V1 say.
# ruff: noqa: D102

from __future__ import annotations

import errno
import os
import select
import time

from ..light.dataclasses import record
from ..linux.files import read, write, write_if_there
from .hierarchies import CPU_PERIOD_US, NEEDED_V2, Layout, kill, processes, remove

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

#: With cpuset, so that instances may use it.
ENABLED = (*NEEDED_V2, "cpuset")
#: All that limits something.
EVERY = (*ENABLED, "io", "hugetlb", "rdma", "misc")
_FREEZE_MS = 10_000
_CANNOT_ENABLE = (
    *(errno.EBUSY, errno.EINVAL, errno.ENOENT, errno.EOPNOTSUPP),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)


@record
class V2:
    """A cgroup, existing or not, as one directory of the unified hierarchy; its methods are those of :class:`V1`."""

    relative: str
    layout: Layout
    #: Controllers that are enabled for it if the kernel has them.
    controllers: tuple[str, ...] = ENABLED

    version = 2

    @property
    def _mount(self) -> str:
        if self.layout.v2 is None:
            raise FileNotFoundError(errno.ENOENT, "no cgroup v2 hierarchy is mounted", "/proc/self/mountinfo")
        return self.layout.v2

    @property
    def directory(self) -> str:
        """The directory."""
        return f"{self._mount}/{self.relative}"

    def directories(self) -> list[str]:
        return [self.directory]

    def file(self, controller: str, name: str) -> str:  # noqa: ARG002 - all controllers' files are in one directory
        return f"{self._mount}/{self.relative}/{name}"

    @property
    def path(self) -> Path:
        from pathlib import Path

        return Path(self._mount, self.relative)

    def paths(self) -> tuple[Path, ...]:
        return (self.path,)

    def entrances(self) -> tuple[str, ...]:
        return (f"{self.directory}/cgroup.procs",)

    def by_controller(self) -> dict[str, str]:
        return {}  # all controllers share a directory

    def child(self, name: str) -> V2:
        return V2(f"{self.relative}/{name}", self.layout, self.controllers)

    def create(self) -> None:
        """See :meth:`V1.create`: a controller works here only if every cgroup above enables it.

        A cgroup that enables controllers for those below it may hold no processes itself (the root may). So this fails
        with EBUSY below a cgroup with processes.
        """
        directory = self._mount
        for name in self.relative.split("/"):
            has = read(f"{directory}/cgroup.controllers").split()
            on = read(f"{directory}/cgroup.subtree_control").split()
            missing = [word for word in self.controllers if word in has and word not in on]
            self._enable(directory, missing)
            directory = f"{directory}/{name}"
            try:
                os.mkdir(directory)
            except FileExistsError:
                pass

    def _enable(self, directory: str, missing: list[str]) -> None:
        file = f"{directory}/cgroup.subtree_control"
        # An instance that tare measures needs all its controllers. A container needs those of which it has limits, and
        # a limit is refused later, by the name of its file. The cgroup above may hold processes (as in a container), or
        # this user may not write the file.
        needed = [] if self.controllers == EVERY else [word for word in missing if word in ENABLED]
        if needed:
            write(file, " ".join(f"+{word}" for word in needed))
        rest = [word for word in missing if word not in needed]
        if rest and not self._enabled(file, rest) and len(rest) > 1:
            for word in rest:
                self._enabled(file, [word])

    def _enabled(self, file: str, words: list[str]) -> bool:
        try:
            write(file, " ".join(f"+{word}" for word in words))
        except OSError as error:
            if error.errno not in _CANNOT_ENABLE:
                raise
            return False
        return True

    def add(self, pid: int) -> None:
        write(f"{self._mount}/{self.relative}/cgroup.procs", str(pid))

    def limit(self, *, memory_bytes: int | None = None, pids: int | None = None, cpus: float | None = None) -> None:
        for path, text in self.limits(memory_bytes=memory_bytes, pids=pids, cpus=cpus):
            write(path, text)

    def limits(
        self, *, memory_bytes: int | None = None, pids: int | None = None, cpus: float | None = None
    ) -> list[tuple[str, str]]:
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
        return processes([self.directory])

    def cpu_ns(self) -> int:
        return cpu_stat_ns(read(f"{self._mount}/{self.relative}/cpu.stat"))

    def reclaim(self, size_bytes: int) -> None:
        try:
            write(f"{self.directory}/memory.reclaim", str(size_bytes))
        except BlockingIOError:  # EAGAIN: less than that could be freed
            pass

    def freeze(self) -> None:
        file = f"{self.directory}/cgroup.events"
        events = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            changed = select.poll()
            changed.register(events, select.POLLPRI)  # kernfs_notify reports changes of "frozen", too
            write(f"{self.directory}/cgroup.freeze", "1")
            deadline = time.monotonic() + _FREEZE_MS / 1000
            while b"frozen 1" not in os.pread(events, 4096, 0):
                left_ms = (deadline - time.monotonic()) * 1000
                if left_ms <= 0:
                    self.thaw()
                    raise TimeoutError(errno.ETIMEDOUT, "does not freeze: a process waits in the kernel", file)
                changed.poll(left_ms)
        finally:
            os.close(events)

    def thaw(self) -> None:
        write(f"{self.directory}/cgroup.freeze", "0")

    def thaw_if_there(self) -> None:
        write_if_there(f"{self.directory}/cgroup.freeze", "0")

    def frozen(self) -> bool:
        try:
            # The second: not all are stopped yet, and a process that enters will be.
            if "frozen 1" in read(f"{self.directory}/cgroup.events"):
                return True
            return read(f"{self.directory}/cgroup.freeze").strip() == "1"
        except FileNotFoundError:
            return False

    def frozen_by(self) -> str:
        path = ""
        for name in self.relative.split("/"):
            path = f"{path}/{name}"
            try:
                if read(f"{self._mount}{path}/cgroup.freeze").strip() == "1":
                    return path
            except FileNotFoundError:
                return ""
        return ""

    def kill(self) -> None:
        # since Linux 5.14; it also kills what forks meanwhile, and what is frozen
        write_if_there(f"{self.directory}/cgroup.kill", "1")
        kill(self.pids, f"/{self.relative}")

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
