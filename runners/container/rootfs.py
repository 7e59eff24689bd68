"""Inside a root filesystem that nobody trusts: paths are resolved so that no link in it leads out of it.

The current directory is the root here: of the bundle's rootfs while the host's root is still there, of the container
after pivot_root. openat2(2) with RESOLVE_IN_ROOT takes absolute links and ".." as a chroot would, and refuses magic
links (/proc/self/fd/7, /proc/1/root): these lead to the object itself, whatever the root. What was found is then used
by its descriptor, so that nothing can be exchanged in between, and no /proc is needed.

Sources: openat2(2), open_tree(2), move_mount(2), mount_setattr(2).
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat

from . import syscalls as k

_IN_ROOT = k.RESOLVE_IN_ROOT | k.RESOLVE_NO_MAGICLINKS
_NULL = os.makedev(1, 3)
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def find(path: str, flags: int = os.O_PATH, *, links: bool = True, root: int = k.AT_FDCWD) -> int:
    """A descriptor of what is at *path*; with *links* false, no link may stand in it. Raises OSError."""
    return k.openat2(path, flags, _IN_ROOT if links else _IN_ROOT | k.RESOLVE_NO_SYMLINKS, dir_fd=root)


def directory(path: str, *, links: bool = True) -> int:
    """A descriptor of the directory *path*, made with those above it where there is nothing. Raises OSError."""
    try:
        return find(path, os.O_PATH | os.O_DIRECTORY, links=links)
    except FileNotFoundError:
        if path.strip("/") == "":
            raise
    above, name = posixpath.split(path)
    parent = directory(above, links=links)
    try:
        # EEXIST: a link to nowhere. What it asks for is not made: nobody can say whether that was meant.
        os.mkdir(name, 0o755, dir_fd=parent)
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(parent)


def file(path: str) -> int:
    """A descriptor (O_PATH) of the file *path*; an empty one is made where there is nothing. Raises OSError."""
    try:
        return find(path)
    except FileNotFoundError:
        above, name = posixpath.split(path)
    parent = directory(above)
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o644, dir_fd=parent))
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(parent)


def mkdir_in(path: str) -> None:
    """Make the directory *path* and those above it, as far as they are absent."""
    os.close(directory(path))


def mount_in(source: str, target: str, kind: str, flags: int, data: str, /) -> None:
    """mount(2) of a file system on the directory *target*, made if absent."""
    if kind == "tmpfs":
        data = _with_mode(target, data)
    # procfs and sysfs by a link could come to stand where the masks and the program do not look.
    place = directory(target, links=kind not in ("proc", "sysfs"))
    try:
        _mount_on(place, source, kind, flags, data, target)
    finally:
        os.close(place)


def _with_mode(target: str, data: str) -> str:
    """The options of a tmpfs: it has the permissions of the directory that it covers, as crun and runc have it."""
    if "mode=" in data:
        return data
    try:
        place = find(target, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return data  # a new one: the kernel's 1777
    try:
        mode = f"mode={stat.S_IMODE(os.fstat(place).st_mode):o}"
    finally:
        os.close(place)
    return f"{data},{mode}" if data else mode


def _mount_on(place: int, source: str, kind: str, flags: int, data: str, name: str) -> None:
    root = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchdir(place)
        k.mount(source, ".", kind, flags, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None
    finally:
        os.fchdir(root)
        os.close(root)


def copy_up_in(target: str, flags: int, data: str, /) -> None:
    """Mount a tmpfs on *target* that holds copies of what was there before."""
    data = _with_mode(target, data)
    below = directory(target)
    try:
        _mount_on(below, "tmpfs", "tmpfs", flags & ~k.MS_RDONLY, data, target)
        above = find(target, os.O_RDONLY | os.O_DIRECTORY)
        # "." of the descriptor is what lies below the mount: only names lead across mounts.
        before = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=below)
        try:
            from .copyup import copy  # late: few mounts ask for it

            copy(before, above)
            if flags & k.MS_RDONLY:
                k.mount_setattr("", attributes=k.MOUNT_ATTR_RDONLY, dir_fd=above)
        finally:
            os.close(before)
            os.close(above)
    finally:
        os.close(below)


def propagate_in(target: str, propagation: int, /) -> None:
    """Set how mounts on *target* propagate: flags of mount(2)."""
    _change(target, propagation=propagation & ~k.MS_REC, recursive=bool(propagation & k.MS_REC))


def attributes_in(target: str, attributes: int, clear: int, recursive: int, /) -> None:
    """Set and clear attributes of the mount at *target*, or with *recursive* of those below it, too."""
    _change(target, attributes=attributes, clear=clear, recursive=bool(recursive))


def _change(target: str, *, attributes: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False) -> None:
    place = find(target)
    try:
        k.mount_setattr(
            "", attributes=attributes, clear=clear, propagation=propagation, recursive=recursive, dir_fd=place
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, target) from None
    finally:
        os.close(place)


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
    propagation: int,
    /,
) -> None:
    """Attach *tree* (negative: what is at *source*) at *target*, which is made if absent, with its final attributes.

    They are set before anybody can reach it: there is no moment at which a read-only mount is writable.
    """
    if tree < 0:
        tree = open_source(source, recursive=recursive)
    try:
        place = directory(target) if stat.S_ISDIR(os.fstat(tree).st_mode) else file(target)
        try:
            if any(below):
                k.mount_setattr("", attributes=below[0], clear=below[1], recursive=True, dir_fd=tree)
            if any(attributes):
                k.mount_setattr("", attributes=attributes[0], clear=attributes[1], dir_fd=tree)
            k.move_mount(tree, place)
        finally:
            os.close(place)
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or target) from None
    finally:
        os.close(tree)
    if propagation:
        # After it was attached: what is shared before would come back as a copy of itself.
        propagate_in(target, propagation)


def mask_in(path: str, /) -> None:
    """Hide what is at *path*: a directory behind an empty one, a file behind /dev/null. Absent is no error."""
    try:
        place = find(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return
        raise
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
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(place)


def _null() -> int:
    """A detached mount of /dev/null, which an image may have replaced."""
    tree = k.open_tree("/dev/null")
    found = os.fstat(tree)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NULL:
        os.close(tree)
        raise OSError(errno.ENODEV, "is not the null device", "/dev/null")
    return tree


def readonly_in(path: str, /) -> None:
    """Bind *path*, with all mounts below it, on itself, read-only. Absent is no error."""
    try:
        place = find(path)
    except OSError as error:
        if error.errno in _ABSENT:
            return
        raise
    try:
        tree = k.open_tree("", recursive=True, dir_fd=place)
        try:
            k.mount_setattr("", attributes=k.MOUNT_ATTR_RDONLY, recursive=True, dir_fd=tree)
            k.move_mount(tree, place)
        finally:
            os.close(tree)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(place)


def device_in(path: str, mode: int, number: int, uid: int, gid: int, /) -> None:
    """mknod(2); the same device there already is no error."""
    above, name = posixpath.split(path)
    parent = directory(above)
    try:
        try:
            os.mknod(name, mode, number, dir_fd=parent)
        except FileExistsError:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_IFMT(found.st_mode) != stat.S_IFMT(mode) or (number and found.st_rdev != number):
                raise
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(parent)


def link_in(target: str, path: str, /) -> None:
    """symlink(2); whatever is at *path* already stays."""
    above, name = posixpath.split(path)
    parent = directory(above)
    try:
        os.symlink(target, name, dir_fd=parent)
    except FileExistsError:
        pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(parent)


def chdir_in(path: str, /) -> None:
    """chdir(2) that no magic link leads astray: a directory of the host left open would be its way out."""
    place = find(path, os.O_PATH | os.O_DIRECTORY)
    try:
        os.fchdir(place)
    finally:
        os.close(place)


def attach_root(source: str, tree: int, /) -> None:
    """Mount the root filesystem (*tree*, or what is at *source*) on itself, and go there: it is the root henceforth."""
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
