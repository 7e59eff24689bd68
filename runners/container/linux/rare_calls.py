"""System calls that few containers need: as :mod:`syscalls`, and imported only where one is made.

Constants: linux/mount.h.
"""

from __future__ import annotations

import os

from ..light.ctypes import c_long
from . import syscalls
from .syscalls import failed, library

# The same number on every architecture.
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_PIDFD_GETFD = 430, 431, 432, 438
_FSOPEN_CLOEXEC, _FSCONFIG_CMD_CREATE, _FSMOUNT_CLOEXEC = 1, 6, 1


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
        flags = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
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
