"""A small program that executes another one: a container's process runs it last before its own program.

While a copy of the runtime waits in the container, ``/proc/self/exe`` is the host's Python. An image whose program
begins with ``#!/proc/self/exe`` would run that file with the image's libraries, and could wait and overwrite it
(CVE-2019-5736). So the runtime first executes this program, out of a file in memory that nobody can write
(:mod:`unnamed_file`), and it executes the container's.

It also makes the calls that must come last: limits under which Python would fail (RLIMIT_AS), the capabilities as
configured, and the filter of system calls. So a filter need only allow what the program itself needs: after it there is
one call, execve, and if that fails a write and an exit. A profile may be older than this runtime, allow only a few
calls, or send each call to an agent.

It is called with ``argv`` = (the number of a descriptor, path, arguments...); see :mod:`machine_code`. What fails is
written to that descriptor, which closes on a successful execve; it then exits with 127.
"""

from __future__ import annotations

import errno
import os
import struct

from ...light.dataclasses import record
from . import unnamed_file
from .machine_code import CODE_BASE, DATA_AT, DATA_BASE, HEADERS, LISTENER, MACHINES, NUMBERS, REPORT, ROOM, code

#: The number that it reports -> what failed.
EXECUTE, DESCRIPTOR, CAPABILITIES, FILTER, LIMIT = range(5)
WHAT = ("execute {}", "pass on the descriptor for errors", "set the capabilities", "filter system calls", "set a limit")
#: Addresses: of the number of a listener's descriptor, plus one, and of the word that lets the program go on.
LISTENER_AT, GO_AT = DATA_AT, DATA_AT + 8
_LARGEST = 255 * 255 - 1
_F_SETFD, _FD_CLOEXEC = 2, 1
_WORD = (1 << 64) - 1


@record
class Call:
    """A system call by *name* (of :data:`machine_code.NUMBERS`); *what* it is for is one of the numbers above.

    There are at most five *arguments*. A number is passed as it is, bytes by their address. A pair of bytes is passed
    by the address of the first, to which the address of the second is appended (struct sock_fprog).
    """

    what: int
    name: str
    arguments: tuple[int | bytes | tuple[bytes, bytes], ...]
    flags: int = 0


def _machine() -> str:
    return os.uname().machine


def why_not() -> str:
    """Why there is no such program for this machine; empty if there is."""
    machine = _machine()
    return (
        ""
        if machine in MACHINES
        else f"there is no code for {machine} to start a program with, only for {' '.join(MACHINES)}"
    )


def image(calls: tuple[Call, ...] = (), *, announce: bool = False) -> bytes:
    """The program as an ELF file, which makes *calls* before it executes another. Raises OSError on an unknown machine.

    With *announce* it writes "0" to the report first: from then on the process is this program.
    """
    trouble = why_not()
    if trouble:
        raise OSError(errno.ENOEXEC, trouble)
    machine = _machine()
    first = [Call(DESCRIPTOR, "fcntl", (0, _F_SETFD, _FD_CLOEXEC), REPORT)]
    if announce:
        first.append(Call(DESCRIPTOR, "write", (0, b"0", 1), REPORT))
    data = _data((*first, *calls), NUMBERS[machine])
    entry, size = CODE_BASE + HEADERS, HEADERS + ROOM + len(data)
    # e_ident: ELF, 64 bit, little-endian, version 1; then ET_EXEC and so on.
    ident = b"\x7fELF\2\1\1"
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, MACHINES[machine], 1, entry, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    run = struct.pack("<IIQQQQQQ", 1, 5, 0, CODE_BASE, CODE_BASE, HEADERS + ROOM, HEADERS + ROOM, 0x10000)
    words = struct.pack("<IIQQQQQQ", 1, 6, 0, DATA_BASE, DATA_BASE, size, size, 0x10000)
    return header + run + words + code(machine).ljust(ROOM, b"\0") + data


def _data(calls: tuple[Call, ...], numbers: dict[str, int]) -> bytes:
    """Two words for a listener, the table, and what its addresses point to."""
    start = DATA_AT + 16 + 64 * (len(calls) + 1)
    table, texts = [], b""

    def place(text: bytes) -> int:
        nonlocal texts
        texts += bytes(-len(texts) % 8)
        texts += text
        return start + len(texts) - len(text)

    for call in calls:
        values = []
        for each in call.arguments:
            if isinstance(each, tuple):
                head, rest = each
                each = head + struct.pack("<Q", place(rest))  # noqa: PLW2901 - the pair as one text
            values.append(place(each) if isinstance(each, bytes) else each & _WORD)
        values += [0] * (6 - len(values))
        table.append(struct.pack("<8Q", numbers[call.name], *values, call.what | call.flags))
    return bytes(16) + b"".join(table) + struct.pack("<8Q", _WORD, *(0,) * 7) + texts


def make(calls: tuple[Call, ...] = (), *, announce: bool = False, least: int = 3) -> int:
    """:func:`image` as a file: a descriptor from *least* on, close-on-exec, that can be executed. Raises OSError."""
    return unnamed_file.file(image(calls, announce=announce), least=least)


def words(report: int, path: str, argv: tuple[str, ...]) -> list[bytes]:
    """The program's argv: *report* is the descriptor for what fails. Raises OSError if that is too large."""
    if not 0 <= report <= _LARGEST:
        raise OSError(errno.EBADF, f"descriptor {report} cannot be handed on: at most {_LARGEST}")
    return [bytes((report // 255 + 1, report % 255 + 1)), os.fsencode(path), *map(os.fsencode, argv)]


def said(data: bytes, path: str) -> str:
    """What the program wrote, in words; a text that is not its error number is returned as it is."""
    if len(data) != 4:
        return data.decode(errors="replace").strip()
    (number,) = struct.unpack("=I", data)
    what, number = number >> 16, number & 0xFFFF
    if what >= len(WHAT):
        return data.decode(errors="replace").strip()
    if (what, number) == (FILTER, errno.ETIMEDOUT):
        return "cannot filter system calls: nobody took the listener for SCMP_ACT_NOTIFY"
    return f"cannot {WHAT[what].format(path)}: {os.strerror(number)}"


__all__ = ["LISTENER", "Call", "image", "make", "said", "why_not", "words"]
