"""Makes this process the parent of the QEMU that libvirt's embedded driver daemonizes, and reaps it when it ends.

Otherwise PID 1 becomes its parent. libvirt asks kill(2) whether the process still exists, so it waits until PID 1 reaps
the zombie: seconds with the simple inits of containers and microVMs, and for ever if PID 1 reaps none. It would wait in
the same way for a QEMU that dies before createXML has returned; so the watch begins before there is a process.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tare.runners.container.linux.rare_calls import inotify
from tare.runners.container.linux.syscalls import prctl

#: linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
#: linux/inotify.h
_IN_MODIFY = 0x2
_EVENTS_BYTES = 4096


@contextmanager
def adopting() -> Iterator[None]:
    """Let orphans of this process's children become its children, only while QEMU starts."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0)


@contextmanager
def reaping(pid_file: Path) -> Iterator[list[int]]:
    """Reap the process that libvirt will name in *pid_file* as soon as it ends.

    Yields a list that then holds its wait status. The directory of *pid_file* must exist, the file need not.
    """
    status: list[int] = []
    with ExitStack() as stack:
        events = inotify(os.fspath(pid_file.parent), _IN_MODIFY)
        stack.callback(os.close, events)
        cancelled = os.eventfd(0, os.EFD_CLOEXEC)
        stack.callback(os.close, cancelled)
        thread = threading.Thread(
            target=_watch, args=(pid_file, events, cancelled, status), name=f"reap-{pid_file.stem}", daemon=True
        )
        thread.start()
        stack.callback(thread.join)
        stack.callback(os.eventfd_write, cancelled, 1)
        yield status


def _watch(pid_file: Path, events: int, cancelled: int, status: list[int]) -> None:
    pid, process = 0, None
    while process is None:
        if events not in _ready(events, cancelled):
            return
        os.read(events, _EVENTS_BYTES)  # an event for the file of any domain
        # A file that an earlier domain of that name has left names nobody; one's own zombie is somebody.
        with suppress(OSError, ValueError):
            pid = int(pid_file.read_text())
            process = os.pidfd_open(pid)
    try:
        if process in _ready(process, cancelled):
            with suppress(ChildProcessError):
                status.append(os.waitpid(pid, 0)[1])
    finally:
        os.close(process)


def _ready(*sources: int) -> list[int]:
    """Those of *sources* that can be read, at least one."""
    poller = select.poll()
    for source in sources:
        poller.register(source, select.POLLIN)
    return [source for source, _ in poller.poll()]
