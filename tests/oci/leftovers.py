"""What is left of a container on the host: every place where something can be, and how it is cleared away.

The names of containers, cgroups and directories of one test all hold one word, unique to it: :func:`leftovers` looks
for it everywhere, and :func:`sweep` removes what bears it, so that one test's failure is not the next one's.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.conftest import wait_until


def settled(look: Callable[[], list[str]]) -> list[str]:
    """What *look* finds when it finds the same for a while: the kernel removes the dead a moment after their end."""
    found = look()
    if found:
        with suppress(pytest.fail.Exception):
            wait_until(lambda: not look(), 2.0)
        found = look()
    return found


def leftovers(word: str, state_directory: Path | None = None) -> list[str]:
    """Everything on this host that bears *word*: processes, cgroups, mounts; and entries of the state directory."""
    found = [f"process {pid} ({command})" for pid, command in processes(word)]
    found += [f"cgroup {path}" for path in cgroups(word)]
    found += [f"mount {target}" for target in mounts(word)]
    if state_directory is not None:
        with suppress(FileNotFoundError):
            # A name with a dot is no container: both crun and ours keep compiled filters so.
            found += [f"state {name}" for name in os.listdir(state_directory) if name[0] != "@"]
    return found


def _without_cgroups(word: str) -> list[str]:
    """Remove what can be removed of the cgroups; a process that just died holds its own for a moment. What is left."""
    for path in cgroups(word):
        with suppress(OSError):
            path.rmdir()
    return [str(path) for path in cgroups(word)]


def processes(word: str) -> Iterator[tuple[int, str]]:
    """Processes, but for this one, with *word* in their command line, their cgroups or their mounts."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with suppress(OSError):
            place = Path("/proc", entry)
            if (place / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z":
                continue
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            own_mounts = (place / "mountinfo").read_text(errors="replace") if not same_mounts(entry) else ""
            if any(word in text for text in (command, (place / "cgroup").read_text(errors="replace"), own_mounts)):
                yield int(entry), command.strip()


def same_mounts(pid: str) -> bool:
    """Whether process *pid* is in this one's mount namespace."""
    return Path("/proc", pid, "ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink()


def cgroups(word: str) -> Iterator[Path]:
    """Directories of any hierarchy with *word* in their name, those below first."""
    for hierarchy in hierarchies():
        yield from _named(hierarchy, word, depth=2)


def _named(directory: str, word: str, *, depth: int) -> Iterator[Path]:
    # Not the whole tree: others may have a thousand cgroups here just now.
    with suppress(OSError):
        for entry in os.scandir(directory):
            if not entry.is_dir(follow_symlinks=False):
                continue
            if word in entry.name:
                yield from (Path(top) for top, _, _ in os.walk(entry.path, topdown=False))
            elif depth > 1:
                yield from _named(entry.path, word, depth=depth - 1)


def hierarchies() -> list[str]:
    """Where cgroup file systems are mounted."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ")[0] in ("cgroup", "cgroup2"):
            found.append(left.split(" ")[4])
    return found


def mounts(word: str) -> list[str]:
    """Mount points with *word* in their line, the last mounted first."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    return [line.split(" ")[4] for line in lines if word in line][::-1]


def sweep(word: str) -> None:
    """Remove by force what bears *word*."""
    with ExitStack() as stack:
        for path in cgroups(word):
            with suppress(OSError):
                for state in ("freezer.state", "cgroup.freeze"):
                    if (path / state).exists():
                        (path / state).write_text("THAWED" if state == "freezer.state" else "0")
        for pid, _ in processes(word):
            with suppress(OSError):
                fd = os.pidfd_open(pid)
                stack.callback(os.close, fd)
                signal.pidfd_send_signal(fd, signal.SIGKILL)
    settled(lambda: [command for _, command in processes(word)])
    settled(lambda: _without_cgroups(word))
    for target in mounts(word):
        subprocess.run(["umount", "-l", target], capture_output=True, check=False)
