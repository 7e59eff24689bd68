"""System calls that make, move and change mounts: as :mod:`syscalls`, thin and checked, no policy.

Constants: linux/mount.h, linux/fcntl.h.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from ..light.ctypes import c_char_p, c_int, c_long, c_size_t, c_ulong
from .syscalls import AT_FDCWD, failed, library

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

MNT_DETACH = 2

# Calls since Linux 5.1 have the same number on every architecture.
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_AT_EMPTY_PATH, _AT_RECURSIVE = 0x1000, 0x8000
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40

library.mount.argtypes = c_char_p, c_char_p, c_char_p, c_ulong, c_char_p
library.umount2.argtypes = c_char_p, c_int
library.pivot_root.argtypes = c_char_p, c_char_p


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2). *kind* and *data* may be empty where the call ignores them (bind, remount, propagation)."""
    words = os.fsencode(source), os.fsencode(target), os.fsencode(kind) or None
    if library.mount(*words, flags, os.fsencode(data) or None) < 0:
        raise failed(f"mount {kind or source}", target)


def umount2(target: str, flags: int) -> None:
    """umount2(2)."""
    if library.umount2(os.fsencode(target), flags) < 0:
        raise failed("umount2", target)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2). With *new* and *old* both ".", the old root is stacked on the new one and can be detached."""
    if library.pivot_root(os.fsencode(new), os.fsencode(old)) < 0:
        raise failed("pivot_root", new)


def open_tree(path: str, *, recursive: bool = False, dir_fd: int = AT_FDCWD) -> int:
    """open_tree(2), Linux 5.2: a detached copy of the mount at *path* (empty: *dir_fd* itself); close-on-exec."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    flags |= (_AT_RECURSIVE if recursive else 0) | (0 if path else _AT_EMPTY_PATH)
    fd: int = library.syscall(c_long(_SYS_OPEN_TREE), c_long(dir_fd), os.fsencode(path), c_long(flags))
    if fd < 0:
        raise failed("open_tree", path or None)
    return fd


def move_mount(tree: int, target: int) -> None:
    """move_mount(2): attach the detached *tree* to the file or directory of the descriptor *target*."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    if library.syscall(c_long(_SYS_MOVE_MOUNT), c_long(tree), b"", c_long(target), b"", c_long(flags)) < 0:
        error = failed("move_mount")
        if error.errno == errno.EINVAL and len({stat.S_ISDIR(os.fstat(fd).st_mode) for fd in (tree, target)}) == 2:
            raise OSError(errno.ENOTDIR, "a directory cannot be mounted on another file, nor that on a directory")
        raise error


def mount_setattr(
    path: str,
    *,
    attributes: int = 0,
    clear: int = 0,
    propagation: int = 0,
    userns: int = 0,
    recursive: bool = False,
    dir_fd: int = AT_FDCWD,
) -> None:
    """mount_setattr(2), Linux 5.12. *path* empty: the mount of *dir_fd*. *userns* with MOUNT_ATTR_IDMAP."""
    data = struct.pack("=QQQQ", attributes, clear, propagation, userns)
    flags = (_AT_RECURSIVE if recursive else 0) | (0 if path else _AT_EMPTY_PATH)
    name, size = os.fsencode(path), c_size_t(len(data))
    if library.syscall(c_long(_SYS_MOUNT_SETATTR), c_long(dir_fd), name, c_long(flags), data, size) < 0:
        raise failed("mount_setattr", path or None)
