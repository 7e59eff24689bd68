"""The run cgroup: one for all that a run starts, so that its processor time can be read in one place.

The measuring process joins it too, in a child cgroup of its own (a v2 cgroup that hands down controllers may hold no
processes). What the harness itself costs is therefore in the reading; the null subject shows how much that is.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tare.bench.host import workspace
from tare.runners.base import PREFIX
from tare.runners.container.cgroup import cgroups, hierarchies


class RunCgroup:
    """It, while the run goes on. ``load`` is the path, below every hierarchy's root, of the cgroup for instances."""

    def __init__(self, cgroup: cgroups.Cgroup, load: cgroups.Cgroup) -> None:
        self._cgroup = cgroup
        self._load = load
        self.load = load.relative

    def ceiling(self, memory_bytes: int) -> None:
        """Limit all instances together: what runs out of memory then dies among them, and not the harness."""
        self._load.limit(memory_bytes=memory_bytes)

    def cpu_ns(self, *others: Path | None) -> int:
        """Processor time of everything in it, plus that of those of *others* that are cgroups outside of it."""
        return self.meter(others)()

    def meter(self, others: Iterable[Path | None]) -> Callable[[], int]:
        """What reads the processor time, in ns, of everything in it and of those of *others* that are outside.

        Which those are is found now: of two readings of one meter the difference counts the same. A reading raises
        FileNotFoundError when one of them went.
        """
        # Instances may share one: that of the machine that they are in.
        outside = self._outside(one for one in dict.fromkeys(others) if one is not None)

        def read() -> int:
            # The kernel books a running task's time when it is switched or at a tick, milliseconds late: yield for it.
            os.sched_yield()
            return self._cgroup.cpu_ns() + sum(map(_usage_ns, outside))

        return read

    def _outside(self, others: Iterable[Path]) -> list[Path]:
        """Those of *others* whose processes are not in it, neither by their name nor in another hierarchy.

        On a hybrid host libvirt moves QEMU in the unified hierarchy and leaves it in ours: adding both counts it twice.
        """
        elsewhere = [one for one in others if not one.is_relative_to(self._cgroup.path)]
        # Of the hierarchy that counts time alone: in others (pids) libvirt leaves QEMU where it was.
        inside = hierarchies.processes([str(self._cgroup.path)]) if elsewhere else frozenset()
        members = {one: hierarchies.processes([str(one)]) for one in elsewhere}
        return [one for one in elsewhere if not members[one] or not members[one] <= inside]


@contextmanager
def opened(name: str) -> Iterator[RunCgroup | None]:
    """Make the cgroup *name* and move this process into it; move back and remove it at the end.

    Yields None where this user may not create cgroups: then no processor time is measured, and the doctor says why.
    """
    if cgroups.usable():
        yield None
        return
    own = cgroups.at(name)
    harness, load = own.child("harness"), own.child("load")
    home = _home(Path("/proc/self/cgroup").read_text(encoding="ascii"), cgroups.layout())
    own.create()
    try:
        harness.create()
        load.create()
        harness.add(os.getpid())
        yield RunCgroup(own, load)
    finally:
        for mount, path in home:
            _move(mount, path)
        own.kill()
        own.remove()


def _home(proc_self_cgroup: str, layout: cgroups.Layout) -> list[tuple[Path, str]]:
    """Where this process came from: (mount point, path below it) for each hierarchy."""
    found: list[tuple[Path, str]] = []
    for line in filter(None, proc_self_cgroup.split("\n")):
        _, controllers, path = line.split(":", 2)
        mount = layout.v2 if not controllers else layout.v1.get(controllers.split(",")[0])
        if mount is not None:
            found.append((Path(mount), layout.below(mount, path)))
    return found


def _move(mount: Path, path: str) -> None:
    """Move this process to *path*, or to the root if a session that ended meanwhile took its cgroup along."""
    for directory in (mount / path, mount):
        with contextlib.suppress(FileNotFoundError):
            (directory / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
            return


def _usage_ns(directory: Path) -> int:
    v1 = directory / "cpuacct.usage"
    if v1.exists():
        return int(v1.read_text(encoding="ascii"))
    return cgroups.cpu_stat_ns((directory / "cpu.stat").read_text(encoding="ascii"))


def leftovers() -> list[str]:
    """Top-level cgroups of this user's runs that did not end. Only meaningful while :func:`workspace.locked`.

    Those of another user may be of a run that measures now, which holds a lock of its own.
    """
    return [name for name in cgroups.find(PREFIX) if workspace.is_ours(name) and _may_change(name)]


def _may_change(name: str) -> bool:
    places = (Path(mount, name) for mount in cgroups.layout().mounts)
    return all(os.access(place, os.W_OK) for place in places if place.exists())


def remove(relative: str) -> None:
    """Kill what still runs in a leftover cgroup, and remove it."""
    cgroup = cgroups.at(relative)
    cgroup.kill()
    cgroup.remove()


def strays() -> list[str]:
    """What bears the name of a run where a cgroup hierarchy should be and is none; see :func:`cgroups.strays`."""
    return [path for path in cgroups.strays(PREFIX) if workspace.is_ours(Path(path).name)]
