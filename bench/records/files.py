"""Files that are written whole or not at all, also where the disk is full."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from tare.bench.errors import unwritten

#: Files and directories that a signal which ends this process at once removes first: see :mod:`bench.host.interrupts`.
half_written: set[Path] = set()


def remove_half_written() -> None:
    """Remove what this process has not finished, or made for as long as it runs."""
    import shutil

    for path in half_written:
        with suppress(OSError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside *path*, then rename over it; into it, where it is a pipe, a device or a descriptor without a name.

    Raises UsageError for a path that cannot be written, OutputError for a full disk; nothing half-written is left.
    """
    try:
        known = _stat(path)
        target = path.resolve()  # a link stays a link
        if known is None or (stat.S_ISREG(known.st_mode) and target.exists()):
            replace(target, data)
        else:
            # By the name that was given: what the links of /proc/PID/fd say of a pipe or a removed file is no path.
            # O_NONBLOCK: a pipe that nobody reads is an error, not a wait.
            fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            os.set_blocking(fd, True)
            with open(fd, "wb") as file:
                file.write(data)
    except OSError as error:
        raise unwritten(f"cannot write {path}", error, "give a file in a directory that you may write to") from error


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def replace(path: Path, data: bytes) -> None:
    """Write beside *path* and rename over it; owner and mode stay those of the file that was there.

    After any exception, and a signal that ends the process, the new file is gone and the old one untouched.
    """
    scratch = path.with_name(f".{path.name[:80]}.{os.getpid()}")
    scratch.unlink(missing_ok=True)  # of a killed process; or a link of whoever may write here, which we do not follow
    half_written.add(scratch)
    try:
        _write_as(path, scratch, data)
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    finally:
        half_written.discard(scratch)


def _write_as(path: Path, scratch: Path, data: bytes) -> None:
    """Write *data* to the new file *scratch*, with owner and mode of the file *path*, if there is one."""
    old = path.lstat() if path.is_file() and not path.is_symlink() else None
    mode = old.st_mode & 0o777 if old else 0o666
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(fd, "wb") as file:
        if old:
            with suppress(PermissionError):  # only root gives files away
                os.fchown(fd, old.st_uid, old.st_gid)
            os.fchmod(fd, mode)
        file.write(data)


def write_own(path: Path, data: bytes) -> None:
    """Write a file whose name nobody chose: what stands there is replaced, a link too, wherever it leads.

    Raises as :func:`write_atomically`.
    """
    try:
        replace(path, data)
    except OSError as error:
        raise unwritten(f"cannot write {path}", error, "give -o a file in a directory that you may write to") from error


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
