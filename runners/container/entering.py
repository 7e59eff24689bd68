"""How exec enters the cgroups of a container: its process is made outside, and moves in by itself.

Whoever is inside already may fork no more than ``pids.max`` allows; whoever moves in is not asked (cgroup-v1/pids.rst).
So a container that has no task left can still be looked into, as with crun and runc. In v2 the process is born inside
where it can be, which saves the machine a pause of all forks (kernel/cgroup/cgroup.c, cgroup_attach_lock).
"""

from __future__ import annotations

import errno
import os

from . import hierarchies, syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cgroups import Cgroup

#: How a v2 cgroup refuses a process: no task left; it hands down controllers, so that its processes must be in cgroups
#: below it (systemd in the container does so); it is threaded.
_REFUSALS = (errno.EAGAIN, errno.EBUSY, errno.EOPNOTSUPP)


class Doors:
    """The files by which a process enters, open: once it is in the container's namespaces, it cannot find them."""

    def __init__(self, group: Cgroup, first: int) -> None:
        """*first* is the number of the container's first process. Raises OSError where there is no cgroup at all."""
        files = list(group.entrances())
        unified = files.pop() if files[-1].endswith("/cgroup.procs") else ""
        #: A descriptor of the v2 cgroup's directory, for clone3; -1 where there is none.
        self.born = -1
        self._v1 = [fd for fd in map(_opened, files) if fd >= 0]
        self._v2: list[int] = []
        if unified:
            other = _cgroup_of(first, group)
            self._v2 = [fd for fd in map(_opened, dict.fromkeys((unified, *other))) if fd >= 0]
            if os.path.isdir(os.path.dirname(unified)):
                self.born = os.open(os.path.dirname(unified), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not self._v1 and not self._v2:
            raise OSError(errno.ENOENT, "the container's cgroup is gone", f"/{group.relative}")

    def clone(self) -> int:
        """Make the process, a sibling of this one: 0 in it, once it has entered; else its number. Raises OSError."""
        born = self.born >= 0
        try:
            pid, _ = syscalls.clone3(syscalls.CLONE_PARENT, 0, cgroup_fd=self.born)
        except OSError as error:
            if not born or error.errno not in _REFUSALS:
                raise
            born = False
            pid, _ = syscalls.clone3(syscalls.CLONE_PARENT, 0)
        if pid == 0:
            self._enter(born=born)
        return pid

    def _enter(self, *, born: bool) -> None:
        # v1: by the file tasks, which moves this thread alone and stops no forks of others.
        for fd in self._v1:
            os.write(fd, b"0")
        refused = None
        for fd in () if born else self._v2:
            try:
                os.write(fd, b"0")
            except OSError as error:
                refused = error
            else:
                refused = None
                break
        if refused is not None:
            raise refused
        for fd in (self.born, *self._v1, *self._v2):
            if fd >= 0:
                os.close(fd)


def _opened(path: str) -> int:
    """A descriptor to write to *path*; -1 where there is none, as in a hierarchy that was mounted later."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1


def _cgroup_of(pid: int, group: Cgroup) -> list[str]:
    """The entrance of the v2 cgroup that process *pid* is in: the container may have moved it further down."""
    mount = group.layout.v2
    for line in hierarchies.read(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith("0::") and mount is not None:
            below = group.layout.below(mount, line[3:])
            return [f"{mount}/{below}/cgroup.procs"] if below else []
    return []
