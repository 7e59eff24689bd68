"""Files of the kernel's own file systems (proc(5), cgroup, sysfs): read whole, written by one call.

Every error names the path, which the kernel's answer to read(2) and write(2) does not.
"""

from __future__ import annotations

import errno
import os


def read(path: str) -> str:
    """The text of a kernel file. Raises OSError; FileNotFoundError also if its cgroup is removed while it is read."""
    # Not open(): it also calls stat, ioctl and lseek, which are not needed, and a start reads some fifty files.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b""
        while part := os.read(fd, 1 << 16):
            text += part
    except OSError as error:
        # kernfs answers ENODEV once the directory of an open file has been removed. A moment later, open would fail by
        # ENOENT: so it is raised as that, a FileNotFoundError.
        number = errno.ENOENT if error.errno == errno.ENODEV else error.errno
        raise OSError(number, os.strerror(number or 0), path) from None
    finally:
        os.close(fd)
    return text.decode(errors="surrogateescape")


def write(path: str, text: str) -> None:
    """One write to an existing kernel file."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        # the error of write(2) has no path, and without one "Device or resource busy" does not help
        raise OSError(error.errno, f"cannot write {text!r}: {error.strerror}", path) from None
    finally:
        os.close(fd)


def write_if_there(path: str, text: str) -> None:
    """:func:`write`, for a cgroup that others may remove at any moment: then there is nothing to do.

    Not part of :func:`write`: ENODEV is also how a controller refuses a device that the host does not have.
    """
    try:
        write(path, text)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
