"""The root of the warm helper's containers: a layer of their own, entered without a walk through the host's processes.

pivot_root(2) asks every process of the host whether it stands in the old root (``chroot_fs_refs`` in fs/fs_struct.c):
0.4 µs for each of a thousand containers, which is more than all the rest of a start may grow. So the helper calls it
once, for an empty file system that has nothing below it but the host's root (:class:`StandApart`). A child, in its copy
of these mounts, puts its layer over the empty one and lets go of the host's (:class:`EnterLayer`).

What is left is what pivot_root leaves: the container's root lies on one with nothing in it, there the kernel's own
(ramfs-rootfs-initramfs.rst, "What is rootfs?"), here ours. No way leads below: a path that climbs to the top of a
namespace goes up to what is mounted there, and so does who enters the namespace anew (setns(2)).
"""

# The methods of all steps do what :class:`steps.Step` says.
# ruff: noqa: D102

from __future__ import annotations

from . import syscalls as k
from .record import record
from .steps import Strict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kernel import Sys

#: The one directory of the empty root.
_HOST = "host"
_EMPTY = k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC


@record
class Layer(Strict):
    """A root of the instance's own at *base*/m: *lower* below a writable layer that dies with the mount namespace."""

    lower: str
    base: str

    def describe(self) -> str:
        return f"mount an overlay of {self.lower} with its writable layer on a tmpfs at {self.base}"

    def apply(self, sys: Sys) -> None:
        base = self.base
        sys.mount("tare-layer", base, "tmpfs", 0, "mode=700")
        for name in ("u", "w", "m"):
            sys.mkdir(f"{base}/{name}", 0o755)
        sys.mount("overlay", f"{base}/m", "overlay", 0, overlay_options(self.lower, f"{base}/u", f"{base}/w"))


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
        sys.mount("tare-root", self.base, "tmpfs", _EMPTY, "mode=555")
        sys.mkdir(f"{self.base}/{_HOST}", 0o555)
        sys.mount("tare-root", self.base, "", _EMPTY | k.MS_REMOUNT | k.MS_RDONLY)
        sys.chdir(self.base)
        sys.pivot_root(".", _HOST)
        sys.chroot(_HOST)


@record
class EnterLayer(Strict):
    """Make the mount at *path* the root and let go of the host's mounts, in a child of who did :class:`StandApart`.

    From here on no symbolic link of the root filesystem leads out of it.
    """

    path: str

    def describe(self) -> str:
        return f"move {self.path} over the empty root, detach the host's and go in"

    def apply(self, sys: Sys) -> None:
        sys.mount(self.path, ".", "", k.MS_MOVE)
        # "." is still what lies below: a path that starts somewhere does not go up to what is mounted there.
        sys.umount2(_HOST, k.MNT_DETACH)
        # But ".." does. At the top of the namespace it leads to the top, so this is the moved mount.
        sys.chroot("..")
        sys.chdir("/")
