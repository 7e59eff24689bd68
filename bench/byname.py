"""Removing by name what an audit found left: the last resort, after every removal that should have done it.

Only what bears the run's name is touched, and what descends from the measuring process: both were judged by the audit.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from bench.records import Leak
from runners.base import RunnerError
from runners.container import syscalls

_PROCESS = re.compile(r"pid (\d+) \(")
_DEATH_MS = 10_000


def remove(leaks: Iterable[Leak]) -> None:
    """Kill, detach and remove *leaks*, as far as the kernel lets us: processes first, then what they held."""
    found = list(leaks)
    for kind, undo in (
        ("process", _kill),
        ("mount", _detach),
        ("cgroup", _remove_cgroup),
        ("network namespace", _remove_namespace),
        ("scratch entry", _remove_entry),
    ):
        for leak in reversed([leak for leak in found if leak.kind == kind]):  # the deepest of a tree first
            with suppress(OSError, RunnerError):
                undo(leak.name)


def _kill(name: str) -> None:
    match = _PROCESS.match(name)
    if match is None or int(match[1]) == os.getpid():
        return
    pidfd = os.pidfd_open(int(match[1]))
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        ended.poll(_DEATH_MS)
        with suppress(ChildProcessError):
            os.waitpid(int(match[1]), os.WNOHANG)
    finally:
        os.close(pidfd)


def _detach(name: str) -> None:
    syscalls.umount2(name, syscalls.MNT_DETACH)


def _remove_cgroup(name: str) -> None:
    for pid in Path(name, "cgroup.procs").read_text(encoding="ascii").split():
        _kill(f"pid {pid} (")
    Path(name).rmdir()


def _remove_namespace(name: str) -> None:
    path = Path("/run/netns", name)
    with suppress(OSError):
        syscalls.umount2(os.fspath(path), syscalls.MNT_DETACH)
    path.unlink()


def _remove_entry(name: str) -> None:
    path = Path(name)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
