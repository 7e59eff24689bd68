"""Steps inside a root filesystem that nobody trusts: each goes by :mod:`rootfs`, so no link leads out of it.

The current directory is the root; :class:`AttachRoot` makes it so before pivot_root.
"""

# The methods of all steps do what :class:`basic.Step` says.
# ruff: noqa: D102

from __future__ import annotations

import errno
import os
import stat

from ...light.dataclasses import record
from ...linux import mount_calls as k
from ...linux.rootfs import OTHERWISE
from .basic import Strict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel import Sys


@record
class Propagate(Strict):
    """How mounts of this namespace and of others reach each other; see *propagation* flags of mount(2).

    The host's mounts are slaves, not private: what the host unmounts later must not stay mounted here. No mount made
    here appears on the host.
    """

    propagation: int

    def describe(self) -> str:
        return f"set the propagation of mounts to {_word(self.propagation)}"

    def apply(self, sys: Sys) -> None:
        sys.mount("none", "/", "", self.propagation)


def _word(propagation: int) -> str:
    words = {k.MS_PRIVATE: "private", k.MS_SHARED: "shared", k.MS_SLAVE: "slave", k.MS_UNBINDABLE: "unbindable"}
    return ("r" if propagation & k.MS_REC else "") + words[propagation & ~k.MS_REC]


@record
class AttachRoot(Strict):
    """Mount the root filesystem on itself (pivot_root(2) needs a mount), and go there. *tree*: see :class:`Bind`."""

    path: str
    tree: int = -1

    def describe(self) -> str:
        return f"mount {self.path} on itself, to be the root"

    def apply(self, sys: Sys) -> None:
        sys.attach_root(self.path, self.tree)


@record
class Bind(Strict):
    """What the host has at *source*, at *target*. *tree* is a detached mount of it if the parent opened it, else -1.

    *attributes* and *below* are (set, clear), see :class:`mounts.Mount`.
    """

    source: str
    target: str
    tree: int = -1
    recursive: bool = False
    attributes: tuple[int, int] = (0, 0)
    below: tuple[int, int] = (0, 0)
    propagation: tuple[int, ...] = ()

    @property
    def excused(self) -> tuple[int, ...]:  # type: ignore[override]
        return (OTHERWISE,)

    def describe(self) -> str:
        words = "with what is mounted below it, " if self.recursive else ""
        readonly = k.MOUNT_ATTR_RDONLY & (self.attributes[0] | self.below[0])
        return f"bind {self.source} on {self.target} ({words}{'read-only' if readonly else 'writable'})"

    def apply(self, sys: Sys) -> None:
        sys.bind_in(self.source, self.tree, self.target, self.recursive, self.attributes, self.below, self.propagation)


@record
class MountIn(Strict):
    """A file system of the configuration, on a directory that is made if absent.

    *instead* is what of the host is bound if this user namespace may not mount its own; "" is nothing.
    """

    source: str
    target: str
    kind: str
    flags: int = 0
    data: str = ""
    instead: str = ""

    @property
    def excused(self) -> tuple[int, ...]:  # type: ignore[override]
        return (OTHERWISE,)

    def describe(self) -> str:
        return f"mount {self.kind} on {self.target} ({self.data or 'no options'})"

    def apply(self, sys: Sys) -> None:
        sys.mount_in(self.source, self.target, self.kind, self.flags, self.data, self.instead)


@record
class RemountIn(Strict):
    """Other options for the file system that is mounted at *target*; *clear* are flags of mount(2) to take away."""

    target: str
    flags: int = 0
    clear: int = 0
    data: str = ""

    def describe(self) -> str:
        return f"mount what is on {self.target} anew ({self.data or 'no options'})"

    def apply(self, sys: Sys) -> None:
        sys.remount_in(self.target, self.flags, self.clear, self.data)


@record
class EnterCover(Strict):
    """Go to what has been mounted over the root: it is the root from now on. *path* is where the host has it."""

    path: str

    def describe(self) -> str:
        return f"enter what is mounted over {self.path}"

    def apply(self, sys: Sys) -> None:
        sys.chdir(self.path)


@record
class CopyUp(Strict):
    """A tmpfs that starts as a copy of what the image has there."""

    target: str
    flags: int = 0
    data: str = ""

    def describe(self) -> str:
        return f"mount tmpfs on {self.target} with a copy of what is there ({self.data or 'no options'})"

    def apply(self, sys: Sys) -> None:
        sys.copy_up_in(self.target, self.flags, self.data)


@record
class PropagateIn(Strict):
    """How mounts on *target* reach others."""

    target: str
    propagation: int

    def describe(self) -> str:
        return f"set the propagation of {self.target} to {_word(self.propagation)}"

    def apply(self, sys: Sys) -> None:
        sys.propagate_in(self.target, self.propagation)


@record
class SetAttributes(Strict):
    """Change attributes of the mount at *target*, or with *recursive* of those below it, too."""

    target: str
    attributes: int
    clear: int = 0
    recursive: bool = False

    @property
    def excused(self) -> tuple[int, ...]:  # type: ignore[override]
        return (OTHERWISE,)

    def describe(self) -> str:
        if self.attributes == k.MOUNT_ATTR_RDONLY and not self.clear:
            return f"make the mount {self.target} read-only"
        return f"set the attributes {self.attributes:#x} of the mount {self.target}, clear {self.clear:#x}"

    def apply(self, sys: Sys) -> None:
        sys.attributes_in(self.target, self.attributes, self.clear, int(self.recursive))


class _IfReachable(Strict):
    """A step on a path that root may be refused: in a user namespace, a directory of a user who is not in it."""

    __slots__ = ()
    excused: tuple[int, ...] = (errno.EACCES,)


@record
class Mask(_IfReachable):
    """Hide a directory behind an empty one, or a file behind /dev/null; what is missing is no error."""

    path: str

    def describe(self) -> str:
        return f"mask {self.path}"

    def apply(self, sys: Sys) -> None:
        sys.mask_in(self.path)


@record
class Readonly(_IfReachable):
    """Make a path read-only, with all below it except what is mounted there; what is missing is no error."""

    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def apply(self, sys: Sys) -> None:
        sys.readonly_in(self.path)


@record
class DeviceIn(Strict):
    """A device node; *mode* holds its kind, too. For *standard* see :func:`rootfs_devices.device_in`."""

    path: str
    mode: int
    major: int
    minor: int
    uid: int = 0
    gid: int = 0
    standard: bool = False

    @property
    def excused(self) -> tuple[int, ...]:  # type: ignore[override]
        return (OTHERWISE,)

    def describe(self) -> str:
        kind = "block device" if stat.S_ISBLK(self.mode) else "fifo" if stat.S_ISFIFO(self.mode) else "device"
        return f"make the {kind} {self.path} ({self.major}:{self.minor})"

    def apply(self, sys: Sys) -> None:
        number = os.makedev(self.major, self.minor)
        sys.device_in(self.path, self.mode, number, self.uid, self.gid, int(self.standard))


@record
class BindDevice(Strict):
    """The host's device *path*, which must be the one with these numbers: in a user namespace, none can be made."""

    path: str
    mode: int
    major: int
    minor: int

    def describe(self) -> str:
        return f"bind the host's device {self.path} ({self.major}:{self.minor})"

    def apply(self, sys: Sys) -> None:
        sys.bound_device_in(self.path, self.mode, os.makedev(self.major, self.minor))


@record
class LinkIn(Strict):
    """A symbolic link; what is there already stays, or with *replace* is removed."""

    target: str
    path: str
    replace: bool = False

    def describe(self) -> str:
        return f"link {self.path} to {self.target}"

    def apply(self, sys: Sys) -> None:
        sys.link_in(self.target, self.path, int(self.replace))


@record
class DirectoryIn(Strict):
    """A directory with those above it, made if absent."""

    path: str

    def describe(self) -> str:
        return f"make sure that there is a directory {self.path}"

    def apply(self, sys: Sys) -> None:
        sys.mkdir_in(self.path)


@record
class Terminal(Strict):
    """A pseudo-terminal of the container's own devpts as its console; the master goes out over *carrier*."""

    carrier: int
    size: tuple[int, int] | None
    uid: int
    console: bool = True
    plain: bool = False

    def describe(self) -> str:
        return "make the terminal, hand it out" + (", and bind it on /dev/console" if self.console else "")

    def apply(self, sys: Sys) -> None:
        sys.terminal(self.carrier, self.size, self.uid, int(self.console), int(self.plain))
