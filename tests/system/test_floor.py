"""The floor is a fair one: its containers have the same walls and limits as those of the warm runtime.

Both are looked at from outside, in /proc: mounts, namespaces, privileges, devices, limits. A floor that left a step out
would make the runtimes look slow for nothing; one that did more would flatter them.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tare.runners.container.cgroup import cgroups
from tests.conftest import require
from tests.speed import arena

LINES = re.compile(r"^(Uid|Gid|Groups|Umask|NoNewPrivs|Seccomp|Cap\w+|NSpid|NSsid):", re.MULTILINE)
#: Options of file systems that name an instance.
OWN = re.compile(r"(lower|upper|work)dir=")
LIMITS = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "pids.max", "cpu.cfs_quota_us", "devices.list")
LIMITS_V2 = ("memory.max", "memory.swap.max", "pids.max", "cpu.max")


def mounts(pid: int) -> list[tuple[str, ...]]:
    """(root, target, options, kind, options of the file system), less what names an instance or a size of the host."""
    found: list[tuple[str, ...]] = []
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, data) = left.split(" "), right.split(" ", 2)
        kept = sorted(
            word for word in data.split(",") if not re.match(r"(lower|upper|work)dir|inode64|size=\d+k$", word)
        )
        found.append((fields[3], fields[4], ",".join(sorted(fields[5].split(","))), kind, ",".join(kept)))
    return found


def status(pid: int) -> list[str]:
    """Identity, capabilities, no_new_privs and seccomp."""
    lines = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if LINES.match(line)]
    return [re.sub(r"^(NS\w+:).*\t(\d+)$", r"\1 \2", line) for line in lines]


def namespaces(pid: int) -> list[str]:
    """Those that are not ours."""
    ours, theirs = Path("/proc/self/ns"), Path(f"/proc/{pid}/ns")
    return sorted(each.name for each in ours.iterdir() if each.readlink() != (theirs / each.name).readlink())


def devices(pid: int) -> list[str]:
    """What /dev holds."""
    found = []
    for entry in sorted(Path(f"/proc/{pid}/root/dev").iterdir()):
        about = entry.lstat()
        target = f" -> {entry.readlink()}" if entry.is_symlink() else ""
        found.append(f"{entry.name} {stat.filemode(about.st_mode)} {about.st_rdev:#x}{target}")
    return found


def limits(pid: int) -> dict[str, str]:
    """Limits of its cgroups, by file."""
    found = {}
    where = cgroups.layout()
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        mount = where.v1.get(controllers.split(",")[0]) if controllers else where.v2
        # Read from inside its cgroup namespace or ours: ours, so the path is whole.
        for name in (*LIMITS, *LIMITS_V2):
            file = Path(f"{mount}{path}", name)
            if mount and file.exists() and "/tare-" in path:
                found[name] = file.read_text()
    return found


LOOKS: dict[str, Callable[[int], object]] = {
    "mounts": mounts,
    "status": status,
    "namespaces": namespaces,
    "devices": devices,
    "limits": limits,
}


@pytest.fixture(scope="module")
def seen() -> dict[str, dict[str, object]]:
    """What was found, by contestant and look."""
    require("root", os.geteuid() == 0, "this is not root")
    require("cgroups", not cgroups.usable(), cgroups.usable())
    found: dict[str, dict[str, object]] = {}
    with arena.opened() as place:
        for name in ("floor", "container"):
            contestant = place.enter(name)
            contestant.start("one")
            (pid,) = place.load.pids()
            found[name] = {look: act(pid) for look, act in LOOKS.items()}
            contestant.stop("one")
            assert not place.load.pids()
    return found


@pytest.mark.parametrize("look", LOOKS)
def test_the_floor_and_the_warm_runtime_make_the_same_container(seen: dict[str, dict[str, object]], look: str) -> None:
    assert seen["floor"][look], "an empty answer is the same as any other"
    assert seen["floor"][look] == seen["container"][look]
