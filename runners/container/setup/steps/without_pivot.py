"""Entering the root without pivot_root(2): in a mount namespace that others use, or where that call is not wanted.

Sources: chroot(2), mount(2), mount_namespaces(7).
"""

# The methods of all steps do what :class:`basic.Step` says.
# ruff: noqa: D102

from __future__ import annotations

import errno
import os

from ...cgroup.mountinfo import entries
from ...light.dataclasses import record
from ...linux import mount_calls as k
from ...linux.files import read
from .basic import Strict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel import Sys

#: File systems that show the kernel. One that is to be seen whole lets a user namespace mount another, without masks.
_WHOLE = ("proc", "sysfs")


@record
class Chroot(Strict):
    """Make the current directory the root: the mounts of the namespace stay, which belongs to others, too."""

    def describe(self) -> str:
        return "chroot to the root filesystem"

    def apply(self, sys: Sys) -> None:
        sys.chroot(".")
        sys.chdir("/")


@record
class MoveRoot(Strict):
    """Move the current directory, a mount, over the root of the namespace: the host's mounts lie hidden below."""

    def describe(self) -> str:
        return "let go of the host's proc and sysfs, move the root filesystem over / and chroot to it"

    def apply(self, sys: Sys) -> None:
        sys.let_go_of_host()
        sys.mount(".", "/", "", k.MS_MOVE)
        sys.chroot(".")
        sys.chdir("/")


def let_go_of_host() -> None:
    """Unmount each procfs and sysfs outside the current directory that is whole, or cover it if it is locked.

    The kernel lets a user namespace mount one of its own only where one is to be seen whole (mount_too_revealing,
    fs/namespace.c): a hidden one of the host's would make all masks void.
    """
    own = os.getcwd()
    for place in whole(read("/proc/self/mountinfo"), own):
        try:
            # What lies below goes with it, in this namespace alone: nothing of it is shared any more.
            k.umount2(place, k.MNT_DETACH)
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue  # with one above it
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
            k.mount("tmpfs", place, "tmpfs", k.MS_RDONLY, "nr_blocks=1,nr_inodes=1")


def whole(mountinfo: str, own: str) -> list[str]:
    """Where in *mountinfo* (proc(5)) a procfs or sysfs is mounted whole, but for those in the directory *own*."""
    above = f"{own.rstrip('/')}/"
    return [
        mount.point
        for mount in entries(mountinfo)
        if mount.root == "/" and mount.kind in _WHOLE and not f"{mount.point}/".startswith(above)
    ]
