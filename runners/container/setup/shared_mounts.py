"""A container in a mount namespace that is not its own: the caller's, or one that others have set up.

In the caller's namespace, the host sees the container's mounts. So all of them must be removed at the end, and nothing
else may change. They all lie below one mount of the root filesystem on itself. A mount below a shared one appears in
every peer of that (mount_namespaces(7)), so there are two. The *base*, without what is mounted below it, is all that
peers see, and it disappears there when it is unmounted here. The *tree* is mounted on the base, which has no peers. The
numbers of both are recorded before they are attached, so that they can be found and removed later.

A process that may call chroot(2) can leave a root that was set by it. So in a joined namespace of others, the root is
entered by pivot_root(2), as crun and runc do. That takes the old root away from all processes in the namespace; it is
refused for the namespace of process 1.
"""

from __future__ import annotations

import errno
import os

from ..cgroup.mountinfo import entries
from ..errors import OciError, reason
from ..light.dataclasses import replace
from ..linux import mount_calls as k
from ..linux.files import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.bundle import Bundle
    from ..lifecycle.state import State

_NAMESPACES = "linux.namespaces"
_FIX = 'add {"type": "mount"} to linux.namespaces, without a path'


def settled(bundle: Bundle, warn: Callable[[str], object]) -> Bundle:
    """*bundle*, without its mount namespace if that is the caller's by a path. Raises OciError for what cannot be done.

    *warn* gets a line for what isolates the container less than a mount namespace of its own.
    """
    path = bundle.namespaces.get("mount", "")
    if path:
        if not _is_of(path, "self"):
            if _is_of(path, "1"):
                why = f"{path} is that of process 1: pivot_root would take the host's root away from all processes"
                raise OciError(_NAMESPACES, why, _FIX)
            return bundle
        others = {kind: each for kind, each in bundle.namespaces.items() if kind != "mount"}
        bundle = replace(bundle, namespaces=others)
    if "user" in bundle.namespaces:
        why = "a user namespace gives no right to mount in the caller's mount namespace"
        raise OciError(_NAMESPACES, why, _FIX)
    if os.path.realpath(bundle.rootfs) == "/":
        raise OciError("root.path", "is the caller's root, whose mount namespace is shared", _FIX)
    if any(mount.target == "/" and not mount.remount for mount in bundle.mounts):
        raise OciError("mounts", "one on / would hide the root that is shared with the caller", _FIX)
    warn(
        f"{_NAMESPACES}: without a mount namespace of its own, the program is held in its root by chroot alone: "
        "with CAP_SYS_CHROOT or CAP_SYS_ADMIN it can leave it"
    )
    return bundle


def _is_of(path: str, pid: str) -> bool:
    """Whether *path* is the mount namespace of process *pid*."""
    try:
        given = os.stat(path)
        theirs = os.stat(f"/proc/{pid}/ns/mnt")
    except PermissionError:
        return False  # if this user may not read it, it may not join it
    except OSError as error:
        raise OciError("cannot join the mount namespace", reason(error), "see linux.namespaces") from None
    return (given.st_dev, given.st_ino) == (theirs.st_dev, theirs.st_ino)


def attach(rootfs: str, keep: Callable[[int], object], record: Callable[[str], object]) -> int:
    """Prepare the root in the caller's namespace: attach the base, return the detached tree. Raises OSError.

    *keep* gets the descriptors; *record* gets a text for :func:`detach` before anything is attached.
    """
    found = []
    for recursive in (False, True):
        fd = k.open_tree(rootfs, recursive=recursive)
        keep(fd)
        # A file system that the host unmounts later must not stay mounted here, and no mount made here appears there.
        k.mount_setattr("", propagation=k.MS_SLAVE, recursive=True, dir_fd=fd)
        found.append(fd)
    base, tree = found
    record(f"{_namespace()} {_number(base)} {_number(tree)} {_identity(base)} {os.path.realpath(rootfs)}")
    place = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        k.move_mount(base, place)
    finally:
        os.close(place)
    # below a shared mount, the new mount is shared, too
    k.mount_setattr("", propagation=k.MS_PRIVATE, dir_fd=base)
    return tree


def detach(known: State, warn: Callable[[str], object]) -> None:
    """Undo :func:`attach` and all mounts in it; what is missing is no error. Raises OciError and OSError."""
    namespace, base, tree, directory, path = known.shared_root.split(" ", 4)
    if namespace != _namespace():
        warn(f"the mounts at {path} are in another mount namespace (mnt:[{namespace}]), where {known.name} was made")
        return
    for number in (tree, base):
        if number in (places := _places()):
            _detach(number, places[number], directory, known.name)


def _detach(number: str, path: str, directory: str, name: str) -> None:
    """Unmount *number*, now at *path*; not if it shows another directory than *directory*, since numbers are reused."""
    place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _number(place) != number:
            raise OciError(
                f"cannot unmount the root of {name}", f"something is mounted over {path}", f"umount {path}, try again"
            )
        if _identity(place) != directory:
            return
        # First, because a lazy unmount also reaches the peers of each mount below, which can be the host's own.
        k.mount_setattr("", propagation=k.MS_PRIVATE, recursive=True, dir_fd=place)
        k.umount2(f"/proc/self/fd/{place}", k.MNT_DETACH)
    except OSError as error:
        if error.errno != errno.EINVAL:  # somebody else has unmounted it just now
            raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(place)


def _places() -> dict[str, str]:
    """The path of each mount of the caller's namespace, by number: a path changes when a directory above is renamed."""
    return {mount.number: mount.point for mount in entries(read("/proc/self/mountinfo"))}


def _identity(fd: int) -> str:
    found = os.fstat(fd)
    return f"{found.st_dev}:{found.st_ino}"


def _number(fd: int) -> str:
    """The number of the mount that holds *fd*."""
    for line in read(f"/proc/self/fdinfo/{fd}").splitlines():
        name, _, value = line.partition(":")
        if name == "mnt_id":
            return value.strip()
    raise OSError(errno.ENODATA, "has no mnt_id", f"/proc/self/fdinfo/{fd}")


def _namespace() -> str:
    return str(os.stat("/proc/self/ns/mnt").st_ino)
