"""Mounts in an untrusted root filesystem: made and changed at paths that :mod:`rootfs` resolves.

Sources: mount(2), open_tree(2), move_mount(2), mount_setattr(2), mount_namespaces(7).
"""

from __future__ import annotations

import errno
import os
import stat

from . import mount_calls as k
from .files import read
from .rootfs import OTHERWISE, directory, file, find

_NULL = os.makedev(1, 3)
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
#: Flags with the same bits in mount(2), mount_setattr(2) and statfs(2).
_COMMON = k.MS_RDONLY | k.MS_NOSUID | k.MS_NODEV | k.MS_NOEXEC
_NAMES = {k.MS_RDONLY: "ro", k.MS_NOSUID: "nosuid", k.MS_NODEV: "nodev", k.MS_NOEXEC: "noexec"}
#: statfs(2), "f_flags": not the bit of MS_NOSYMFOLLOW.
_ST_NOSYMFOLLOW = 0x2000


def attach_root(source: str, tree: int, /) -> None:
    """Mount the root filesystem (*tree*, or what is at *source*) on itself, and go there: it is the root then."""
    if tree < 0:
        tree = open_source(source, recursive=True)
    try:
        place = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            k.move_mount(tree, place)
        finally:
            os.close(place)
        os.fchdir(tree)
    except OSError as error:
        raise OSError(error.errno, error.strerror, source) from None
    finally:
        os.close(tree)


def mount_in(source: str, target: str, kind: str, flags: int, data: str, instead: str, /) -> None:
    """mount(2) of a file system on the directory *target*, which is made if missing.

    If the kernel refuses it in this user namespace, *instead* of the host is bound, and OSError with
    :data:`rootfs.OTHERWISE` says so; the same error is raised for owners that do not exist here.
    """
    if kind == "tmpfs":
        data = _with_mode(target, data)
    # By a link, procfs and sysfs could be mounted at another path than masks and the program expect.
    place = directory(target, links=kind not in ("proc", "sysfs"))
    try:
        _mount_on(place, source, kind, flags, data, target)
    except OSError as error:
        if error.errno == errno.EINVAL and (other := _mapped(data)) != data:
            _mount_on(place, source, kind, flags, other, target)
            raise OSError(OTHERWISE, f"mounted without the owners that are not mapped here ({data})", target) from None
        if error.errno not in (errno.EPERM, errno.EBUSY) or not instead:
            raise
        try:
            _bind_on(place, instead, flags)
        except FileNotFoundError:
            raise error from None
        why = f"{error.strerror}; the host's {instead} is bound instead"
        raise OSError(OTHERWISE, why, target) from None
    finally:
        os.close(place)


def _with_mode(target: str, data: str) -> str:
    """The options of a tmpfs: as in crun and runc, it gets the permissions of the directory that it covers."""
    if "mode=" in data:
        return data
    try:
        place = find(target, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return data  # a new directory: the kernel's default is 1777
    try:
        mode = f"mode={stat.S_IMODE(os.fstat(place).st_mode):o}"
    finally:
        os.close(place)
    return f"{data},{mode}" if data else mode


def _mapped(data: str) -> str:
    """*data* without the options uid= and gid= of ids that this user namespace does not have."""

    def exists(word: str) -> bool:
        name, _, value = word.partition("=")
        if name not in ("uid", "gid") or not value.isdigit():
            return True
        ranges = (line.split() for line in read(f"/proc/self/{name}_map").splitlines())
        return any(int(first) <= int(value) < int(first) + int(size) for first, _, size in ranges)

    return ",".join(filter(exists, data.split(",")))


def _mount_on(place: int, source: str, kind: str, flags: int, data: str, name: str) -> None:
    root = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchdir(place)
        k.mount(source, ".", kind, flags, data)
    except OSError as error:
        why = error.strerror
        if error.errno == errno.ENODEV and kind:
            why = f"this kernel has no file system {kind!r} (see /proc/filesystems)"
        raise OSError(error.errno, why, name) from None
    finally:
        os.fchdir(root)
        os.close(root)


def _bind_on(place: int, source: str, flags: int) -> None:
    """Bind the host's *source*, and all mounts below it, on *place*, each with the attributes in *flags* (mount(2))."""
    tree = open_source(source, recursive=True)
    try:
        k.mount_setattr("", attributes=flags & _COMMON, recursive=True, dir_fd=tree)
        k.move_mount(tree, place)
    except OSError as error:
        raise OSError(error.errno, error.strerror, source) from None
    finally:
        os.close(tree)


def remount_in(target: str, flags: int, clear: int, data: str, /) -> None:
    """Change the file system that is mounted at *target*; its flags stay, except *clear* (mount(8))."""
    place = find(target)
    try:
        has = os.fstatvfs(place).f_flag
        kept = has & (_COMMON | k.MS_SYNCHRONOUS) | (k.MS_NOSYMFOLLOW if has & _ST_NOSYMFOLLOW else 0)
        _mount_on(place, "none", "", k.MS_REMOUNT | kept & ~clear | flags, data, target)
    finally:
        os.close(place)


def copy_up_in(target: str, flags: int, data: str, /) -> None:
    """Mount a tmpfs on *target* that holds copies of what was there before."""
    data = _with_mode(target, data)
    below = directory(target)
    try:
        _mount_on(below, "tmpfs", "tmpfs", flags, data, target)
        above = find(target, os.O_RDONLY | os.O_DIRECTORY)
        # "." of the descriptor is the directory below the mount: only a path that ends in a name enters a mount.
        before = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=below)
        try:
            from .copy_up import copy  # late: few mounts ask for it

            copy(before, above)
        finally:
            os.close(before)
            os.close(above)
    finally:
        os.close(below)


def propagate_in(target: str, propagation: int, /) -> None:
    """Set how mounts below *target* propagate: flags of mount(2)."""
    place = find(target)
    try:
        k.mount_setattr("", propagation=propagation & ~k.MS_REC, recursive=bool(propagation & k.MS_REC), dir_fd=place)
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None
    finally:
        os.close(place)


def attributes_in(target: str, attributes: int, clear: int, recursive: int, /) -> None:
    """Set and clear attributes of the mount at *target*, or with *recursive* of those below it, too.

    OSError with :data:`rootfs.OTHERWISE` says that one could not be cleared: see :func:`_set`.
    """
    place = find(target)
    try:
        locked = _set(place, (attributes, clear), recursive=bool(recursive))
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None
    finally:
        os.close(place)
    _say_locked(locked, target)


def _set(place: int, change: tuple[int, int], *, recursive: bool = False) -> int:
    """Set and clear attributes; returns those that could not be cleared.

    The attributes that a mount had when it was copied to a user namespace's mount namespace are locked there
    (mount_namespaces(7)). They stay, as with runc.
    """
    attributes, clear = change
    try:
        k.mount_setattr("", attributes=attributes, clear=clear, recursive=recursive, dir_fd=place)
    except PermissionError:
        if not clear & _COMMON:
            raise
        k.mount_setattr("", attributes=attributes, clear=clear & ~_COMMON, recursive=recursive, dir_fd=place)
        return clear & _COMMON
    return 0


def _say_locked(locked: int, target: str) -> None:
    if locked:
        words = ", ".join(name for bit, name in _NAMES.items() if bit & locked)
        raise OSError(OTHERWISE, f"it stays {words}: locked in this user namespace", target)


def open_source(source: str, *, recursive: bool) -> int:
    """A detached copy of what the host has mounted at *source*."""
    return k.open_tree(source, recursive=recursive)


def bind_in(
    source: str,
    tree: int,
    target: str,
    recursive: bool,  # noqa: FBT001 - as a system call takes its arguments: in order
    attributes: tuple[int, int],
    below: tuple[int, int],
    propagation: tuple[int, ...],
    /,
) -> None:
    """Attach *tree* (negative: what is at *source*) at *target*, which is made if absent, with its final attributes.

    They are set before a path leads to the mount: so a read-only mount is never writable. OSError with
    :data:`rootfs.OTHERWISE`: as :func:`attributes_in`.
    """
    given, locked = tree >= 0, 0
    if not given:
        tree = open_source(source, recursive=recursive)
    try:
        folder = stat.S_ISDIR(os.fstat(tree).st_mode)
        place = directory(target) if folder else file(target)
        try:
            if any(below):
                locked = _set(tree, below, recursive=True)
            if any(attributes):
                locked |= _set(tree, attributes)
            k.move_mount(tree, place)
            if given and folder and propagation and propagation[0] & k.MS_SHARED:
                _in_turn(tree, place, recursive=recursive)
        finally:
            os.close(place)
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or target) from None
    finally:
        os.close(tree)
    for word in propagation:
        # After it was attached: a mount that is shared earlier would be attached twice.
        propagate_in(target, word)
    _say_locked(locked, target)


def _in_turn(tree: int, place: int, *, recursive: bool) -> None:
    """Replace *tree*, which was opened before all other mounts, by a copy: so mounts are listed in their order.

    Since Linux 6.8 mountinfo is sorted by the numbers that mounts got when they were made, not attached.
    """
    copy = k.open_tree("", recursive=recursive, dir_fd=tree)
    try:
        # Else the unmount would also reach what is mounted below it on the host, where it was opened.
        k.mount_setattr("", propagation=k.MS_PRIVATE, recursive=True, dir_fd=tree)
        root = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchdir(tree)
            k.umount2(".", k.MNT_DETACH)
        finally:
            os.fchdir(root)
            os.close(root)
        k.move_mount(copy, place)
    finally:
        os.close(copy)


def mask_in(path: str, /) -> None:
    """Hide what is at *path*: a directory behind an empty one, a file behind /dev/null. A missing one is no error."""
    place = _there(path)
    if place is None:
        return
    try:
        if stat.S_ISDIR(os.fstat(place).st_mode):
            _mount_on(place, "tmpfs", "tmpfs", k.MS_RDONLY, "nr_blocks=1,nr_inodes=1", path)
            return
        null = _null()
        try:
            k.move_mount(null, place)
        finally:
            os.close(null)
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or path) from None
    finally:
        os.close(place)


def _there(path: str) -> int | None:
    """A descriptor of what is at *path*; None if it is missing."""
    try:
        return find(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise


def _null() -> int:
    """A detached mount of /dev/null, which an image may have replaced."""
    tree = k.open_tree("/dev/null")
    found = os.fstat(tree)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NULL:
        os.close(tree)
        raise OSError(errno.ENODEV, "is not the null device", "/dev/null")
    return tree


def readonly_in(path: str, /) -> None:
    """Bind *path* on itself, read-only; mounts below it stay as they are. A missing one is no error."""
    place = _there(path)
    if place is None:
        return
    try:
        tree = k.open_tree("", recursive=True, dir_fd=place)
        try:
            k.mount_setattr("", attributes=k.MOUNT_ATTR_RDONLY, dir_fd=tree)
            k.move_mount(tree, place)
        finally:
            os.close(tree)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(place)
