"""Orphans of engines: what a monitor leaves behind when it ends, and this process has to reap.

Otherwise process 1 becomes their parent, and they are zombies until it looks, or for ever where it does not.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37  # linux/prctl.h
_LIBC = ctypes.CDLL(None, use_errno=True)


@contextmanager
def adopting() -> Iterator[None]:
    """Let what loses its parent in this block become a child of this process."""
    before = ctypes.c_int()
    _LIBC.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before))
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, before.value)


def reap(pids: Iterable[int]) -> None:
    """Wait for the end of those of *pids* that are children of this process: they have been killed."""
    for pid in pids:
        with suppress(ChildProcessError):  # another's, or reaped already
            os.waitpid(pid, 0)


def reap_group(number: int) -> None:
    """Wait for the end of all children of this process that are in process group *number*: they have been killed."""
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-number, 0)
