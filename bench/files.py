"""Files that are written whole or not at all, also where the disk is full."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from bench.errors import unwritten


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside *path*, then rename over it; into it, where it is a pipe or a device.

    Raises UsageError for a path that cannot be written, OutputError for a full disk; nothing half-written is left.
    """
    try:
        target = path.resolve()  # a link stays a link
        mode = target.stat().st_mode if target.exists() else stat.S_IFREG
        if stat.S_ISREG(mode):
            replace(target, data)
        else:  # O_NONBLOCK: a pipe that nobody reads is an error, not a wait
            fd = os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            os.set_blocking(fd, True)
            with open(fd, "wb") as file:
                file.write(data)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, to Path.resolve
        found = error if isinstance(error, OSError) else OSError(str(error))
        raise unwritten(f"cannot write {path}", found, "name a file in a directory that may be written") from error


def replace(path: Path, data: bytes) -> None:
    """Write beside *path* and rename over it. After any exception the new file is gone and the old one untouched."""
    scratch = path.with_name(f".{path.name[:80]}.{os.getpid()}")
    scratch.unlink(missing_ok=True)  # of a killed process; or a link of whoever may write here, which we do not follow
    try:
        with scratch.open("xb") as file:
            file.write(data)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_own(path: Path, data: bytes) -> None:
    """Write a file whose name nobody chose: what stands there is replaced, a link too, wherever it leads.

    Raises as :func:`write_atomically`.
    """
    try:
        replace(path, data)
    except OSError as error:
        raise unwritten(f"cannot write {path}", error, "give -o a file in a directory that may be written") from error


def write_over(path: Path, data: bytes) -> bool:
    """Write *data* in place of what *path* holds, in one write(2); spaces fill the rest. False if it does not fit."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            return len(data) <= size and os.pwrite(fd, data.ljust(size), 0) == size
        finally:
            os.close(fd)
    except OSError:
        return False
