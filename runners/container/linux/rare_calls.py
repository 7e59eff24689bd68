"""System calls that few programs need: as :mod:`syscalls`, and imported only where one is made.

Constants: linux/mount.h, linux/inotify.h.
"""

from __future__ import annotations

import os

from ..light.ctypes import c_char_p, c_int, c_long, c_uint
from . import mount_calls
from .syscalls import failed, library

# The same number on every architecture.
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_PIDFD_GETFD = 430, 431, 432, 438
IN_CLOSE_WRITE = 0x8
IN_MOVED_TO = 0x80

_FSOPEN_CLOEXEC, _FSCONFIG_CMD_CREATE, _FSMOUNT_CLOEXEC = 1, 6, 1

library.inotify_init1.argtypes = (c_int,)
library.inotify_add_watch.argtypes = c_int, c_char_p, c_uint


def detached_tmpfs() -> int:
    """fsopen(2), fsmount(2), Linux 5.2: a new tmpfs that is mounted nowhere; a close-on-exec descriptor of its root."""
    context: int = library.syscall(c_long(_SYS_FSOPEN), b"tmpfs", c_long(_FSOPEN_CLOEXEC))
    if context < 0:
        raise failed("fsopen", "tmpfs")
    try:
        if (
            library.syscall(c_long(_SYS_FSCONFIG), c_long(context), c_long(_FSCONFIG_CMD_CREATE), None, None, c_long(0))
            < 0
        ):
            raise failed("fsconfig", "tmpfs")
        flags = mount_calls.MOUNT_ATTR_NOSUID | mount_calls.MOUNT_ATTR_NODEV
        fd: int = library.syscall(c_long(_SYS_FSMOUNT), c_long(context), c_long(_FSMOUNT_CLOEXEC), c_long(flags))
    finally:
        os.close(context)
    if fd < 0:
        raise failed("fsmount", "tmpfs")
    return fd


def pidfd_getfd(pidfd: int, number: int) -> int:
    """pidfd_getfd(2), Linux 5.6: a close-on-exec copy of descriptor *number* of another process."""
    fd: int = library.syscall(c_long(_SYS_PIDFD_GETFD), c_long(pidfd), c_long(number), c_long(0))
    if fd < 0:
        raise failed("pidfd_getfd")
    return fd


def inotify(directory: str, events: int) -> int:
    """A non-blocking inotify(7) descriptor that watches *directory* for *events*."""
    fd: int = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        raise failed("inotify_init1", directory)
    if library.inotify_add_watch(fd, os.fsencode(directory), events) < 0:
        error = failed("inotify_add_watch", directory)
        os.close(fd)
        raise error
    return fd
