"""A file without a name that can be executed and that nobody can write, for a program that is made at run time.

memfd_create(2) makes it, and seals forbid changes. If the host forbids to execute such files (the sysctl
``vm.memfd_noexec`` is 2, Documentation/admin-guide/sysctl/vm.rst), it is in a file system of its own, read-only and
mounted nowhere: even root in the container, who finds the file as ``/proc/PID/exe``, cannot open it for writing.
"""

from __future__ import annotations

import errno
import fcntl
import os

_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 0x10
_F_ADD_SEALS, _ALL_SEALS = 1033, 0xF
_NAME = "tare-oci"


def file(data: bytes, *, least: int = 3) -> int:
    """A descriptor from *least* on, close-on-exec, of a file that holds *data*. Raises OSError."""
    try:
        fd = _in_memory(data)
    except PermissionError:
        fd = _on_tmpfs(data)
    if fd >= least:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    finally:
        os.close(fd)


def _in_memory(data: bytes) -> int:
    try:
        fd = os.memfd_create(_NAME, _MFD_CLOEXEC | _MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = os.memfd_create(_NAME, _MFD_CLOEXEC | _MFD_ALLOW_SEALING)  # before Linux 6.3: always executable
    try:
        os.write(fd, data)
        fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _on_tmpfs(data: bytes) -> int:
    from .. import mount_calls, rare_calls

    mount = rare_calls.detached_tmpfs()
    try:
        writer = os.open(_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o555, dir_fd=mount)
        try:
            os.write(writer, data)
        finally:
            os.close(writer)
        mount_calls.mount_setattr("", attributes=mount_calls.MOUNT_ATTR_RDONLY, dir_fd=mount)
        return os.open(_NAME, os.O_RDONLY | os.O_CLOEXEC, dir_fd=mount)
    finally:
        os.close(mount)
