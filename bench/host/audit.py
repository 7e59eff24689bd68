"""What a run left behind: an inventory before, one after, and the difference with its owner.

A leak is a result (docs/explanation/method.md): whoever leaves a mount behind at each start has a cost that no stop
watch shows. Only what bears the run's name, or is a process of the run, is looked at: a host has a life of its own. The
run's own cgroup and scratch directory are not leaks, they end with the run; what an instance left inside them is. What
an engine makes once for itself and keeps (``/run/containerd``, an empty cgroup ``libpod_parent``) bears no such name. A
process that only names the run in its command line is told, since it may be a daemon of ours; but it may be a user's
``tail``, too, and so it is none of :func:`own_processes`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from tare.bench.records.header import Leak
from tare.runners.container.cgroup import cgroups, hierarchies
from tare.runners.container.cgroup.mountinfo import entries
from tare.runners.engines.common import engine_place

#: kind -> the names found of it
Inventory = Mapping[str, frozenset[str]]


def take(prefix: str, scratch: Path) -> Inventory:
    """All that exists now and belongs to the run named *prefix*, whose scratch directory is *scratch*."""
    return {
        "process": frozenset(_processes(prefix)),
        "cgroup": frozenset(_cgroups(prefix)),
        "mount": frozenset(_mounts(prefix, Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace"))),
        "network namespace": frozenset(_entries(prefix, Path("/run/netns"))),
        "network link": frozenset(_entries(prefix, Path("/sys/class/net"))),
        "loop device": frozenset(_loops(prefix)),
        "directory of an engine": frozenset(map(str, engine_place.of_run(prefix))),
        "scratch entry": frozenset(_of_instances(prefix, scratch)),
    }


def difference(before: Inventory, after: Inventory, owner: Callable[[str], str]) -> tuple[Leak, ...]:
    """What is in *after* and not in *before*; *owner* maps a name to the subject that it belongs to, or ''."""
    return tuple(
        Leak(kind=kind, name=name, owner=owner(name))
        for kind in after
        for name in sorted(after[kind] - before.get(kind, frozenset()))
    )


def own_processes(prefix: str) -> frozenset[int]:
    """Processes that are without doubt of the run named *prefix*, which this process measures, and not this one.

    They descend from it, are in the run's cgroups, where a daemon stays too, or are its virtual machines, which libvirt
    moves out of them.
    """
    found = {process.pid for process in psutil.Process().children(recursive=True)}
    found |= hierarchies.processes(f"{mount}/{prefix}" for mount in cgroups.layout().mounts)
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if any(word.startswith(f"guest={prefix}-") for word in command):
            from tare.runners.vm.leftovers import guest_name  # loads libvirt, which a run without machines does not

            if guest_name(command):
                found.add(process.pid)
    return frozenset(found - {os.getpid()})


def _processes(prefix: str) -> list[str]:
    """The run's own, and any other whose command line names the run: ``pid 12 (sleeping): qemu ...``."""
    own = own_processes(prefix)
    found = []
    for process in psutil.process_iter(["cmdline", "name", "status"]):
        words = process.info["cmdline"] or [process.info["name"] or "?"]
        command = " ".join(words)
        if process.pid in own or (prefix in command and process.pid != os.getpid()):
            found.append(f"pid {process.pid} ({process.info['status']}): {command[:160]}")
    return found


def _cgroups(prefix: str) -> list[str]:
    """Every cgroup below the run's own, in any hierarchy, and any elsewhere that bears the run's name.

    crun and runc make the run's own cgroup in hierarchies that tare does not use: it is removed with the rest of it.
    But what crun makes where there is no hierarchy stays for ever.
    """
    where = cgroups.layout()
    found: list[str] = []
    for mount in (*where.hierarchies, *filter(None, (where.v2,))):
        for directory, names, _ in os.walk(mount):
            paths = (f"{directory}/{name}" for name in names)
            found += [
                path for path in paths if prefix in path and path not in (f"{mount}/{prefix}", f"{mount}/{prefix}/load")
            ]
    for directory in cgroups.strays(prefix):
        found += [place for place, _, _ in os.walk(directory)]
    return found


def _mounts(prefix: str, mountinfo: str) -> list[str]:
    return [mount.point for mount in entries(mountinfo) if f"/{prefix}" in mount.point]


def _entries(prefix: str, directory: Path) -> list[str]:
    return [entry.name for entry in directory.glob(f"{prefix}*")]


def _loops(prefix: str) -> list[str]:
    found = []
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing = file.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:  # detached since the glob
            continue
        if prefix in backing:
            found.append(f"{file.parts[3]}: {backing}")
    return found


def _of_instances(prefix: str, scratch: Path) -> list[str]:
    """Files and directories in the scratch directory that bear an instance's name."""
    found = []
    for directory, folders, files in os.walk(scratch):
        found += [f"{directory}/{name}" for name in (*folders, *files) if prefix in name]
    return found
