"""What a bare process leaves running when it ends: it has no pid namespace, with which all of it would die.

While one runs, this process adopts what its descendants leave behind (PR_SET_CHILD_SUBREAPER, prctl(2)); else process 1
would. An adopted process has no mark of whose it was, so all are ended together, once no bare process runs any more.
None of this is done for the payload, which starts nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from tare.runners.container.linux import syscalls


class Living:
    """The bare processes that run now. No other child of this process may begin while one of them runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pids: set[int] = set()
        self._count = 0
        #: When the first of them began, in clock ticks (proc_pid_stat(5)).
        self._since = 0

    def begin(self) -> None:
        """Before a start."""
        with self._lock:
            if not self._count:
                syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
                self._since = 0
            self._count += 1

    def started(self, pid: int) -> None:
        """After one that succeeded."""
        with self._lock:
            self._pids.add(pid)
            began = _began(pid)
            self._since = min(self._since or began, began)

    def adopted(self, pid: int) -> list[int]:
        """What *pid* or a process below it left behind; nothing while others run whose it might be."""
        with self._lock:
            return self._orphans() if self._count == 1 and pid in self._pids else []

    def end(self, pid: int = 0) -> None:
        """*pid* was reaped, or without one its start has failed: end what was left, if it was the last."""
        with self._lock:
            self._pids.discard(pid)
            self._count -= 1
            if self._count:
                return
            while found := self._orphans():  # what these leave behind is adopted in its turn
                kill(found)
                for each in found:
                    with suppress(ChildProcessError):
                        os.waitpid(each, 0)
            syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 0)

    def _orphans(self) -> list[int]:
        if not self._since:
            return []
        return [pid for pid in children(os.getpid()) if pid not in self._pids and _began(pid) >= self._since]


LIVING = Living()


def kill(pids: Iterable[int]) -> None:
    """SIGKILL to each that is still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """The children of *pid*. The kernel lists them under the thread that made them (proc_pid_task(5))."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def family(pid: int) -> list[int]:
    """*pid* and all below it."""
    return [pid, *(each for child in children(pid) for each in family(child))]


def _began(pid: int) -> int:
    """When it began, in clock ticks after the boot; 0 where it has been reaped."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0
