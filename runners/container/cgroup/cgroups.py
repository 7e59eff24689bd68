"""Control groups: one interface to both versions (v1's hierarchies, v2's unified one).

A cgroup is named by its path relative to the root of every hierarchy. If v1 controllers are mounted, they are used,
even if there is also a v2 hierarchy with few or no controllers ("hybrid"): each controller is in one of the two.

To create a directory in a hierarchy takes about 100 µs of each start. So the instances that tare measures use a small
fixed set, :data:`NEEDED`: memory, pids, cpu and cpuacct (in v1 one directory for each hierarchy of these, of which two
often share one; in v2 one directory). A container of the OCI runtime is in all hierarchies, as crun's and runc's are:
:func:`for_container`. :meth:`V1.remove` looks at every mounted one in any case.

Sources: Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,pids,cpusets,cpuacct,freezer-subsystem}.rst,
Documentation/scheduler/sched-bwc.rst, proc_pid_mountinfo(5). Every function raises OSError that names the path.
"""

from __future__ import annotations

import errno
import os

from ..linux.files import read
from ..reader import BundleError
from .hierarchies import NEEDED, NEEDED_V2, Layout, layout
from .v1 import V1
from .v2 import EVERY, V2, cpu_stat_ns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .hierarchies import Mode

    Cgroup = V1 | V2
else:
    Cgroup = (V1, V2)

__all__ = [
    "V1",
    "V2",
    "Cgroup",
    "Layout",
    "at",
    "counts_swap",
    "cpu_stat_ns",
    "find",
    "for_container",
    "layout",
    "mode",
    "place",
    "reclaimer",
    "strays",
    "usable",
]


#: Where hierarchies are usually mounted: on directories of a file system in memory.
_TOP = "/sys/fs/cgroup"


def mode() -> Mode:
    """Which version this host has; see :class:`Layout`."""
    return layout().mode


def at(relative: str, *, where: Layout | None = None) -> Cgroup:
    """The cgroup at *relative* to each hierarchy's root. Raises OSError if no usable hierarchy is mounted."""
    where = where or layout()
    words = relative.strip("/").split("/")
    if not all(words) or any(word in (".", "..") for word in words):
        raise OSError(errno.EINVAL, "not a relative cgroup path", relative)
    clean = "/".join(words)
    if where.mode == "none":
        raise FileNotFoundError(errno.ENOENT, "no cgroup hierarchy is mounted", "/proc/self/mountinfo")
    return V2(clean, where) if where.mode == "v2" else V1(clean, where)


def place(path: str, name: str) -> str:
    """Where the container *name* whose ``linux.cgroupsPath`` is *path* has its cgroup, relative to the root.

    A path starts at each hierarchy's root, with or without a leading slash, as in crun (without, runc starts at its own
    cgroup). If there is no path, it is the name. systemd's ``slice:prefix:name`` is a path like any other, as in crun
    and runc when they do not use systemd. Raises BundleError.
    """
    words = [word for word in (path or name).split("/") if word not in ("", ".")]
    if not words or ".." in words or "\0" in path:
        raise BundleError("linux.cgroupsPath", f"{path!r} names no cgroup below the root", "give a path: /group/name")
    return "/".join(words)


def for_container(path: str, name: str, *, where: Layout | None = None) -> Cgroup:
    """The cgroup at :func:`place`, in all hierarchies, with all controllers. Nothing is made; raises as :func:`at`."""
    where = where or layout()
    found = at(place(path, name), where=where)
    if isinstance(found, V2):
        return V2(found.relative, where, EVERY)
    return V1(found.relative, where, tuple(where.v1), unified=where.v2 is not None)


def counts_swap() -> bool:
    """Whether memory and swap can be limited together here."""
    where = layout()
    if where.mode == "v2":
        return os.path.exists("/proc/swaps")  # memory.swap.* exist in a kernel with CONFIG_SWAP
    return os.path.exists(f"{where.v1.get('memory')}/memory.memsw.limit_in_bytes")


def reclaimer() -> str:
    """The file by which a cgroup is asked to free memory; empty if the kernel has none (v2: before Linux 5.19)."""
    where = layout()
    mount, name = (where.v2, "memory.reclaim") if where.mode == "v2" else (where.v1.get("memory"), "memory.force_empty")
    return name if os.path.exists(f"{mount}/{name}") else ""


def usable() -> str:
    """Why this user cannot create cgroups here; empty when it can. Tries it, with the controllers of an instance."""
    where = layout()
    if where.mode == "none":
        return "no cgroup hierarchy is mounted"
    if where.mode == "v2":
        try:
            has = read(f"{where.v2}/cgroup.controllers").split()
        except OSError as error:
            return f"{error.filename}: {error.strerror}"
        missing = [word for word in NEEDED_V2 if word not in has]
    else:
        missing = [word for word in NEEDED if word not in where.v1]
    if missing:
        return f"no cgroup hierarchy offers: {', '.join(missing)}"
    trial = at(f"tare-probe-{os.getpid()}", where=where)
    try:
        trial.create()
        trial.limit(memory_bytes=1 << 26, pids=16, cpus=1)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    finally:
        try:
            trial.remove()
        except OSError:
            pass
    return ""


def find(prefix: str) -> list[str]:
    """Names of top-level cgroups, in any hierarchy, that start with *prefix*; sorted, for :func:`at`."""
    where = layout()
    names: set[str] = set()
    for mount in where.mounts:
        try:
            names.update(e.name for e in os.scandir(mount) if e.name.startswith(prefix) and e.is_dir())
        except OSError:
            pass
    return sorted(names)


def strays(prefix: str, top: str = _TOP) -> list[str]:
    """Directories whose name starts with *prefix*, below *top* and in no cgroup hierarchy; sorted.

    If a hierarchy has been unmounted, or was never mounted, crun makes the path of a cgroup in a plain directory
    instead. It holds ordinary files in memory, which the kernel never removes.
    """
    if top in layout().mounts:  # only v2: there are no such directories
        return []
    found = []
    try:
        device = os.stat(top).st_dev
        plain = [e.path for e in os.scandir(top) if e.is_dir(follow_symlinks=False) and e.stat().st_dev == device]
        for directory in plain:
            named = (entry for entry in os.scandir(directory) if entry.name.startswith(prefix))
            found += [entry.path for entry in named if entry.is_dir(follow_symlinks=False)]
    except OSError:  # it was removed meanwhile, or this user may not read it
        pass
    return sorted(found)
