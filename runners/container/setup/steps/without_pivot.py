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

#: File systems that show the kernel. If one is visible as a whole, a user namespace may mount another, without masks.
_WHOLE = ("proc", "sysfs")


@record
class Chroot(Strict):
    """Make the current directory the root. All mounts of the namespace stay, since it belongs to others, too."""

    def describe(self) -> str:
        return "chroot to the root filesystem"

    def apply(self, sys: Sys) -> None:
        sys.chroot(".")
        sys.chdir("/")


@record
class MoveRoot(Strict):
    """Move the current directory, a mount, over the root of the namespace: it covers the host's mounts."""

    def describe(self) -> str:
        return "let go of the host's proc and sysfs, move the root filesystem over / and chroot to it"

    def apply(self, sys: Sys) -> None:
        sys.let_go_of_host()
        sys.mount(".", "/", "", k.MS_MOVE)
        sys.chroot(".")
        sys.chdir("/")


def let_go_of_host() -> None:
    """Unmount each whole procfs and sysfs outside the current directory, or cover it if it is locked.

    A user namespace may mount one of its own only if one is visible as a whole (mount_too_revealing, fs/namespace.c).
    With a covered one of the host, the container could do that, and masks would be useless.
    """
    own = os.getcwd()
    for place in whole(read("/proc/self/mountinfo"), own):
        try:
            # What is mounted below is unmounted with it, only in this namespace: nothing is shared any more.
            k.umount2(place, k.MNT_DETACH)
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue  # with another mount above it
            if error.errno not in (errno.EINVAL, errno.EPERM):
                raise
            k.mount("tmpfs", place, "tmpfs", k.MS_RDONLY, "nr_blocks=1,nr_inodes=1")


def whole(mountinfo: str, own: str) -> list[str]:
    """Where in *mountinfo* (proc(5)) a procfs or sysfs is mounted as a whole, except in the directory *own*."""
    above = f"{own.rstrip('/')}/"
    return [
        mount.point
        for mount in entries(mountinfo)
        if mount.root == "/" and mount.kind in _WHOLE and not f"{mount.point}/".startswith(above)
    ]
