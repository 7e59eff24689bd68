"""What killed runs left: processes and mounts that name an owner who is gone. What a live run owns is never touched.

An owner is the process that started a thing. Its id stands in the thing's name: ``tare-owner-PID`` as the source of a
mount, as a word of a helper's or monitor's command line, or at the end of a cgroup's name.
"""

from __future__ import annotations

import os
import re
import select
import signal
from collections.abc import Iterator
from contextlib import suppress

from . import cgroups, syscalls
from .hierarchies import read, unescape

_OWNER = re.compile(r"(?:^|/)tare-owner-(\d+)(?:$|/)")
_PROBE = re.compile(r"tare-probe-.*-(\d+)")
_DEATH_MS = 10_000


def mine() -> str:
    """The word that marks what this process owns."""
    return f"tare-owner-{os.getpid()}"


def remove() -> list[str]:
    """Kill, detach and remove what has an owner who is gone; return the names."""
    removed = []
    for pid, command in processes():
        # A monitor would report its container's end and clean up; but nobody reads it, and it may be stuck.
        for each in (*_children(pid), pid):
            _kill(each)
        removed.append(f"process {pid} ({command[0]})")
    for target in mounts(read("/proc/self/mountinfo")):
        # A mount that lay on another may have gone with it.
        with suppress(FileNotFoundError):
            syscalls.umount2(target, syscalls.MNT_DETACH)
            removed.append(f"mount {target}")
    for name in cgroups.find("tare-probe-"):
        owner = _PROBE.fullmatch(name)
        if owner and not alive(int(owner[1])):
            group = cgroups.at(name)
            group.kill()
            group.remove()
            removed.append(f"cgroup {name}")
    return removed


def alive(pid: int) -> bool:
    """Whether process *pid* exists and is no zombie."""
    try:
        return read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def orphaned(word: str) -> bool:
    """Whether *word*, or a directory in it, names an owner who is gone."""
    found = _OWNER.search(word)
    return found is not None and not alive(int(found[1]))


def mounts(mountinfo: str) -> list[str]:
    """Mount points in *mountinfo* whose source names an owner who is gone; the last mounted first."""
    targets = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if orphaned(right.split(" ")[1] if right.count(" ") else ""):
            targets.append(unescape(left.split(" ")[4]))
    return targets[::-1]


def processes() -> Iterator[tuple[int, list[str]]]:
    """Processes of this host, with their command lines, of which a word names an owner who is gone."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        # PermissionError: with hidepid (proc(5)), the processes of others are none of ours.
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            command = read(f"/proc/{entry}/cmdline").split("\0")
            if any(map(orphaned, command)):
                yield int(entry), command


def _children(pid: int) -> list[int]:
    """The children of all threads of *pid*: the kernel lists each under the thread that made it (runc has several)."""
    found: list[int] = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def _kill(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        ended = select.poll()
        ended.register(pidfd, select.POLLIN)
        ended.poll(_DEATH_MS)
    finally:
        os.close(pidfd)
