"""Files that a user names, read without belief: what is wrong with one is bad input, in plain words with its path.

A reader may fail in ways that nobody listed (a parser that recurses too deeply, a number of a million digits). None of
them is a fault of tare: :func:`parsing` makes each a UsageError that keeps the first exception as its cause.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tare.bench.errors import TareError, UsageError

_CHUNK = 1 << 20
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class AbsentError(UsageError):
    """There is no such file."""


def data(path: Path, *, most: int, fix: str) -> bytes:
    """The bytes of *path*, a file of no more than *most* bytes; *fix* is what a user may do about a wrong one.

    Raises AbsentError where nothing is, UsageError for all else: a directory, a device, no permission, too large. The
    kind is looked at before opening, which alone can start a watchdog or rewind a tape, and wait for ever at a pipe. A
    pipe that the caller's shell has opened already (``<(...)``, ``/dev/stdin``) is read.
    """
    try:
        mode = path.stat().st_mode
        given = stat.S_ISFIFO(mode) and str(path.resolve()).startswith("/proc/")
        if not (stat.S_ISREG(mode) or given):
            kind = next((name for holds, name in _KINDS if holds(mode)), "not a regular file")
            raise UsageError(f"{path} is {kind}", "", fix)
        # A regular file of /proc may wait, too (kmsg); a pipe of the caller's is what should be waited for.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | (0 if given else os.O_NONBLOCK))
        try:
            found = _all(fd, most)
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError):
        raise AbsentError(f"cannot read {path}", "there is no such file", fix) from None
    except OSError as error:
        raise UsageError(f"cannot read {path}", error.strerror or str(error), fix) from error
    except ValueError as error:  # a NUL in a name, which no system call takes
        raise UsageError(f"cannot read {path!r}", str(error), fix) from error
    if len(found) > most:
        raise UsageError(f"{path} is too large", f"tare reads at most {_size(most)}", fix)
    return found


def text(path: Path, *, most: int, fix: str) -> str:
    """The text of *path*; see :func:`data`. Raises UsageError for what is no UTF-8, too."""
    found = data(path, most=most, fix=fix)
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read {path}", f"it is not UTF-8 text, from byte {error.start} on", fix) from None


@contextmanager
def parsing(what: str, fix: str) -> Iterator[None]:
    """Whatever fails inside is a UsageError: *what* (``FILE is no scenario``), the reason in plain words, and *fix*."""
    try:
        yield
    except TareError:
        raise
    except Exception as error:
        raise UsageError(what, reason(error), fix) from error


def reason(error: Exception) -> str:
    """Why a parser gave up, without the words of its language."""
    said = str(error)
    if isinstance(error, RecursionError):
        return "its tables or lists are nested too deeply"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8 text"
    if "integer string conversion" in said or isinstance(error, OverflowError):
        return "a number has too many digits"
    if isinstance(error, KeyError | IndexError | TypeError | AttributeError | AssertionError) or not said:
        return f"a part of it cannot be parsed ({type(error).__name__}: {said})"
    return said


def _all(fd: int, most: int) -> bytes:
    """All bytes, or one chunk more than *most*: what /dev/zero would give is never held."""
    parts, size = [], 0
    while size <= most and (part := os.read(fd, min(_CHUNK, most + 1))):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _size(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB"
