"""The mount of type cgroup: what a container sees of its cgroup, in the hierarchies that this host has."""

from __future__ import annotations

import os

from ..cgroup import hierarchies
from ..linux import mount_calls as k
from .steps.rootfs import Bind, LinkIn, MountIn, SetAttributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..cgroup.hierarchies import Layout
    from ..config.mounts import Mount
    from .steps.basic import Step

_TOP_OPTIONS = "mode=755,size=64k"


def cgroup(mount: Mount, relative: str, *, own_namespace: bool, layout: Layout | None = None) -> Iterator[Step]:
    """Steps for *mount*; *relative* is the container's cgroup, for where it has no cgroup namespace.

    If it is empty, the container stays in the cgroup of the caller, who may make none, and sees that one.
    """
    layout = layout or hierarchies.layout()
    if layout.mode in ("v2", "none"):
        where = layout.v2 or "/sys/fs/cgroup"
        yield _view(mount, mount.target, "cgroup2", "", where, relative, own_namespace, layout)
        return
    yield MountIn("tmpfs", mount.target, "tmpfs", mount.flags & ~k.MS_RDONLY, _TOP_OPTIONS)
    for where in layout.hierarchies:
        controllers = [name for name, directory in layout.v1.items() if directory == where]
        name = ",".join(word.removeprefix("name=") for word in controllers)
        target = f"{mount.target}/{name}"
        yield _view(mount, target, "cgroup", ",".join(controllers), where, relative, own_namespace, layout)
        if len(controllers) > 1:
            for word in controllers:
                yield LinkIn(name, f"{mount.target}/{word}")
    if mount.flags & k.MS_RDONLY:
        yield SetAttributes(mount.target, k.MOUNT_ATTR_RDONLY)


def _view(
    mount: Mount,
    target: str,
    kind: str,
    data: str,
    where: str,
    relative: str,
    own_namespace: bool,  # noqa: FBT001 - private, and passed on
    layout: Layout,
) -> Step:
    if own_namespace:
        # A container with a user namespace of its own may not mount what belongs to a namespace that it joined.
        return MountIn("cgroup", target, kind, mount.flags, data, f"{where}/{relative}" if relative else "")
    set_, clear = mount.attributes
    own = f"{where}/{relative}" if relative else ""
    # The container may have no cgroup in this hierarchy: see :mod:`claim_cgroup`.
    source = own if own and os.path.isdir(own) else _ours(where, data, layout)
    return Bind(source, target, attributes=(set_, clear))


def _ours(where: str, controllers: str, layout: Layout) -> str:
    """This process's cgroup directory in the hierarchy at *where*; *controllers* is empty for v2 (cgroups(7))."""
    wanted = set(controllers.split(","))
    for line in filter(None, hierarchies.read("/proc/self/cgroup").split("\n")):
        _, names, path = line.split(":", 2)
        if set(names.split(",")) == wanted:
            found = f"{where}/{layout.below(where, path)}".rstrip("/")
            return found if os.path.isdir(found) else where
    return where
