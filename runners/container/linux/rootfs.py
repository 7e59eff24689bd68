"""Paths in an untrusted root filesystem: they are resolved so that no link in it leads out of it.

The current directory is the root: the bundle's rootfs while the host's root is still there, and the container's root
after pivot_root. openat2(2) with RESOLVE_IN_ROOT resolves absolute links and ".." as in a chroot, and refuses magic
links (/proc/self/fd/7, /proc/1/root), which lead to the object itself, whatever the root is. What was found is then
used by its descriptor, so nobody can replace it in between, and no /proc is needed.

Mounts are made in :mod:`rootfs_mounts`, device nodes in :mod:`rootfs_devices`.

Sources: openat2(2), path_resolution(7).
"""

from __future__ import annotations

import errno
import os
import posixpath

from . import syscalls as k

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_IN_ROOT = k.RESOLVE_IN_ROOT | k.RESOLVE_NO_MAGICLINKS
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
#: How many links to missing files one path may hold; as many as the kernel follows (path_resolution(7)).
_MOST_LINKS = 40
#: The error number for what was done in another way than asked for, which a step may excuse. No system call here
#: returns it.
OTHERWISE = errno.EADV


def find(path: str, flags: int = os.O_PATH, *, links: bool = True, root: int = k.AT_FDCWD) -> int:
    """A descriptor of what is at *path*; with *links* false, the path may hold no link. Raises OSError."""
    return k.openat2(path, flags, _IN_ROOT if links else _IN_ROOT | k.RESOLVE_NO_SYMLINKS, dir_fd=root)


def directory(path: str, *, links: bool = True, nowhere: bool = True) -> int:
    """A descriptor of the directory *path*, which is made, with those above it, if missing. Raises OSError.

    For *links* see :func:`find`, for *nowhere* :func:`made`.
    """
    return made(path, _make_directory, _DIRECTORY, links=links, nowhere=nowhere)


def _make_directory(name: str, parent: int) -> None:
    os.mkdir(name, 0o755, dir_fd=parent)


def file(path: str) -> int:
    """A descriptor (O_PATH) of the file *path*; if it is missing, an empty one is made. Raises OSError."""
    return made(path, _make_file)


def _make_file(name: str, parent: int) -> None:
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
    os.close(os.open(name, flags, 0o644, dir_fd=parent))


def made(
    path: str, make: Callable[[str, int], None], flags: int = os.O_PATH, *, links: bool = True, nowhere: bool = True
) -> int:
    """A descriptor of what is at *path*; if that is missing, *make* is called with a name and its directory.

    With *nowhere*, a link to a missing file is followed, too: images have /etc/resolv.conf -> ../run/... and no /run.
    Its target is made, in the root. Raises OSError.
    """
    for _ in range(_MOST_LINKS):
        try:
            return find(path, flags, links=links)
        except FileNotFoundError:
            above, name = posixpath.split(path.rstrip("/"))
            if not name:
                raise
        if name == "..":  # ".." of a missing directory, which is no link: only the path above is needed
            path = posixpath.dirname(above)
            continue
        parent = directory(above, links=links, nowhere=nowhere)
        try:
            if name != ".":  # ".": a directory above was missing, and is made by now
                make(name, parent)
                return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileExistsError:
            if not nowhere:
                raise OSError(errno.EEXIST, "is a link to a missing file", path) from None
            path = posixpath.join(above, _link(name, parent))
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(parent)
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _link(name: str, parent: int) -> str:
    """The target of the link *name*; *name* itself if it is not a link, but was made by somebody a moment ago."""
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return name


def mkdir_in(path: str) -> None:
    """Make the directory *path* and those above it, as far as they are absent."""
    os.close(directory(path))


def link_in(target: str, path: str, replace: int, /) -> None:
    """symlink(2); whatever is at *path* stays, or with *replace* is removed, unless it is a mount."""
    above, name = posixpath.split(path)
    parent = directory(above, nowhere=False)
    try:
        try:
            os.symlink(target, name, dir_fd=parent)
        except FileExistsError:
            if replace and _link(name, parent) != target:
                _replace(target, name, parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(parent)


def _replace(target: str, name: str, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return  # the configuration has mounted something there
        raise
    os.symlink(target, name, dir_fd=parent)


def chdir_in(path: str, /) -> None:
    """chdir(2) without magic links: by one, an open directory of the host would lead out of the root."""
    try:
        place = find(path, _DIRECTORY)
    except OSError as error:
        raise OSError(error.errno, f"chdir: {os.strerror(error.errno or 0)}", path) from None
    try:
        os.fchdir(place)
    finally:
        os.close(place)
