"""Files of the kernel's own file systems (proc(5), cgroup, sysfs): read whole, written by one call.

Every error names the path, which the kernel's answer to read(2) and write(2) does not.
"""

from __future__ import annotations

import errno
import os


def read(path: str) -> str:
    """The text of a kernel file. Raises OSError; FileNotFoundError also if its cgroup goes while it is read."""
    # Not open(): its stat, ioctl and seeks are of no use here, and a start reads some fifty of these.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = b""
        while part := os.read(fd, 1 << 16):
            text += part
    except OSError as error:
        # kernfs answers ENODEV once the directory of an open file has been removed, which is no other error than to
        # come a moment later: OSError of ENOENT is FileNotFoundError.
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
        # write(2) knows no path, and a bare "Device or resource busy" helps nobody.
        raise OSError(error.errno, f"cannot write {text!r}: {error.strerror}", path) from None
    finally:
        os.close(fd)


def write_if_there(path: str, text: str) -> None:
    """:func:`write`, for a cgroup that others may remove at any moment: then nothing is left to be done.

    Not part of :func:`write`: ENODEV is also how a controller refuses a device that the host does not have.
    """
    try:
        write(path, text)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
