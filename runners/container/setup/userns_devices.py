"""Device nodes for a container with a user namespace: made outside of it, and handed in as detached mounts.

In a user namespace, a node that mknod(2) makes cannot be opened. A node on a file system that was mounted outside can
be, and it has the mode and the owner of the configuration. So a process in between mounts a tmpfs in a mount namespace
of its own, which nobody else sees and which ends with the process. It shares the table of descriptors with the runtime,
so the runtime has the descriptors that it opens.

Source: mknod(2), clone(2), open_tree(2), user_namespaces(7).
"""

from __future__ import annotations

import errno
import os
import stat

from ..linux import capabilities, mount_calls
from ..linux import syscalls as k

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from ..config.bundle import Bundle
    from ..config.extras import Device

_SIGCHLD = 17
#: A directory that every host has.
_PLACE = "/dev"


def nodes(bundle: Bundle) -> dict[str, int]:
    """Descriptors by path, for the devices of *bundle* that it cannot make itself; none if the runtime cannot either.

    Raises OSError.
    """
    wanted = [device for device in bundle.devices if not stat.S_ISFIFO(device.mode)]
    if not wanted or not bundle.uids or os.geteuid() or capabilities.confined():
        return {}
    report, report_in = os.pipe()
    try:
        pid, pidfd = k.clone3(k.CLONE_NEWNS | k.CLONE_FILES, _SIGCHLD)
        if pid == 0:
            _make(wanted, bundle, report_in)
        os.close(pidfd)
        os.waitpid(pid, 0)
    finally:
        os.close(report_in)
    with open(report, "rb") as pipe:
        number, *fds = map(int, pipe.read().split() or (str(errno.EIO).encode(),))
    if number in (errno.EPERM, errno.EACCES):
        return {}  # without CAP_MKNOD: the host's own are bound
    if number:
        raise OSError(number, f"cannot make the devices outside: {os.strerror(number)}", wanted[len(fds)].path)
    return {device.path: fd for device, fd in zip(wanted, fds, strict=True)}


def _make(devices: Sequence[Device], bundle: Bundle, report: int) -> NoReturn:
    """In the process in between: make the nodes, write an error number or 0 and their mounts' descriptors, end."""
    from ..linux import idmap

    number, fds = errno.EIO, []
    try:
        mount_calls.mount("none", "/", "", mount_calls.MS_REC | mount_calls.MS_PRIVATE)
        mount_calls.mount("tmpfs", _PLACE, "tmpfs", mount_calls.MS_NOSUID | mount_calls.MS_NOEXEC, "mode=700")
        os.umask(0)
        for i, device in enumerate(devices):
            path = f"{_PLACE}/{i}"
            os.mknod(path, device.mode, os.makedev(device.major, device.minor))
            os.chown(path, idmap.on_host(bundle.uids, device.uid), idmap.on_host(bundle.gids, device.gid))
            fds.append(mount_calls.open_tree(path))
        number = 0
    except OSError as error:
        number = error.errno or errno.EIO
    finally:
        # The parent has these descriptors, too: it must not keep one that it is not told of.
        if number:
            for fd in fds:
                os.close(fd)
        os.write(report, " ".join(map(str, (number, *fds))).encode())
        os._exit(0)
