"""A terminal as a user has one, and reading from it."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from tests.oci.harness import DEADLINE_S


def read_until(fd: int, word: str) -> str:
    """What comes out of a terminal until *word*, or its end."""
    text = ""
    while word not in text:
        ready, _, _ = select.select([fd], [], [], DEADLINE_S)
        assert ready, f"nothing more in {DEADLINE_S} s after {text!r}"
        try:
            chunk = os.read(fd, 4096)
        except OSError:  # EIO: nobody holds the other side any more
            break
        if not chunk:
            break
        text += chunk.decode()
    return text.replace("\r\n", "\n")


@contextmanager
def own_terminal(rows: int = 24, columns: int = 80) -> Iterator[tuple[int, int]]:
    """A terminal as a user has one: (the side that a test types on, the side that a command gets)."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    try:
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)
