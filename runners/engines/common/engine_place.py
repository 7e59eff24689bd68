"""Two directories for all that an engine keeps of one subject: nothing of the user's own is used.

Images and containers are on a disk, as engines have them (``TMPDIR``, else ``/var/tmp``); sockets and state are where
paths are short, since a socket's ends at 107 bytes, and podman takes 50 for its state. The names hold the run and the
process that made them: so the audit finds what is left, and a later sweep removes that of a process that was killed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import PREFIX, RunnerError, Scratch
from tare.runners.container.cgroup.mountinfo import entries
from tare.runners.container.linux import mount_calls
from tare.runners.container.warm import leftovers
from tare.runners.launch import monitored, null_device, orphans

_NAME = re.compile(rf"{re.escape(PREFIX)}.+-(?P<engine>[a-z]+)-(?P<owner>\d+)-[^-]*")
#: Programs of engines, by name: their daemons, clients and monitors.
_PROGRAMS = re.compile(r"podman|conmon|catatonit|docker|dockerd|docker-init|containerd|containerd-shim.*|ctr")


@dataclass(frozen=True, slots=True)
class Place:
    """``disk`` is for what is large, ``run`` for what has short paths."""

    disk: Path
    run: Path


def base() -> Path:
    """Where what is large is kept."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp")


def short() -> Path:
    """Where paths are short, as in :func:`bench.host.workspace.base`."""
    return Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")


@contextmanager
def made(scratch: Scratch, engine: str) -> Iterator[Place]:
    """The directories of *engine* for the subject of *scratch*; at the end whatever still uses them is killed.

    Raises RunnerError.
    """
    owner = f"-{engine}-{os.getpid()}"  # a probe has it in its prefix
    stem = f"{scratch.prefix.removesuffix(owner)}{owner}-{scratch.directory.name}"
    place = Place(base() / stem, short() / f"{stem}r")
    try:
        for directory in (place.disk, place.run):
            directory.mkdir(mode=0o711)  # an engine of an ordinary user has its own below it
            directory.chmod(0o711)
        with null_device.kept():
            yield place
    except OSError as error:
        what = f"cannot keep the files of {engine} in {place.disk}"
        raise RunnerError(what, str(error), "set TMPDIR to a directory with room") from error
    finally:
        for directory in (place.run, place.disk):
            remove(directory)


def of_run(prefix: str) -> list[Path]:
    """The directories that exist now and belong to the run named *prefix*."""
    return sorted({*short().glob(f"{prefix}-*"), *base().glob(f"{prefix}-*")})


def remove(place: Path) -> None:
    """Kill the engine's processes that name *place*, unmount what is below it, and remove it."""
    for pid in (*_users(os.fspath(place)), *_pausing(place)):
        for each in orphans.family(pid)[::-1]:
            _kill(each)
    for point in [mount.point for mount in entries(Path("/proc/self/mountinfo").read_text())][::-1]:
        if point.startswith(f"{place}/"):
            with suppress(OSError):
                mount_calls.umount2(point, mount_calls.MNT_DETACH)
    shutil.rmtree(place, ignore_errors=True)


def sweep(engine: str) -> list[str]:
    """Remove the places of *engine* whose owner has ended; their names."""
    removed = []
    with suppress(OSError):
        for place in sorted({*short().iterdir(), *base().iterdir()}):
            found = _NAME.fullmatch(place.name)
            if found is None or found["engine"] != engine or leftovers.alive(int(found["owner"])):
                continue
            if place.is_dir() and not place.is_symlink() and os.geteuid() in (0, place.lstat().st_uid):
                remove(place)
                removed.append(f"directory {place}")
    return removed


def _users(place: str) -> list[int]:
    """Programs of engines whose command line names *place* or what is below it: a user's may name it, too."""
    word = re.compile(rf"{re.escape(place)}(?![\w-])")
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                program, _, rest = os.fsdecode((entry / "cmdline").read_bytes()).partition("\0")
                if _PROGRAMS.fullmatch(Path(program).name) and word.search(rest):
                    found.append(int(entry.name))
    return found


def _pausing(place: Path) -> Iterator[int]:
    """The process that keeps the namespaces of an ordinary user's podman: its command line names nothing."""
    for file in place.rglob("pause.pid"):
        with suppress(OSError, ValueError):
            pid = int(file.read_text())
            if _PROGRAMS.fullmatch(Path(f"/proc/{pid}/comm").read_text().strip()):
                yield pid


def _kill(pid: int) -> None:
    if pid == os.getpid():
        return
    with suppress(ProcessLookupError, PermissionError):
        pidfd = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            monitored.await_process(pidfd)
        finally:
            os.close(pidfd)
