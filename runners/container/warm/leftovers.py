"""What killed runs have left: all whose name holds an owner that has ended. What a live run owns is never touched.

An owner is the process that started a thing. Its id stands in the thing's name: ``tare-owner-PID`` as the source of a
mount, as a word of a fork server's command line, in the path of a monitor's state and in that of a lease; at the end of
a cgroup's name; in that of a trial's directory. A container's own processes have no such word; they are found by their
root, which is such a mount.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress

from ..cgroup import cgroups
from ..cgroup.mountinfo import entries
from ..linux import mount_calls
from ..linux.files import read
from ..network import bridge
from . import smallest_container

_OWNER = re.compile(r"(?:^|/)tare-owner-(\d+)(?:$|/)")
_PROBE = re.compile(r"tare-probe-.*-(\d+)")
_TRIAL = re.compile(rf"{smallest_container.PREFIX}(\d+)-.*")
#: :data:`runners.container.warm.fork_server.MARKER`, without that module, and what it was in older versions.
_FORK_SERVERS = {"tare-fork-server", "tare-helper"}
_DEATH_MS = 10_000


def mine() -> str:
    """The word that marks what this process owns."""
    return f"tare-owner-{os.getpid()}"


def remove() -> list[str]:
    """Kill, unmount and remove what belongs to an owner that has ended; return the names."""
    return [
        *_remove_processes(),
        *_remove_leases(),
        *_remove_mounts(),
        *_remove_cgroups(),
        *_remove_directories(),
    ]


def _remove_processes() -> Iterator[str]:
    for pid, command in processes():
        # A monitor would report its container's end and clean up. But nobody reads its report, and it may hang.
        for each in (*_children(pid), pid):
            _kill(each)
        yield f"process {pid} ({command})"
    # Those whose monitor was killed before them, or just now.
    for pid, command in contained():
        _kill(pid)
        yield f"process {pid} ({command})"


def _remove_leases() -> Iterator[str]:
    for name in filter(orphaned, bridge.names()):
        bridge.teardown(name)
        yield f"network of {name}"


def _remove_mounts() -> Iterator[str]:
    for target in mounts(read("/proc/self/mountinfo")):
        # A mount on top of another may have been removed with it.
        with suppress(FileNotFoundError):
            mount_calls.umount2(target, mount_calls.MNT_DETACH)
            yield f"mount {target}"


def _remove_cgroups() -> Iterator[str]:
    for name in cgroups.find("tare-probe-"):
        owner = _PROBE.fullmatch(name)
        if owner and not alive(int(owner[1])):
            group = cgroups.at(name)
            group.kill()
            group.remove()
            yield f"cgroup {name}"
    for path in cgroups.strays("tare-probe-"):
        owner = _PROBE.fullmatch(os.path.basename(path))
        if owner and not alive(int(owner[1])):
            shutil.rmtree(path)
            yield f"directory {path}"


def _remove_directories() -> Iterator[str]:
    mounted = [mount.point for mount in entries(read("/proc/self/mountinfo"))]
    for entry in os.scandir(tempfile.gettempdir()):
        owner = _TRIAL.fullmatch(entry.name)
        if not owner or alive(int(owner[1])) or entry.stat(follow_symlinks=False).st_uid != os.geteuid():
            continue
        if not any(target.startswith(f"{entry.path}/") for target in mounted):
            shutil.rmtree(entry.path)  # refuses a link
            yield f"directory {entry.path}"


def alive(pid: int) -> bool:
    """Whether process *pid* exists and is no zombie."""
    try:
        return read(f"/proc/{pid}/stat").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def orphaned(word: str) -> bool:
    """Whether *word*, or a directory in it, names an owner that has ended."""
    found = _OWNER.search(word)
    return found is not None and not alive(int(found[1]))


def mounts(mountinfo: str) -> list[str]:
    """Mount points in *mountinfo* whose source names an owner that has ended; the last mounted first."""
    return [mount.point for mount in entries(mountinfo) if orphaned(mount.source)][::-1]


def processes() -> Iterator[tuple[int, str]]:
    """Fork servers and monitors whose owner has ended, and their program. Others may be a user's, such as ``tail``."""
    for pid in _all():
        # PermissionError: with hidepid (proc(5)), the process is another user's
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            command = read(f"/proc/{pid}/cmdline").split("\0")
            if orphaned(_mark(command)):
                yield pid, command[0]


def _mark(command: list[str]) -> str:
    """The word of *command* that names its owner: a fork server's own word, or the directory of a monitor's state."""
    if not _FORK_SERVERS.isdisjoint(command):
        return next((word for word in command if _OWNER.fullmatch(word)), "")
    return command[command.index("--root") + 1] if "--root" in command[:-1] else ""


def contained() -> Iterator[tuple[int, str]]:
    """Processes in containers, with their program: their root is a mount whose source names an owner that has ended."""
    ours = os.readlink("/proc/self/ns/mnt")
    for pid in _all():
        # OSError: as above; and EINVAL for a process that is ending and has no mounts any more
        with suppress(OSError):
            if os.readlink(f"/proc/{pid}/ns/mnt") != ours and "/" in mounts(read(f"/proc/{pid}/mountinfo")):
                yield pid, read(f"/proc/{pid}/comm").strip()


def _all() -> Iterator[int]:
    yield from (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


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
