"""The standard streams of a command: they exist, take every character, and what they did not take is an error."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import TextIO

from tare.bench.errors import OutputError

#: What tare writes and an encoding may lack, in characters that all have.
_PLAIN = {
    "µ": "u", "μ": "u", "×": "x", "·": "-", "•": "*", "−": "-", "–": "-", "—": "-", "±": "+/-", "…": "...", "∞": "inf",
    "\N{NO-BREAK SPACE}": " ", "\N{NARROW NO-BREAK SPACE}": " ", "\N{REPLACEMENT CHARACTER}": "?",
    "─": "-", "█": "#", "▒": "=", **dict.fromkeys("▏▎▍▌▋▊▉", "|"),
}  # fmt: skip


def prepare() -> None:
    """Make the three streams usable. Raises OutputError where standard output is closed: its data would be lost.

    A closed descriptor would be the number of the next file that is opened: a child's talk would end up in the records
    of a run. The null device takes its place.
    """
    closed = [number for number in (0, 1, 2) if not _is_open(number)]
    for _ in closed:
        os.open(os.devnull, os.O_RDWR)  # the lowest free number, inherited as streams are
    for number in closed:
        os.set_inheritable(number, True)
    sys.stdout, sys.stderr = (
        stream or open(number, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open as long as the process
        for number, stream in ((1, sys.stdout), (2, sys.stderr))
    )
    codecs.register_error("tare", _replacement)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="tare")
    if 1 in closed:
        raise OutputError(
            "standard output is closed", "the output goes there", "add '>/dev/null' if you do not need it"
        )


_used = False


def used() -> bool:
    """Whether anything was written to standard output."""
    return _used


def out(text: str, encoding: str = "") -> None:
    """Write *text* to standard output, at once. Raises BrokenPipeError when its reader is gone, else OutputError."""
    global _used  # noqa: PLW0603 - a process has one standard output
    _used = _used or bool(text)
    try:
        _write(sys.stdout, text, encoding)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _unwritten(error) from error


def utf8(text: str) -> str:
    """*text* for JSON, which is UTF-8: a file name may be any bytes (PEP 383), whatever the locale makes of them."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def json(data: object) -> None:
    """Write *data* to standard output as JSON, which is UTF-8 whatever the locale. Raises as :func:`out`."""
    import msgspec

    out(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Write *text* to standard error; that it cannot be written is no error."""
    try:
        _write(sys.stderr, text)
    except (OSError, ValueError):
        pass


def finish() -> None:
    """Write what is left, so that nothing fails after the exit code was chosen. Raises as :func:`out`."""
    try:
        out("")
    except (OSError, OutputError):
        _mute(sys.stdout)
        raise
    finally:
        try:
            sys.stderr.flush()
        except OSError:
            _mute(sys.stderr)


def reader_is_gone() -> bool:
    """Whether the reader of standard output has gone away, as ``| head`` does."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _write(stream: TextIO, text: str, encoding: str = "") -> None:
    """Write all of *text* at once, and wait where *stream* does not block: who shares the terminal may want it so."""
    if not isinstance(stream, io.TextIOWrapper):  # a test's
        stream.write(text)
        stream.flush()
        return
    _patiently(stream, stream.flush)
    rest = memoryview(text.encode(encoding or stream.encoding, stream.errors or "strict"))
    while rest:
        rest = rest[_patiently(stream, stream.buffer.write, rest) :]
    _patiently(stream, stream.flush)


def _patiently(stream: TextIO, call: Callable[..., int | None], *data: memoryview) -> int:
    """How much of *data* was taken by *call* of *stream*; when that was not all, there is room for more again."""
    while True:
        try:
            taken = call(*data)
        except BlockingIOError as full:  # a buffer says how much it took
            taken = full.characters_written if data else None
        else:
            if taken is not None or not data:
                return taken or 0
        # None: nothing was taken. That is also what a stream without a buffer says (PYTHONUNBUFFERED).
        poll = select.poll()
        poll.register(stream, select.POLLOUT)
        poll.poll()
        if taken:
            return taken


def _mute(stream: io.TextIOWrapper | object) -> None:
    """Let the interpreter's own flush at exit succeed: it would print an error, and exit with 120."""
    if isinstance(stream, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), stream.fileno())


def _unwritten(error: OSError) -> OutputError:
    fix = "make room there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "send it to another place"
    return OutputError("cannot write to standard output", error.strerror or str(error), fix)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _replacement(error: UnicodeError) -> tuple[str | bytes, int]:
    """For what an encoding lacks: a plain character, the byte of a file's name as it is on disk, else its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    parts = b""
    for character in error.object[error.start : error.end]:
        if "\udc80" <= character <= "\udcff":  # PEP 383: a byte that the system's encoding does not know
            parts += bytes([ord(character) - 0xDC00])
        else:
            known = _PLAIN.get(character)
            parts += (known or character).encode("ascii", "backslashreplace")
    return parts, error.end
