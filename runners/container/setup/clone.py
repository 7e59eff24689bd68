"""How the first process gets into its namespaces: new ones by clone3, existing ones by way of a process in between.

The process in between enters the existing namespaces, and then makes the first process with CLONE_PARENT, so that it is
a child of the runtime all the same.

Source: setns(2), user_namespaces(7), time_namespaces(7).
"""

from __future__ import annotations

import errno
import os

from ..config.bundle import NAMESPACES
from ..config.extras import sysctl_namespace
from ..light.dataclasses import record
from ..linux import syscalls
from . import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from ..config.bundle import Bundle

_SIGCHLD = 17
#: Names in /proc/PID/ns, see namespaces(7).
_FILES = {"network": "net", "mount": "mnt", **{kind: kind for kind in ("pid", "uts", "ipc", "cgroup", "user", "time")}}


@record
class Created:
    """The first process of a container, a child of the caller, and a descriptor of it.

    *warnings* name the steps of its set-up that failed and are excused.
    """

    pid: int
    pidfd: int
    warnings: tuple[str, ...] = ()


def clone(bundle: Bundle, flags: int, born: int, become: Callable[[], NoReturn]) -> Created:
    """Make the process, which calls *become*, in new namespaces by *flags* and in those that *bundle* joins.

    *born* is a descriptor of the v2 cgroup in which it starts, or negative. Raises OSError.
    """
    if not any(bundle.namespaces.values()) and not bundle.is_new("time"):
        pid, pidfd = syscalls.clone3(flags, _SIGCHLD, cgroup_fd=born)
        if pid == 0:
            become()
        return Created(pid, pidfd)
    numbers, numbers_in = os.pipe()
    try:
        helper = os.fork()
        if helper == 0:
            _join_and_clone(bundle, flags, born, become, numbers_in)
        os.close(numbers_in)
        numbers_in = -1
        answer = b""
        while part := os.read(numbers, 4096):
            answer += part
            if answer.isdigit():
                break  # the first process holds the other end, too, until it runs
        os.waitpid(helper, 0)
    finally:
        os.close(numbers)
        if numbers_in >= 0:
            os.close(numbers_in)
    if not answer.isdigit():
        raise OSError(errno.EIO, answer.decode(errors="replace") or "the process that joins namespaces ended")
    pid = int(answer)
    return Created(pid, os.pidfd_open(pid))


def _join_and_clone(bundle: Bundle, flags: int, born: int, become: Callable[[], NoReturn], numbers: int) -> NoReturn:
    """In the process in between: join namespaces, make the parent's child, write its number, end."""
    try:
        # Processes in a joined pid or user namespace must not look into a copy of the runtime.
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        # Open and import these before a joined mount namespace hides them: this file, and modules that may be needed.
        clocks = os.open("/proc/self/timens_offsets", os.O_WRONLY | os.O_CLOEXEC) if bundle.is_new("time") else -1
        if bundle.namespaces.get("mount"):
            from ..linux import copy_up, idmap  # noqa: F401
        _join(bundle)
        if clocks >= 0:
            _new_time(bundle, clocks)
        if bundle.is_new("user") and os.geteuid():
            # Must be dumpable: else the files into which the parent writes the id maps belong to root.
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
        pid, _ = syscalls.clone3(flags | syscalls.CLONE_PARENT, 0, cgroup_fd=born)
        if pid == 0:
            os.close(numbers)
            become()
        os.write(numbers, str(pid).encode())
        os._exit(0)
    except OSError as error:
        os.write(numbers, f"cannot join the namespaces: {child.words(error)}".encode())
    finally:
        os._exit(child.SETUP_FAILED)


def _join(bundle: Bundle) -> None:
    """Join the namespaces with a path; the user namespace in the middle: some need its rights, others the old."""
    paths = {kind: path for kind, path in bundle.namespaces.items() if path}
    # The path may be a pipe: without O_NONBLOCK, open would wait until somebody writes to it.
    files = {kind: os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) for kind, path in paths.items()}
    for kind in _changed(bundle):
        if kind in files and _is_ours(files[kind], kind):
            raise OSError(
                errno.EPERM,
                f"is the {kind} namespace of the caller, which sysctl, hostname or domainname would change",
                paths[kind],
            )
    user = files.pop("user", -1)
    if "mount" in files:
        files["mount"] = files.pop("mount")  # last, because it changes the root and the current directory
    later = {}
    for kind, fd in files.items():
        try:
            syscalls.setns(fd, NAMESPACES[kind])
        except OSError as error:
            if user < 0 or error.errno != errno.EPERM:
                raise OSError(error.errno, error.strerror, paths[kind]) from None
            later[kind] = fd
    if user >= 0:
        _setns(user, "user", paths["user"])
    for kind, fd in later.items():
        _setns(fd, kind, paths[kind])


def _changed(bundle: Bundle) -> set[str]:
    """The kinds of namespaces in which the configuration sets something."""
    kinds = {sysctl_namespace(path) for path, _ in bundle.sysctls}
    return kinds | {"uts"} if bundle.hostname or bundle.domainname else kinds


def _is_ours(fd: int, kind: str) -> bool:
    ours, theirs = os.stat(f"/proc/self/ns/{_FILES[kind]}"), os.fstat(fd)
    return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _setns(fd: int, kind: str, path: str) -> None:
    try:
        syscalls.setns(fd, NAMESPACES[kind])
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def _new_time(bundle: Bundle, clocks: int) -> None:
    """time_namespaces(7): the offsets must be there before the first process is. *clocks* is their file."""
    syscalls.unshare(syscalls.CLONE_NEWTIME)
    if bundle.time_offsets:
        # In one write: the kernel only accepts a write at the start of the file.
        os.write(clocks, "\n".join(f"{clock} {s} {ns}" for clock, s, ns in bundle.time_offsets).encode())
    os.close(clocks)
