"""Removing by name what runs left: what the audit of this run found, and what killed runs left (``tare clean``).

It is the last resort, after every removal that should have done it. Only what bears a run's name is touched. Of
processes, which have no name of their own, only those that are the run's without doubt
(:func:`bench.host.audit.own_processes`): a user's program may name the run, too, and is left alone.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import shutil
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

from tare import runners
from tare.bench.host import audit, run_cgroup, workspace
from tare.bench.records.header import Leak
from tare.runners.base import RunnerError
from tare.runners.engines.common import engine_place

_PROCESS = re.compile(r"pid (\d+) \(")
_DEATH_MS = 10_000
_LIBC = ctypes.CDLL(None, use_errno=True)
_MNT_DETACH = 2  # sys/mount.h


def remove_leaks(leaks: Iterable[Leak], prefix: str) -> None:
    """Kill, detach and remove *leaks* of the run named *prefix*, as far as the kernel lets us.

    Processes first, then what they held.
    """
    found = list(leaks)
    own = audit.own_processes(prefix) if found else frozenset()
    for kind, undo in (
        ("process", partial(_end, own)),
        ("mount", _detach),
        ("cgroup", partial(_remove_cgroup, own)),
        ("network namespace", _remove_namespace),
        ("directory of an engine", lambda name: engine_place.remove(Path(name))),
        ("scratch entry", _remove_entry),
    ):
        for leak in reversed([leak for leak in found if leak.kind == kind]):  # the deepest of a tree first
            with suppress(OSError, RunnerError):
                undo(leak.name)


def remove_leftovers(report: Callable[[str], None]) -> None:
    """Remove what killed runs left, by our prefix only; *report* is told the name of each thing removed.

    Raises UsageError while a run is measuring, HostError for what cannot be removed.
    """
    with workspace.locked():
        for name in runners.REGISTRY:
            for removed in runners.load(name).sweep():
                report(removed)
        for relative in run_cgroup.leftovers():
            report(f"cgroup {relative}")
            run_cgroup.remove(relative)
        for stray in run_cgroup.strays():
            report(f"directory {stray}")
            shutil.rmtree(stray)
        for directory in workspace.leftovers():
            report(f"directory {directory}")
            workspace.remove(directory)


def _end(own: frozenset[int], name: str) -> None:
    match = _PROCESS.match(name)
    if match is not None and int(match[1]) in own:
        _kill(int(match[1]))


def _kill(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        ended.poll(_DEATH_MS)
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    finally:
        os.close(pidfd)


def _detach(name: str) -> None:
    _unmount(name)


def _unmount(path: str) -> None:
    """Unmount *path* as ``umount --lazy`` does. Not by our runtime, which is measured."""
    if _LIBC.umount2(os.fsencode(path), _MNT_DETACH):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _remove_cgroup(own: frozenset[int], name: str) -> None:
    for pid in map(int, Path(name, "cgroup.procs").read_text(encoding="ascii").split()):
        if pid in own:  # else rmdir(2) refuses
            with suppress(ProcessLookupError):
                _kill(pid)
    Path(name).rmdir()


def _remove_namespace(name: str) -> None:
    path = Path("/run/netns", name)
    with suppress(OSError):
        _unmount(os.fspath(path))
    path.unlink()


def _remove_entry(name: str) -> None:
    path = Path(name)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
