"""How exec enters the cgroups of a container: its process is made outside, and moves itself.

``pids.max`` limits the forks in a cgroup, not the processes that move into it (cgroup-v1/pids.rst). So exec works in a
container that has reached its limit, as with crun and runc. In v2, the process starts in the cgroup where that is
possible, since a move makes the kernel stop all forks of the host (kernel/cgroup/cgroup.c, cgroup_attach_lock).
"""

from __future__ import annotations

import errno
import os

from ..errors import OciError
from ..linux import syscalls
from . import hierarchies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .cgroups import Cgroup

#: How a v2 cgroup refuses a process: its limit of tasks is reached; it passes controllers to cgroups below it, which
#: must hold the processes (systemd in the container does so); it is threaded.
_REFUSALS = (errno.EAGAIN, errno.EBUSY, errno.EOPNOTSUPP)


class Entrances:
    """The files by which a process enters, opened beforehand: in the container's namespaces, no path leads to them."""

    def __init__(self, group: Cgroup, first: int, asked: tuple[str, ...]) -> None:
        """*first* is the number of the container's first process; *asked* are entrances by :func:`below`, if any.

        Raises OSError where there is no cgroup at all.
        """
        files = list(asked or group.entrances())
        unified = files.pop() if files[-1].endswith("/cgroup.procs") else ""
        #: A descriptor of the v2 cgroup's directory, for clone3; -1 where there is none.
        self.born = -1
        self._v1 = _opened(files)
        self._v2: list[tuple[int, str]] = []
        if unified:
            other = [] if asked else _cgroup_of(first, group)
            self._v2 = _opened(dict.fromkeys((unified, *other)))
            if os.path.isdir(os.path.dirname(unified)):
                self.born = os.open(os.path.dirname(unified), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not self._v1 and not self._v2:
            raise OSError(errno.ENOENT, "the container's cgroup is gone", f"/{group.relative}")

    def clone(self) -> int:
        """Make the process, a sibling of this one: 0 in it, after it has entered; its number here. Raises OSError."""
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
        # v1: the file tasks moves only this thread, and stops no forks of others
        for fd, path in self._v1:
            _step(fd, path)
        for fd, path in () if born else self._v2:
            try:
                _step(fd, path)
                break
            except OSError:
                if path == self._v2[-1][1]:
                    raise
        for fd, _ in (*self._v1, *self._v2):
            os.close(fd)
        if self.born >= 0:
            os.close(self.born)


def below(group: Cgroup, asked: list[str]) -> tuple[str, ...]:
    """The entrances where ``--cgroup`` has ``[CONTROLLERS:]PATH``, as runc takes it. Raises OciError."""
    paths: dict[str, str] = {}
    if not asked:
        return ()
    for text in asked:
        words, colon, path = text.rpartition(":")
        if not colon and len(asked) > 1:
            raise OciError(
                "--cgroup", f"{text!r} is given without a controller, beside others", "write CONTROLLER:PATH"
            )
        if ".." in path.split("/") or ":" in words:
            raise OciError("--cgroup", f"{path} is not a sub cgroup path", "give one below the container's")
        paths.update(dict.fromkeys(words.split(","), "/".join(word for word in path.split("/") if word)))
    known = group.by_controller()
    for word in paths:
        if word and word not in known:
            raise OciError("--cgroup", f"unknown controller {word}", f"there are: {', '.join(known) or 'none in v2'}")
    files = []
    for entrance in group.entrances():
        directory, file = os.path.split(entrance)
        named = [paths[word] for word, where in known.items() if where == directory and word in paths]
        path = (named or [paths.get("", "")])[0]
        place = f"{directory}/{path}" if path else directory
        if not os.path.isdir(place):
            # runc's words, which callers may know.
            raise OciError(
                "--cgroup", f"adding pid to {place}/cgroup.procs: no such file or directory", "make it first"
            )
        files.append(f"{place}/{file}")
    return tuple(files)


def _opened(paths: Iterable[str]) -> list[tuple[int, str]]:
    """Descriptors to write to *paths*, without those that are not there, as in a hierarchy that was mounted later."""
    found = []
    for path in paths:
        try:
            found.append((os.open(path, os.O_WRONLY | os.O_CLOEXEC), path))
        except FileNotFoundError:
            pass
    return found


def _step(fd: int, path: str) -> None:
    try:
        os.write(fd, b"0")
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def _cgroup_of(pid: int, group: Cgroup) -> list[str]:
    """The entrance of the v2 cgroup that process *pid* is in: the container may have moved it further down."""
    mount = group.layout.v2
    for line in hierarchies.read(f"/proc/{pid}/cgroup").split("\n"):
        if line.startswith("0::") and mount is not None:
            below = group.layout.below(mount, line[3:])
            return [f"{mount}/{below}/cgroup.procs"] if below else []
    return []
