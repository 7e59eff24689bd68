"""Where the cgroup hierarchies are mounted, and what is done to their directories: read, write, kill, remove."""

from __future__ import annotations

import errno
import os
import select
import time

from ..light.dataclasses import record

# Handed on to the instrument, which imports no other room.
from ..linux.files import read as read  # noqa: PLC0414
from ..linux.files import write as write  # noqa: PLC0414
from . import mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Literal

    from .mountinfo import CgroupMount

    Mode = Literal["v1", "v2", "hybrid", "none"]

#: sched-bwc.rst: the default period, which crun, runc and docker use too.
CPU_PERIOD_US = 100_000

#: The controllers of an instance.
NEEDED = ("memory", "pids", "cpu", "cpuacct")
#: What v2 offers for them: cpuacct is part of cpu.stat there.
NEEDED_V2 = ("memory", "pids", "cpu")

_CONTROLLERS = frozenset(
    {
        "blkio",
        "cpu",
        "cpuacct",
        "cpuset",
        "debug",
        "devices",
        "freezer",
        "hugetlb",
        "memory",
        "misc",
        "net_cls",
        "net_prio",
        "perf_event",
        "pids",
        "rdma",
    }
)
_DEATH_MS = 10_000
_FIRST_MS = 500
_SIGKILL = 9
_TRIES = 200
#: Descriptors of processes at a time: a caller's limit is 1024 as a rule.
_AT_ONCE = 256


@record
class Layout:
    """Where the hierarchies are mounted: controller -> directory for v1, every v1 directory, and v2's directory."""

    mode: Mode
    v1: dict[str, str]
    hierarchies: tuple[str, ...]
    v2: str | None
    #: Of the mounts that show a part of their hierarchy: (directory, the cgroup that it shows).
    parts: tuple[tuple[str, str], ...] = ()

    def below(self, mount: str, cgroup: str) -> str:
        """The path of *cgroup*, as /proc/PID/cgroup has it, below *mount*; empty for what *mount* itself shows.

        Empty, too, for what is out of sight, as where a container has been given a part of the hierarchy.
        """
        root = dict(self.parts).get(mount, "/").rstrip("/")
        # Above our cgroup namespace the kernel tells no names.
        if root and (".." in root or not mountinfo.covers(root, cgroup)):
            return ""
        return cgroup[len(root) :].strip("/")

    @property
    def mounts(self) -> tuple[str, ...]:
        """The directories of all hierarchies of both versions."""
        return self.hierarchies if self.v2 is None else (*self.hierarchies, self.v2)


def parse(text: str, own: Callable[[], str] = str) -> Layout:
    """Read *text*, a ``/proc/PID/mountinfo``. Of several mounts of one hierarchy, :func:`mountinfo.best` is used.

    *own* returns the text of ``/proc/PID/cgroup``.
    """
    v1: dict[str, str] = {}
    hierarchies: list[str] = []
    parts: list[tuple[str, str]] = []
    v2: str | None = None
    for known, mounts in _sorted(mountinfo.visible(text)).items():
        if any(word in v1 for word in known):
            continue
        chosen = mountinfo.best(mounts, own)
        if chosen.root != "/":
            parts.append((chosen.point, chosen.root))
        if not known:
            v2 = chosen.point
            continue
        v1.update(dict.fromkeys(known, chosen.point))
        hierarchies.append(chosen.point)
    driven = any(controller in v1 for controller in NEEDED)
    mode: Mode = ("hybrid" if v2 else "v1") if driven else ("v2" if v2 else "none")
    return Layout(mode, v1, tuple(hierarchies), v2, tuple(parts))


def _sorted(mounts: list[CgroupMount]) -> dict[tuple[str, ...], list[CgroupMount]]:
    """By hierarchy: its controllers and its name in v1, nothing in v2."""
    found: dict[tuple[str, ...], list[CgroupMount]] = {}
    for mount in mounts:
        # A super block's options hold flags (rw, xattr) and keys (release_agent=) beside the controllers.
        known = [word for word in mount.words if word in _CONTROLLERS or word.startswith("name=")]
        if mount.version == 2 or known:
            found.setdefault(() if mount.version == 2 else tuple(known), []).append(mount)
    return found


#: The last text of mountinfo, and what was found in it: a start asks three times, and it seldom changes.
_known: dict[str, Layout] = {}


def layout() -> Layout:
    """What this host has now: it may change (the fix for crun on a hybrid host mounts a hierarchy)."""
    text = read("/proc/self/mountinfo")
    found = _known.get(text)
    if found is None:
        found = parse(text, lambda: read("/proc/self/cgroup"))
        _known.clear()
        if not found.parts:  # else the result depends on this process's cgroup, too
            _known[text] = found
    return found


def below(directory: str) -> Iterator[str]:
    """*directory* and all directories below it, children first; nothing if it does not exist."""
    try:
        children = [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for child in children:
        yield from below(child)
    yield directory


def processes(directories: Iterable[str]) -> frozenset[int]:
    """Every process in *directories* and below them."""
    found: set[int] = set()
    for directory in directories:
        for each in below(directory):
            try:
                found.update(map(int, read(f"{each}/cgroup.procs").split()))
            except OSError as error:
                # EOPNOTSUPP: it is threaded, and its processes are in the file of the domain above it (cgroup-v2.rst,
                # "Threads").
                if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
                    raise OSError(error.errno, f"cannot read: {error.strerror}", f"{each}/cgroup.procs") from None
    return frozenset(found)


def kill(
    pids: Callable[[], frozenset[int]], where: str, rescue: Callable[[Iterable[int]], object] = lambda _: None
) -> None:
    """Send SIGKILL and wait, again and again, until *pids* finds no process: one may have forked in between.

    *rescue* is called with the processes that are left after half a second. Raises OSError, with the numbers of those
    that are left after ten seconds.
    """
    start = time.monotonic()
    deadline = start + _FIRST_MS / 1000
    while found := sorted(pids()):
        for at in range(0, len(found), _AT_ONCE):
            _kill_some(found[at : at + _AT_ONCE], deadline)
        if time.monotonic() < deadline:
            continue
        if deadline > start + _FIRST_MS / 1000:
            raise OSError(errno.EBUSY, f"processes survive SIGKILL: {', '.join(map(_described, found[:9]))}", where)
        rescue(found)
        deadline = start + _DEATH_MS / 1000


def _described(pid: int) -> str:
    try:
        name, _, state = read(f"/proc/{pid}/stat").partition("(")[2].rpartition(")")
    except OSError:
        return f"{pid} (gone just now)"
    return f"{pid} ({name}, state {state.split()[0]})"


def send_kill(pids: Iterable[int]) -> None:
    """Send SIGKILL to each of *pids*, and wait for none."""
    for pid in pids:
        try:
            os.kill(pid, _SIGKILL)
        except ProcessLookupError:
            pass


def _kill_some(pids: Iterable[int], deadline: float) -> None:
    """Send SIGKILL to each of *pids*, and wait for their ends until *deadline*."""
    from _signal import pidfd_send_signal  # type: ignore[import-not-found]

    opened: list[int] = []
    try:
        for pid in pids:
            try:
                opened.append(os.pidfd_open(pid))
                pidfd_send_signal(opened[-1], _SIGKILL)
            except ProcessLookupError:
                pass
        for pidfd in opened:
            ended = select.poll()
            ended.register(pidfd, select.POLLIN)
            ended.poll(max(1, (deadline - time.monotonic()) * 1000))
    finally:
        for pidfd in opened:
            os.close(pidfd)
    # A pidfd reports the end a moment before the kernel takes the process out of its cgroup.
    time.sleep(0.001)


def remove(directory: str) -> None:
    """Remove *directory* and those below it; what is missing is no error."""
    try:
        os.rmdir(directory)  # most have none below, or were never made: then one call is enough
    except FileNotFoundError:
        return
    except OSError:
        for each in below(directory):
            _rmdir(each)


def removed(directories: Iterable[str]) -> bool:
    """Try to remove *directories*; whether none is left. One that holds a process, or another directory, stays."""
    try:
        for directory in directories:
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                pass
    except OSError:
        return False
    return True


def _rmdir(directory: str) -> None:
    for _ in range(_TRIES):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            # A parent can reap a process a moment before the kernel takes it out of its cgroup, and v1 has no event for
            # that.
            time.sleep(0.001)
        else:
            return
    raise OSError(errno.EBUSY, "the cgroup still has processes or children", directory)
