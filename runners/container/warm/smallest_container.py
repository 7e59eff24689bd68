"""The smallest possible container, to prove that a runtime works here: one static program in an empty root."""

from __future__ import annotations

import os
import select
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

#: Long enough for a loaded host; a runtime needs some 10 ms.
DEADLINE_MS = 10_000
#: How the directory's name begins; its owner's number follows, by which it can be removed later (:mod:`leftovers`).
PREFIX = "tare-trial-"


@contextmanager
def directory(program: str, name: str) -> Iterator[str]:
    """Yield a temporary directory with ``rootfs/NAME``, a copy of *program*; other files may be put beside it."""
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as path:
        os.mkdir(f"{path}/rootfs")
        shutil.copy(program, f"{path}/rootfs/{name.lstrip('/')}")
        yield path


def await_word(console: int, word: bytes, said: bytearray | None = None) -> bool:
    """Whether *word* arrives on *console* before its end and before the deadline; *said* gets all that was read."""
    seen = bytearray() if said is None else said
    ready = select.poll()
    ready.register(console, select.POLLIN)
    while word not in seen:
        if not ready.poll(DEADLINE_MS):
            return False
        try:
            chunk = os.read(console, 4096)
        except BlockingIOError:
            continue
        if not chunk:
            return False
        seen += chunk
    return True


def hung_up(console: int) -> bool:
    """Whether every writer of *console* has closed it: the program that was started has ended, or is about to."""
    ready = select.poll()
    ready.register(console, select.POLLIN)
    return any(events & select.POLLHUP for _, events in ready.poll(0))
