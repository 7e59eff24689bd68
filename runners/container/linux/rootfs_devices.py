"""Device nodes in an untrusted root filesystem: made, or bound if the kernel does not let this process make them.

An existing node is never changed: by a mount, it may be the host's own.

Sources: mknod(2), OCI config-linux.md ("Devices").
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from . import mount_calls as k
from .rootfs import OTHERWISE, directory, file, made


def device_in(path: str, mode: int, number: int, uid: int, gid: int, standard: int, /) -> None:
    """mknod(2) of a device with its kind in *mode*; if that is not allowed, the host's of the same name is bound.

    If the same device exists, that is no error, but OSError with :data:`rootfs.OTHERWISE` if its mode or owner differs.
    Another file is an error; with *standard*, the host's device is bound over it instead.
    """

    def make(name: str, parent: int) -> None:
        os.mknod(name, mode, number, dir_fd=parent)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)

    above, name = posixpath.split(path)
    parent = directory(above, nowhere=False)
    try:
        make(name, parent)
    except FileExistsError:
        _keep(path, mode, number, (uid, gid), make, standard)
    except OSError as error:
        if error.errno != errno.EPERM or stat.S_ISFIFO(mode):
            raise OSError(error.errno, error.strerror, path) from None
        bound_device_in(path, mode, number)
    finally:
        os.close(parent)


def _keep(path: str, mode: int, number: int, owner: tuple[int, int], make: object, standard: int) -> None:
    """Check what is at *path*, or at the target of a link there."""
    place = made(path, make)  # type: ignore[arg-type]  # the function of the only caller
    try:
        found = os.fstat(place)
    finally:
        os.close(place)
    if not _same(found, mode, number):
        if not standard:
            raise OSError(errno.EEXIST, "another file is there already", path)
        bound_device_in(path, mode, number)
        return
    if not standard and (stat.S_IMODE(found.st_mode), (found.st_uid, found.st_gid)) != (stat.S_IMODE(mode), owner):
        now = f"mode {stat.S_IMODE(found.st_mode):o} and owner {found.st_uid}:{found.st_gid}"
        raise OSError(OTHERWISE, f"it is there already, and keeps its {now}", path)


def _same(found: os.stat_result, mode: int, number: int) -> bool:
    if stat.S_IFMT(found.st_mode) != stat.S_IFMT(mode):
        return False
    return stat.S_ISFIFO(mode) or found.st_rdev == number


def bound_device_in(path: str, mode: int, number: int, /) -> None:
    """Bind the host's device *path* at the same path, nosuid and noexec."""
    try:
        tree = k.open_tree(path)
    except FileNotFoundError:
        raise OSError(errno.ENOENT, "the host has no such device, and none may be made here", path) from None
    try:
        if not _same(os.fstat(tree), mode, number):
            raise OSError(errno.ENODEV, "the host's is another device, and none may be made here", path)
        k.mount_setattr("", attributes=k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NOEXEC, dir_fd=tree)
        place = file(path)
        try:
            k.move_mount(tree, place)
        finally:
            os.close(place)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(tree)
