"""The root of the warm helper's containers: a layer of their own, entered without a walk through the host's processes.

pivot_root(2) asks every process of the host whether it stands in the old root (``chroot_fs_refs`` in fs/fs_struct.c):
0.4 µs for each of a thousand containers, which is more than all the rest of a start may grow. So the helper calls it
once, for an empty file system, and a child, in its copy of the helper's mounts, puts its layer over that one
(:class:`EnterLayer`).

What is below the empty root of the fork server is a question of the kernel. If overlayfs takes a mount that is in no
namespace, nothing is (:class:`StandAlone`): what a start needs of the host are two descriptors (:class:`HostHandles`).
Before Linux 6.15 the host's mounts are, and each child lets go of them (:class:`StandApart`). That costs more than the
call: the kernel waits until no processor looks at the mounts any more (synchronize_rcu_expedited), and children that
are started at once wait for each other.

What is left is what pivot_root leaves: the container's root lies on one with nothing in it, there the kernel's own
(ramfs-rootfs-initramfs.rst, "What is rootfs?"), here ours. No way leads below: a path that climbs to the top of a
namespace goes up to what is mounted there, and so does who enters the namespace anew (setns(2)).
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

#: The one directory of the empty root: the host's is below it, for a moment or for good.
_BELOW = "below"
#: Where who stands alone mounts its layer.
LAYER = f"/{_BELOW}"
_EMPTY = k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC


def can_stand_alone() -> bool:
    """Whether overlayfs takes a mount that is in no namespace: Linux 6.15 (``clone_private_mount``, fs/namespace.c)."""
    major, minor, *_ = os.uname().release.replace("-", ".").replace("+", ".").split(".")
    return (int(major), int(minor)) >= (6, 15)


@record
class HostHandles:
    """What of the host is kept by who stands alone: descriptors of its root and of a detached mount of the image."""

    root: int
    lower: int


def hold(image: str) -> HostHandles:
    """Open both, close-on-exec, in the host's mount namespace. Raises OSError (before Linux 5.2, too)."""
    lower = k.open_tree(image)
    return HostHandles(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), lower)


@record
class Layer(Strict):
    """A root of the instance's own at *base*/m: *image* below a writable layer that dies with the mount namespace.

    With *here*, the caller stands in the image, and its path leads nowhere.
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
    """In a mount namespace of one's own: an empty root, with the host's in it, which paths go on to start at.

    The current directory is the empty root: of what a process stands on, clone(2) with CLONE_NEWNS has a child stand on
    its own copy, and so the child can reach it. *base* is a directory to mount on for a moment.
    """

    base: str

    def describe(self) -> str:
        return f"pivot_root to an empty root, made at {self.base}, and stay in the host's below it"

    def apply(self, sys: Sys) -> None:
        _pivot(sys, self.base)
        sys.chroot(_BELOW)


@record
class StandAlone(Strict):
    """In a mount namespace of one's own: an empty root, and nothing else. The current directory is *held*'s image.

    So the image is "." for a child's layer: of all that overlayfs takes for a path, the one that needs neither a mount
    in the namespace nor /proc. *base* is a directory to mount on for a moment.
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
    """Make the mount at *path* the root, in a child of who did :class:`StandApart`, or :class:`StandAlone` with *held*.

    From here on no symbolic link of the root filesystem leads out of it, and *held* is closed.
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
        # "." is still what lies below: a path that starts somewhere does not go up to what is mounted there.
        if self.held is None:
            sys.umount2(_BELOW, k.MNT_DETACH)
        # But ".." does. At the top of the namespace it leads to the top, so this is the moved mount.
        sys.chroot("..")
        sys.chdir("/")
