"""The system calls that set-up is made of, as one interface: the kernel's, or a test's that only records them."""

from __future__ import annotations

import errno
import os
import stat

from ..linux import mount_calls, rootfs, rootfs_devices, rootfs_mounts
from ..linux import syscalls as k

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    #: A system call to make, its arguments, and the error numbers that are no error.
    Call = tuple[Callable[..., object], tuple[Any, ...], tuple[int, ...]]
else:
    Protocol = object


class Sys(Protocol):
    """The system calls that steps consist of. Those in an untrusted root (:mod:`rootfs`) end in ``_in``."""

    def mount(self, source: str, target: str, kind: str, flags: int, data: str = "", /) -> None:
        """mount(2)."""

    def umount2(self, target: str, flags: int, /) -> None:
        """umount2(2)."""

    def pivot_root(self, new: str, old: str, /) -> None:
        """pivot_root(2)."""

    def set_attributes(self, path: str, attributes: int, /) -> None:
        """mount_setattr(2): add *attributes* to the mount at *path*."""

    def mkdir(self, path: str, mode: int, /) -> None:
        """mkdir(2)."""

    def mknod(self, path: str, mode: int, device: int, /) -> None:
        """mknod(2)."""

    def symlink(self, target: str, path: str, /) -> None:
        """symlink(2)."""

    def chdir(self, path: str, /) -> None:
        """chdir(2)."""

    def fchdir(self, fd: int, /) -> None:
        """fchdir(2)."""

    def chroot(self, path: str, /) -> None:
        """chroot(2)."""

    def close(self, fd: int, /) -> None:
        """close(2)."""

    def write(self, path: str, text: str, root: int | None = None, /) -> None:
        """Open an existing file, write once, close. A relative *path* starts at the descriptor *root*, if given."""

    def unshare(self, flags: int, /) -> None:
        """unshare(2)."""

    def sethostname(self, name: str, /) -> None:
        """sethostname(2)."""

    def setdomainname(self, name: str, /) -> None:
        """setdomainname(2)."""

    def prctl(self, option: int, argument: int, third: int = 0, /) -> None:
        """prctl(2)."""

    def capset(self, effective: int, permitted: int, inheritable: int, /) -> None:
        """capset(2)."""

    def inherit(self, mask: int, /) -> None:
        """See :func:`syscalls.inherit`."""

    def setgroups(self, groups: list[int], /) -> None:
        """setgroups(2)."""

    def setresuid(self, real: int, effective: int, saved: int, /) -> None:
        """setresuid(2)."""

    def setresgid(self, real: int, effective: int, saved: int, /) -> None:
        """setresgid(2)."""

    def setsid(self) -> None:
        """setsid(2)."""

    def umask(self, mask: int, /) -> int:
        """umask(2)."""

    def prlimit(self, pid: int, which: int, limits: tuple[int, int], /) -> None:
        """prlimit(2)."""

    def sched_setattr(self, attributes: bytes, /) -> None:
        """sched_setattr(2) of the caller."""

    def run_on(self, processors: frozenset[int], /) -> None:
        """sched_setaffinity(2) of the caller."""

    def ioprio_set(self, priority: int, /) -> None:
        """ioprio_set(2) of the caller."""

    def personality(self, persona: int, /) -> None:
        """personality(2)."""

    def become_first_mapped(self) -> None:
        """setresgid(2) and setresuid(2) to the first ids that the caller's user namespace maps."""

    def own_streams(self, uid: int, gid: int, /) -> None:
        """fchown(2) of the standard streams that are pipes, so that /dev/stdout can be opened by who writes to it."""

    def link_up(self, interface: str, /) -> None:
        """Set IFF_UP of a network interface (netdevice(7))."""

    def new_keyring(self) -> None:
        """keyctl(2), KEYCTL_JOIN_SESSION_KEYRING without a name."""

    def terminal(self, carrier: int, size: tuple[int, int] | None, uid: int, console: int, plain: int, /) -> None:
        """Make a terminal, hand its master out over *carrier*; see :func:`pty.make`."""

    def attach_root(self, source: str, tree: int, /) -> None:
        """See :func:`rootfs_mounts.attach_root`."""

    def let_go_of_host(self) -> None:
        """See :func:`without_pivot.let_go_of_host`."""

    def mkdir_in(self, path: str, /) -> None:
        """See :func:`rootfs.mkdir_in`."""

    def chdir_in(self, path: str, /) -> None:
        """See :func:`rootfs.chdir_in`."""

    def mount_in(self, source: str, target: str, kind: str, flags: int, data: str, instead: str, /) -> None:
        """See :func:`rootfs_mounts.mount_in`."""

    def remount_in(self, target: str, flags: int, clear: int, data: str, /) -> None:
        """See :func:`rootfs_mounts.remount_in`."""

    def copy_up_in(self, target: str, flags: int, data: str, /) -> None:
        """See :func:`rootfs_mounts.copy_up_in`."""

    def propagate_in(self, target: str, propagation: int, /) -> None:
        """See :func:`rootfs_mounts.propagate_in`."""

    def attributes_in(self, target: str, attributes: int, clear: int, recursive: int, /) -> None:
        """See :func:`rootfs_mounts.attributes_in`."""

    def bind_in(
        self,
        source: str,
        tree: int,
        target: str,
        recursive: bool,  # noqa: FBT001
        attributes: tuple[int, int],
        below: tuple[int, int],
        propagation: tuple[int, ...],
        /,
    ) -> None:
        """See :func:`rootfs_mounts.bind_in`."""

    def mask_in(self, path: str, /) -> None:
        """See :func:`rootfs_mounts.mask_in`."""

    def readonly_in(self, path: str, /) -> None:
        """See :func:`rootfs_mounts.readonly_in`."""

    def device_in(self, path: str, mode: int, number: int, uid: int, gid: int, standard: int, /) -> None:
        """See :func:`rootfs_devices.device_in`."""

    def bound_device_in(self, path: str, mode: int, number: int, /) -> None:
        """See :func:`rootfs_devices.bound_device_in`."""

    def link_in(self, target: str, path: str, replace: int, /) -> None:
        """See :func:`rootfs.link_in`."""


class Kernel:
    """The :class:`Sys` that acts."""

    mount = staticmethod(mount_calls.mount)
    umount2 = staticmethod(mount_calls.umount2)
    pivot_root = staticmethod(mount_calls.pivot_root)
    unshare = staticmethod(k.unshare)
    sethostname = staticmethod(k.sethostname)
    setdomainname = staticmethod(k.setdomainname)
    prctl = staticmethod(k.prctl)
    capset = staticmethod(k.capset)
    inherit = staticmethod(k.inherit)
    personality = staticmethod(k.personality)
    ioprio_set = staticmethod(k.ioprio_set)
    sched_setattr = staticmethod(k.sched_setattr)
    prlimit = staticmethod(k.prlimit)
    mkdir = staticmethod(os.mkdir)
    mknod = staticmethod(os.mknod)
    symlink = staticmethod(os.symlink)
    chdir = staticmethod(os.chdir)
    fchdir = staticmethod(os.fchdir)
    chroot = staticmethod(os.chroot)
    close = staticmethod(os.close)
    setgroups = staticmethod(os.setgroups)
    setresuid = staticmethod(os.setresuid)
    setresgid = staticmethod(os.setresgid)
    setsid = staticmethod(os.setsid)
    umask = staticmethod(os.umask)
    link_up = staticmethod(k.link_up)
    new_keyring = staticmethod(k.new_keyring)
    attach_root = staticmethod(rootfs_mounts.attach_root)
    mkdir_in = staticmethod(rootfs.mkdir_in)
    chdir_in = staticmethod(rootfs.chdir_in)
    mount_in = staticmethod(rootfs_mounts.mount_in)
    remount_in = staticmethod(rootfs_mounts.remount_in)
    copy_up_in = staticmethod(rootfs_mounts.copy_up_in)
    propagate_in = staticmethod(rootfs_mounts.propagate_in)
    attributes_in = staticmethod(rootfs_mounts.attributes_in)
    bind_in = staticmethod(rootfs_mounts.bind_in)
    mask_in = staticmethod(rootfs_mounts.mask_in)
    readonly_in = staticmethod(rootfs_mounts.readonly_in)
    device_in = staticmethod(rootfs_devices.device_in)
    bound_device_in = staticmethod(rootfs_devices.bound_device_in)
    link_in = staticmethod(rootfs.link_in)

    @staticmethod
    def set_attributes(path: str, attributes: int) -> None:
        """mount_setattr(2): add *attributes* to the mount at *path*."""
        mount_calls.mount_setattr(path, attributes=attributes)

    @staticmethod
    def write(path: str, text: str, root: int | None = None) -> None:
        """Open an existing file, write once, close. A relative *path* starts at the descriptor *root*, if given."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=root)
        try:
            os.write(fd, text.encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(fd)

    @staticmethod
    def run_on(processors: frozenset[int]) -> None:
        """sched_setaffinity(2) of the caller."""
        os.sched_setaffinity(0, processors)

    @staticmethod
    def become_first_mapped() -> None:
        """setresgid(2) and setresuid(2) to the first ids that the caller's user namespace maps."""
        from ..linux import idmap

        uid, gid = idmap.first()
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)

    @staticmethod
    def let_go_of_host() -> None:
        """See :func:`without_pivot.let_go_of_host`."""
        from .steps import without_pivot

        without_pivot.let_go_of_host()

    @staticmethod
    def own_streams(uid: int, gid: int) -> None:
        """fchown(2) of the standard streams that are pipes without a name: any other pipe is a file of the host."""
        for stream in (0, 1, 2):
            try:
                found = os.fstat(stream)
                if found.st_uid != uid and stat.S_ISFIFO(found.st_mode) and _nameless(found):
                    os.fchown(stream, uid, gid)
            except OSError as error:
                # It is closed, or its user is not mapped here: neither stops a program.
                if error.errno not in (errno.EBADF, errno.EPERM, errno.EINVAL):
                    raise

    @staticmethod
    def terminal(carrier: int, size: tuple[int, int] | None, uid: int, console: int, plain: int) -> None:
        """Make a terminal, hand its master out over *carrier*, and with *console* bind its slave on /dev/console."""
        from ..linux import pty

        slave = pty.make(carrier, size=size, uid=uid, plain=bool(plain))
        try:
            if not console:
                return
            place = rootfs.file("/dev/console")
            try:
                tree = mount_calls.open_tree("", dir_fd=slave)
                try:
                    mount_calls.move_mount(tree, place)
                finally:
                    os.close(tree)
            finally:
                os.close(place)
        finally:
            os.close(slave)


def _nameless(found: os.stat_result) -> bool:
    """Whether a FIFO was made by pipe(2), and is not a file."""
    ends = os.pipe()
    try:
        return found.st_dev == os.fstat(ends[0]).st_dev
    finally:
        for end in ends:
            os.close(end)


class Applicable(Protocol):
    """What :func:`flatten` needs of a step."""

    def apply(self, sys: Sys) -> None:
        """Make calls on *sys*."""

    @property
    def tolerated(self) -> tuple[int, ...]:
        """Error numbers that are no error."""

    @property
    def excused(self) -> tuple[int, ...]:
        """Error numbers that are a warning in a full set-up; a flat list of calls has no place for warnings."""


class _Recorder:
    """A :class:`Sys` that records each call, with the function of :class:`Kernel` that makes it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        act = getattr(Kernel, name)
        return lambda *arguments: self.calls.append((act, arguments))


def flatten(steps: Iterable[Applicable]) -> tuple[tuple[Call, ...], ...]:
    """The calls of each step: a process that is a copy touches, and so copies, fewer pages by these than by steps."""
    flat = []
    for step in steps:
        tape = _Recorder()
        step.apply(tape)  # type: ignore[arg-type]  # it answers to every name
        flat.append(tuple((act, arguments, step.tolerated + step.excused) for act, arguments in tape.calls))
    return tuple(flat)
