"""Detached mounts that the first process could not open itself: its parent opens them and passes the descriptors on.

Sources: open_tree(2), mount_setattr(2), mount_namespaces(7), user_namespaces(7).
"""

from __future__ import annotations

import errno
import os

from ..linux import mount_calls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.bundle import Bundle
    from ..config.mounts import Mount

#: Descriptors that are needed besides those of mounts: some ten, and those of the caller.
_OTHER_FILES = 32


class Trees:
    """Descriptors of detached mounts, kept open until the first process has them.

    If there are many, the soft limit of open files is raised to the hard one meanwhile; *limits* are (soft, hard) as
    before.
    """

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.limits: tuple[int, int] | None = None
        self._most = 0

    def add(self, fd: int) -> None:
        """Keep *fd*; make room for more."""
        self.fds.append(fd)
        self._most = self._most or os.sysconf("SC_OPEN_MAX")
        if fd >= self._most - _OTHER_FILES:
            self.widen()

    def widen(self) -> None:
        """Raise the soft limit of open files to the hard one."""
        if self.limits is None:
            import resource

            self.limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.limits[1], self.limits[1]))

    def close(self) -> None:
        """Close all, and set the limit back. To call it again is no error."""
        while self.fds:
            os.close(self.fds.pop())
        if self.limits is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)
            self.limits = None


def open_all(bundle: Bundle, opened: Trees) -> dict[int, int]:
    """Detached mounts that the first process could not open itself, by number of the mount; -1 is the root filesystem.

    There are three reasons. In a user namespace, it may not pass through directories of other users. It cannot map
    owners of files. And a mount that shares events with the host's mounts has to be in their peer group, which the
    first process has left. If the caller may not open one either, as an ordinary user may not, the first process tries,
    as with runc.
    """
    trees: dict[int, int] = {}
    alien = "user" in bundle.namespaces and os.geteuid() == 0
    if alien:
        try:
            trees[-1] = _tree(bundle.rootfs, opened, recursive=True, apart=True)
        except PermissionError:
            alien = False
    users: dict[object, int] = {}
    try:
        for number, mount in enumerate(bundle.mounts):
            if not mount.bind or mount.remount:
                continue
            shared = bool(mount.propagation) and mount.propagation[0] & ~mount_calls.MS_REC == mount_calls.MS_SHARED
            if alien or shared or mount.idmap:
                try:
                    trees[number] = _tree(mount.source, opened, recursive=mount.recursive, apart=not shared)
                except PermissionError:
                    if mount.idmap:
                        raise
            if mount.idmap:
                _map_owners(mount, trees[number], _users(bundle, mount, users))
    finally:
        for fd in users.values():
            os.close(fd)
    return trees


def devices(bundle: Bundle, opened: Trees) -> dict[str, int]:
    """Devices that the first process could not make itself, by path."""
    if "user" not in bundle.namespaces or not bundle.devices:
        return {}
    from . import userns_devices  # late: few containers have such devices

    if len(bundle.devices) > _OTHER_FILES:
        opened.widen()
    nodes = userns_devices.nodes(bundle)
    for fd in nodes.values():
        opened.add(fd)
    return nodes


def _tree(path: str, opened: Trees, *, recursive: bool, apart: bool) -> int:
    try:
        fd = mount_calls.open_tree(path, recursive=recursive)
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        why = f"{len(opened.fds)} mounts are open already, and no more files may be; raise the hard limit (ulimit -Hn)"
        raise OSError(errno.EMFILE, why, path) from None
    opened.add(fd)
    if apart:
        mount_calls.mount_setattr("", propagation=mount_calls.MS_SLAVE, recursive=True, dir_fd=fd)
    return fd


def _users(bundle: Bundle, mount: Mount, known: dict[object, int]) -> int:
    """A user namespace with the ids by which *mount* maps owners: its own, or the container's. *known* is a cache."""
    if mount.identity not in known:
        path = bundle.namespaces.get("user", "")
        if mount.identity is None and path:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # the path may be a pipe: do not wait for it
        else:
            from ..linux import idmap

            fd = idmap.namespace(*(mount.identity or (bundle.uids, bundle.gids)))
        known[mount.identity] = fd
    return known[mount.identity]


def _map_owners(mount: Mount, tree: int, users: int) -> None:
    try:
        mount_calls.mount_setattr(
            "", attributes=mount_calls.MOUNT_ATTR_IDMAP, userns=users, recursive=mount.identity_below, dir_fd=tree
        )
    except OSError as error:
        why = f"idmap: {error.strerror}"
        if error.errno == errno.EINVAL:
            why += " (its file system maps no owners, or something mounted below it does not)"
        raise OSError(error.errno, why, mount.source) from None
