"""What virtual machines leave on a host: their cgroups, and after a crash their processes and directories.

They are known by name: a domain's begins with ``tare-``, and the name of its console socket holds the number of the
process that started it, so a run that is still alive is not touched.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tare.runners.base import PREFIX, RunnerError
from tare.runners.container.cgroup.mountinfo import visible
from tare.runners.guest.workload import DIRECTORY_PREFIX
from tare.runners.image.cache import cache_dir
from tare.runners.vm.connection import LARGE, runtime_directory

_GUEST = re.compile(rf"guest={re.escape(PREFIX)}[^,]*")
#: What a run (bench.host.workspace) or a proof (runners.vm.acceleration) calls its guests; those of a ramp
#: have two numbers. A user's own guest may be called ``tare-lab``.
_RUNS = re.compile(rf"{re.escape(PREFIX)}([0-9a-f]{{6}}|proof)-\d+(-\d+)?")
_EMULATOR = re.compile(r"qemu(-system-.+|-kvm)?|kvm")
_CONSOLE = re.compile(r"path=[^,]*/con-(?P<owner>\d+)-\d+")
#: libvirt's name for a domain's cgroup without systemd (virCgroupNewDomainPartition, qemu_cgroup.c).
_DOMAIN_CGROUP = re.compile(rf"(qemu|qemu-embed)-.*{re.escape(PREFIX)}.*\.libvirt-qemu")
_KILL_DEADLINE_MS = 5000


def console_name(number: int) -> str:
    """The file name of an instance's console socket: it tells :func:`sweep` who owns the QEMU that has it open."""
    return f"con-{os.getpid()}-{number}"


def cgroup_mounts(mountinfo: str) -> dict[str, Path]:
    """Controller (``""`` for the unified hierarchy) -> mount point, of proc(5) ``/proc/PID/mountinfo``."""
    found: dict[str, Path] = {}
    for mount in visible(mountinfo):
        for controller in mount.words if mount.version == 1 else ("",):
            found.setdefault(controller, Path(mount.point))
    return found


def domain_cgroup(memberships: str, own: str, mounts: dict[str, Path]) -> Path | None:
    """The directory of a domain's own cgroup that counts CPU time, ``cpuacct`` or else unified.

    *memberships* and *own* are ``/proc/PID/cgroup`` of QEMU and of this process. Where both hierarchies are mounted,
    libvirt counts CPU time in the unified one and leaves QEMU in ``cpuacct`` where it was, so that one is skipped.
    """
    ours = dict(_memberships(own))
    for controller, path in sorted(_memberships(memberships), key=lambda pair: pair[0] != "cpuacct"):
        if controller not in ("cpuacct", "") or controller not in mounts or path == ours.get(controller):
            continue
        # libvirt puts QEMU's threads into children of the domain's cgroup: emulator, vcpu0; on v2 below libvirt/.
        parts = path.strip("/").split("/")
        while parts and parts[-1] in ("emulator", "libvirt"):
            parts.pop()
        return mounts[controller].joinpath(*parts) if parts else None
    return None


def _memberships(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


@contextmanager
def unmade_machine_cgroups() -> Iterator[None]:
    """Remove libvirt's parent of all domains' cgroups if it was not there before: libvirt itself never does."""
    mounts = cgroup_mounts(Path("/proc/self/mountinfo").read_text())
    before = _machine_cgroups(mounts)
    try:
        yield
    finally:
        _remove_empty(_machine_cgroups(mounts) - before)


def _machine_cgroups(mounts: dict[str, Path]) -> frozenset[Path]:
    return frozenset(path for path in (point / "machine" for point in set(mounts.values())) if path.is_dir())


def _remove_empty(directories: Iterable[Path]) -> list[Path]:
    """rmdir(2) those cgroups that hold neither processes nor children; the kernel refuses the rest."""
    removed = []
    for directory in directories:
        with suppress(OSError):
            directory.rmdir()
            removed.append(directory)
    return removed


def daemons() -> frozenset[int]:
    """The libvirt daemons that run here: they serve every domain, and run on."""
    names = {"libvirtd", "virtqemud", "virtlogd"}
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and (entry / "comm").read_text().strip() in names:
                found.add(int(entry.name))
    return frozenset(found)


def sweep() -> list[str]:
    """Kill tare's QEMUs whose run has ended, then remove their cgroups and the directories of such runs."""
    removed = []
    for pid, name in _orphans():
        with suppress(ProcessLookupError):
            _kill(pid)
            removed.append(f"process {pid} ({name})")
    removed += [f"cgroup {path}" for path in _stale_cgroups()]
    for directory in sorted(path for place in _places() for path in place.glob(f"{DIRECTORY_PREFIX}*")):
        owner = directory.name.removeprefix(DIRECTORY_PREFIX).partition("-")[0]
        if owner.isdecimal() and not _alive(int(owner)) and _may_end(directory):
            shutil.rmtree(directory, ignore_errors=True)
            removed.append(f"directory {directory}")
    return removed


def _places() -> Iterator[Path]:
    """Where directories of runs are: sockets in one, disks and initramfs of workloads in the cache, or for a daemon."""
    yield runtime_directory()
    yield LARGE
    with suppress(RunnerError):
        yield cache_dir()


def guest_name(command: list[str]) -> str:
    """The domain's name if *command*, the words of ``/proc/PID/cmdline``, is a QEMU of tare; else an empty string."""
    if not command or not _EMULATOR.fullmatch(Path(command[0]).name) or "-name" not in command[:-1]:
        return ""
    match = _GUEST.match(command[command.index("-name") + 1])
    return match[0].removeprefix("guest=") if match else ""


def owner(command: list[str]) -> int | None:
    """The process that started the QEMU of *command*, by the name of its console socket."""
    match = next(filter(None, map(_CONSOLE.search, command)), None)
    return int(match["owner"]) if match else None


def _may_end(entry: Path) -> bool:
    """Whether this user may remove the directory *entry*, or kill the process; those of other users are not touched."""
    return os.geteuid() in (0, entry.lstat().st_uid)


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _orphans() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            command = os.fsdecode((entry / "cmdline").read_bytes()).split("\0")
            if not _may_end(entry):
                continue
        except OSError:
            continue
        name = guest_name(command)
        starter = owner(command)
        if _RUNS.fullmatch(name) and (starter is None or not _alive(starter)):
            yield int(entry.name), name


def _kill(pid: int) -> None:
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        ready = select.poll()
        ready.register(handle, select.POLLIN)
        ready.poll(_KILL_DEADLINE_MS)
    finally:
        os.close(handle)


def remove_cgroups(name: str) -> None:
    """Remove the cgroups of the domain *name*, whose QEMU has ended, where libvirt cannot do it any more."""
    _stale_cgroups(f"-{name}.libvirt-qemu")


def _stale_cgroups(end: str = "") -> list[Path]:
    """Remove the cgroups of tare's domains, of which the name has this *end*, that hold nobody."""
    mounts = cgroup_mounts(Path("/proc/self/mountinfo").read_text())
    machines = _machine_cgroups(mounts)
    removed: list[Path] = []
    for machine in machines:
        for group in machine.iterdir():
            if _DOMAIN_CGROUP.fullmatch(group.name) and group.name.endswith(end):
                _remove_empty(sorted(group.rglob("*/"), reverse=True))  # the deepest first
                removed += _remove_empty([group])
    if removed:
        _remove_empty(machines)
    return sorted(removed)
