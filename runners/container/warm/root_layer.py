"""The root of the fork server's containers: a layer of their own, which they enter without a call of pivot_root(2).

pivot_root(2) asks every process of the host whether it stands in the old root (``chroot_fs_refs`` in fs/fs_struct.c):
0.4 µs for each of a thousand containers, so each start would take longer than the one before. So the fork server calls
it once, for an empty file system. A child has a copy of the fork server's mounts, and puts its layer over the empty one
(:class:`EnterLayer`).

What lies below the empty root of the fork server depends on the kernel. Since Linux 6.15, overlayfs accepts a mount
that is in no namespace; then nothing lies below (:class:`StandAlone`), and a start needs two descriptors of the host
(:class:`HostHandles`). Before, the host's mounts lie below, and each child unmounts them (:class:`StandApart`). That
costs more than pivot_root: the kernel waits until no processor uses the mounts any more (synchronize_rcu_expedited),
and children that are started at once wait for each other.

The result is as after pivot_root: the container's root is mounted on an empty one. There it is the kernel's own
(ramfs-rootfs-initramfs.rst, "What is rootfs?"), here the fork server's. No path leads to it: one that climbs to the top
of a namespace ends in what is mounted there, and a process that enters the namespace by setns(2) starts there, too.
"""

# The methods of all steps do what :class:`basic.Step` says.
# ruff: noqa: D102

from __future__ import annotations

import os

from ..light.dataclasses import record
from ..linux import mount_calls as k
from ..setup.steps.basic import Strict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..setup.kernel import Sys

#: The one directory of the empty root. The host's root is mounted there, for a moment or for good.
_BELOW = "below"
#: Where a child of :class:`StandAlone` mounts its layer.
LAYER = f"/{_BELOW}"
_EMPTY = k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC


def can_stand_alone() -> bool:
    """Whether overlayfs accepts a mount in no namespace: since Linux 6.15 (``clone_private_mount``, fs/namespace.c)."""
    major, minor, *_ = os.uname().release.replace("-", ".").replace("+", ".").split(".")
    return (int(major), int(minor)) >= (6, 15)


@record
class HostHandles:
    """What :class:`StandAlone` keeps of the host: descriptors of its root and of a detached mount of the image."""

    root: int
    lower: int


def hold(image: str) -> HostHandles:
    """Open both, close-on-exec, in the host's mount namespace. Raises OSError (before Linux 5.2, too)."""
    lower = k.open_tree(image)
    return HostHandles(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), lower)


@record
class Layer(Strict):
    """A root of the instance's own at *base*/m: *image* below a writable layer that dies with the mount namespace.

    With *here*, the caller's current directory is the image, which has no path any more.
    """

    image: str
    base: str
    here: bool = False

    def describe(self) -> str:
        return f"mount an overlay of {self.image} with its writable layer on a tmpfs at {self.base}"

    def apply(self, sys: Sys) -> None:
        base = self.base
        sys.mount("tare-layer", base, "tmpfs", 0, "mode=700")
        for name in ("u", "w", "m"):
            sys.mkdir(f"{base}/{name}", 0o755)
        lower = "." if self.here else self.image
        sys.mount("overlay", f"{base}/m", "overlay", 0, overlay_options(lower, f"{base}/u", f"{base}/w"))


def overlay_options(lower: str, upper: str, work: str) -> str:
    """The data of an overlay mount; backslash, colon and comma in paths are escaped (overlayfs.rst)."""

    def escaped(path: str) -> str:
        for char in "\\:,":
            path = path.replace(char, f"\\{char}")
        return path

    return f"lowerdir={escaped(lower)},upperdir={escaped(upper)},workdir={escaped(work)}"


@record
class StandApart(Strict):
    """Make an empty root with the host's mounted in it, in a mount namespace of one's own.

    Absolute paths still start at the host's root. The current directory is the empty root: clone(2) with CLONE_NEWNS
    puts a child into its own copy of that directory, so the child can reach it. *base* is a directory to mount on for a
    moment.
    """

    base: str

    def describe(self) -> str:
        return f"pivot_root to an empty root, made at {self.base}, and stay in the host's below it"

    def apply(self, sys: Sys) -> None:
        _pivot(sys, self.base)
        sys.chroot(_BELOW)


@record
class StandAlone(Strict):
    """Make an empty root and nothing else, in a mount namespace of one's own. The current directory is *held*'s image.

    So a child's layer names the image by ".", the only path for overlayfs that needs neither a mount in the namespace
    nor /proc. *base* is a directory to mount on for a moment.
    """

    base: str
    held: HostHandles

    def describe(self) -> str:
        return f"pivot_root to an empty root, made at {self.base}, detach the host's and stand in the image"

    def apply(self, sys: Sys) -> None:
        _pivot(sys, self.base)
        sys.umount2(_BELOW, k.MNT_DETACH)
        sys.fchdir(self.held.lower)


def _pivot(sys: Sys, base: str) -> None:
    """Make an empty, read-only root with the former one at its :data:`_BELOW`; it is the current directory."""
    sys.mount("tare-root", base, "tmpfs", _EMPTY, "mode=555")
    sys.mkdir(f"{base}/{_BELOW}", 0o555)
    sys.mount("tare-root", base, "", _EMPTY | k.MS_REMOUNT | k.MS_RDONLY)
    sys.chdir(base)
    sys.pivot_root(".", _BELOW)


@record
class EnterLayer(Strict):
    """Make the mount at *path* the root, in a child.

    Its parent has done :class:`StandApart`, or :class:`StandAlone` with *held*. From here on no symbolic link of the
    root filesystem leads out of it, and *held* is closed.
    """

    path: str
    held: HostHandles | None = None

    def describe(self) -> str:
        left = "detach" if self.held is None else "close"
        return f"move {self.path} over the empty root, {left} what is the host's and go in"

    def apply(self, sys: Sys) -> None:
        if self.held is not None:
            sys.close(self.held.root)
            sys.close(self.held.lower)
            sys.chdir("/")
        sys.mount(self.path, ".", "", k.MS_MOVE)
        # "." is still the directory below the mount: the start of a path is never replaced by what is mounted on it.
        if self.held is None:
            sys.umount2(_BELOW, k.MNT_DETACH)
        # But ".." is. At the top of the namespace it stays at the top, so this is the moved mount.
        sys.chroot("..")
        sys.chdir("/")
