"""A container's cgroup: whether it can be used, and what is made where the runtime lacks rights or controllers.

The runtime may run in a container itself, where cgroup file systems are read-only or fewer than on the host, or as a
user who may write to some. Then what the configuration does not ask for is left out with a warning, and what it asks
for is refused.

Source: the OCI runtime specification (config-linux.md, "Control groups"; what it says of a frozen and a used cgroup).
"""

from __future__ import annotations

import errno
import os

from ..cgroup import cgroups
from ..cgroup.v1 import V1
from ..errors import OciError, reason
from ..light.dataclasses import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cgroup.cgroups import Cgroup
    from ..cgroup.resources import Resources
    from ..config.bundle import Bundle
    from .state import State, Store

#: The file of a container whose cgroup other containers use or have used, too (:mod:`shared_cgroup`).
MARK = "shares-cgroup"
#: The number of links of a directory without directories in it.
_EMPTY = 2
_NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)


def group_of(known: State) -> Cgroup | None:
    """The container's cgroup; None if it has none of its own."""
    return cgroups.for_container(known.cgroup, known.name) if known.cgroup else None


def is_frozen(known: State) -> bool:
    """Whether the container's cgroup is frozen."""
    group = group_of(known)
    return group is not None and group.frozen()


def place(store: Store, config: Bundle, name: str, warn: Callable[[str], None]) -> str:
    """The path of the container's cgroup; empty if none can be made and none is asked for. Raises OciError.

    *warn* gets a line if no hierarchy is mounted, but not if only the user's rights are missing. A cgroup that exists
    is refused if it is frozen, which would stop the first process before it has done anything, or if it holds
    processes, which would die with the container. Only those of containers in *store* may be there, with a warning.
    """
    from ..linux import capabilities

    asked = "linux.resources" if config.resources.limits else "linux.cgroupsPath" if config.cgroup else ""
    if os.geteuid() or capabilities.confined():
        why_not = cgroups.usable()
        if why_not and not asked:
            return ""
        if why_not:
            raise OciError(asked, f"cannot be in force: {why_not}", "remove it, or run as root")
    path = cgroups.place(config.cgroup, name)
    try:
        group = cgroups.for_container(path, name)
    except FileNotFoundError as error:
        if asked:
            raise OciError(asked, f"cannot be in force: {reason(error)}", "leave it out, or mount one") from None
        warn(f"the container is without a cgroup: {reason(error)}")
        return ""
    frozen = group.frozen_by()
    if frozen:
        # runc's words, which callers may know.
        why = f"container's cgroup unexpectedly frozen: {frozen}"
        raise OciError(
            "linux.cgroupsPath", why, "thaw it first (write THAWED to its freezer.state, in v2 0 to cgroup.freeze)"
        )
    inside = group.pids()
    if inside:
        from . import shared_cgroup

        # runc's words again.
        why = f"container's cgroup is not empty: /{path} has {len(inside)} process(es)"
        living = shared_cgroup.join(store, name, path)
        if not living:
            raise OciError("linux.cgroupsPath", f"{why}, and no container of this --root is in it", "choose another")
        warn(f"{why}; it is shared with the container {', '.join(living)}: limits and pause are for all of them")
    return path


def tenant(store: Store, known: State, group: Cgroup) -> str:
    """Another container of *store*, in a cgroup below *group*, that of *known*: it would end, too. Mostly empty."""
    if not any(os.path.isdir(path) and os.stat(path).st_nlink > _EMPTY for path in group.directories()):
        return ""
    for name in store.names():
        try:
            other = store.read(name)
        except OciError:
            continue
        if other.cgroup.startswith(f"{known.cgroup}/") and store.status(other) != "stopped":
            return name
    return ""


def shared(store: Store, known: State) -> bool:
    """Whether other containers live in the cgroup of *known*."""
    if not os.path.exists(store.file(known.name, MARK)):
        return False
    from . import shared_cgroup

    return bool(shared_cgroup.others(store, known.name, known.cgroup))


def claim(group: Cgroup, config: Bundle, warn: Callable[[str], None]) -> Cgroup | None:
    """Make *group*, as far as this process may; what was made, or None. *warn* gets a line for each thing left out.

    Raises OciError for what was asked for and cannot be done, and OSError.
    """
    try:
        group.create()
    except OSError as error:
        if error.errno not in _NOT_ALLOWED:
            raise
        return _part(group, config, warn, error)
    return group


def _part(group: Cgroup, config: Bundle, warn: Callable[[str], None], first: OSError) -> Cgroup | None:
    failed: dict[str, OSError] = {}
    made: list[str] = []
    if isinstance(group, V1):
        for controllers in _by_hierarchy(group):
            try:
                replace(group, controllers=controllers, unified=False).create()
                made += controllers
            except OSError as error:
                if error.errno not in _NOT_ALLOWED:
                    raise
                failed.update(dict.fromkeys(controllers, error))
    for word, where in needed(config.resources).items():
        if not made or word in failed:
            raise OciError(where, f"cannot be in force: {reason(failed.get(word, first))}", "leave it out")
    if not made and config.cgroup:
        raise OciError("linux.cgroupsPath", f"cannot be made: {reason(first)}", "leave it out, and linux.resources")
    left_out = f"cgroups of {', '.join(failed)}" if made else "a cgroup"
    warn(f"the container is without {left_out}: {reason(first)}")
    return replace(group, controllers=tuple(made), unified=_unified(group)) if isinstance(group, V1) and made else None


def _by_hierarchy(group: V1) -> list[tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for word in group.controllers:
        mount = group.layout.v1[word]
        found[mount] = (*found.get(mount, ()), word)
    return list(found.values())


def _unified(group: V1) -> bool:
    """Whether the directory in the v2 hierarchy, which stands beside v1's and limits nothing, could be made."""
    if not group.unified or group.layout.v2 is None:
        return False
    try:
        os.makedirs(f"{group.layout.v2}/{group.relative}", exist_ok=True)
    except OSError:
        return False
    return True


def needed(resources: Resources) -> dict[str, str]:
    """v1's controllers that *resources* need -> the key of the configuration that needs it."""
    cpu = resources.cpu
    sets = replace(cpu, cpus="", mems="") != cpu
    asked = {
        "memory": ("memory", resources.memory != type(resources.memory)()),
        "cpu": ("cpu", replace(cpu, cpus="", mems="") != type(cpu)()),
        "cpuset": ("cpu.cpus" if cpu.cpus else "cpu.mems", sets),
        "pids": ("pids", bool(resources.pids)),
        "blkio": ("blockIO", resources.block_io is not None),
        "hugetlb": ("hugepageLimits", bool(resources.huge_pages)),
        "net_cls": ("network.classID", bool(resources.class_id)),
        "net_prio": ("network.priorities", bool(resources.priorities)),
        "rdma": ("rdma", bool(resources.rdma)),
        "unified": ("unified", bool(resources.unified)),
        "devices": ("devices", any(not rule.allow for rule in resources.devices)),
    }
    return {word: f"linux.resources.{key}" for word, (key, given) in asked.items() if given}
