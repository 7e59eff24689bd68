"""Maps users of a container to users of the host: ranges of ids, which a parent writes to a new user namespace.

Source: user_namespaces(7), newuidmap(1).
"""

from __future__ import annotations

import errno
import os

from ..light.dataclasses import record
from ..reader import SEE, BundleError, Reader
from . import syscalls
from .files import read

_IDS = 1 << 32
#: user_namespaces(7): since Linux 4.15.
_MOST_LINES = 340


@record
class Range:
    """*size* ids from *container* on, as the container counts, are *host* on, as the host counts."""

    container: int
    host: int
    size: int


def parse(reader: Reader, key: str) -> tuple[Range, ...]:
    """The list of ranges at *key*. Raises BundleError."""
    found = []
    for item in reader.each(key):
        inside, outside, size = (item.take(name, int) for name in ("containerID", "hostID", "size"))
        item.done()
        if min(inside, outside) < 0 or size < 1 or max(inside, outside) + size >= _IDS:
            raise BundleError(item.where, "is not a range of ids", SEE)
        found.append(Range(inside, outside, size))
    if len(found) > _MOST_LINES:
        raise BundleError(reader.at(key), f"has more than {_MOST_LINES} ranges", SEE)
    return tuple(found)


def root(ranges: tuple[Range, ...]) -> int:
    """The id to use while the container is set up: 0, or the lowest that is mapped."""
    return min(each.container for each in ranges)


def first(pid: str | int = "self") -> tuple[int, int]:
    """The first user and group that exist in the user namespace of process *pid*. Raises OSError."""
    found = []
    for which in ("uid", "gid"):
        lines = read(f"/proc/{pid}/{which}_map").splitlines()
        if not lines:
            raise OSError(errno.ESRCH, "the user namespace has no ids", f"/proc/{pid}/{which}_map")
        found.append(min(int(line.split()[0]) for line in lines))
    return found[0], found[1]


def covers(ranges: tuple[Range, ...], number: int) -> bool:
    """Whether the id *number* of the container exists."""
    return any(each.container <= number < each.container + each.size for each in ranges)


def on_host(ranges: tuple[Range, ...], number: int) -> int:
    """The host's id for the id *number* of the container; 0, which the container does not know, if there is none."""
    return next((r.host + number - r.container for r in ranges if r.container <= number < r.container + r.size), 0)


def _lines(ranges: tuple[Range, ...]) -> str:
    return "".join(f"{each.container} {each.host} {each.size}\n" for each in ranges)


def write(pid: int, uids: tuple[Range, ...], gids: tuple[Range, ...]) -> None:
    """Give the new user namespace of *pid* its ids. Raises OSError.

    Root writes them. Other users may map only their own id, with setgroups(2) switched off (by which a process could
    leave a group that takes rights away). For all else there are newuidmap and newgidmap, which read /etc/subuid and
    /etc/subgid.
    """
    _write(pid, "gid", gids, own=os.getegid())
    _write(pid, "uid", uids, own=os.geteuid())


def _write(pid: int, which: str, ranges: tuple[Range, ...], *, own: int) -> None:
    path = f"/proc/{pid}/{which}_map"
    alone = len(ranges) == 1 and ranges[0].host == own and ranges[0].size == 1
    if os.geteuid() == 0 or alone:
        if os.geteuid() != 0 and which == "gid":
            _put(f"/proc/{pid}/setgroups", "deny")
        try:
            _put(path, _lines(ranges))
            return
        except PermissionError:
            if alone:
                raise
    _by_program(pid, which, ranges)


def _put(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"cannot write {text!r}: {error.strerror}", path) from None
    finally:
        os.close(fd)


def _by_program(pid: int, which: str, ranges: tuple[Range, ...]) -> None:
    name = f"new{which}map"
    words = [name, str(pid), *(str(part) for each in ranges for part in (each.container, each.host, each.size))]
    said_out, said_in = os.pipe()
    try:
        child = os.posix_spawnp(
            name,
            words,
            dict(os.environ),
            file_actions=[(os.POSIX_SPAWN_DUP2, said_in, 1), (os.POSIX_SPAWN_DUP2, said_in, 2)],
            setsigmask=(),
        )
    except FileNotFoundError:
        os.close(said_out)
        raise OSError(
            errno.ENOENT,
            "needed to map more than one's own id; install it (Debian: uidmap, Fedora: shadow-utils)",
            name,
        ) from None
    finally:
        os.close(said_in)
    with open(said_out, "rb") as pipe:
        said = pipe.read().decode(errors="replace").strip()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(errno.EPERM, said or "failed; see /etc/subuid and /etc/subgid", name)


def namespace(uids: tuple[Range, ...], gids: tuple[Range, ...]) -> int:
    """A descriptor of a user namespace with these ids, for mount_setattr(2) with MOUNT_ATTR_IDMAP. Raises OSError."""
    reader, writer = os.pipe()
    pid, pidfd = syscalls.clone3(syscalls.CLONE_NEWUSER, 17)
    if pid == 0:
        try:
            os.close(writer)
            os.read(reader, 1)  # end of file: the parent has opened the namespace, or has ended
        finally:
            os._exit(0)
    try:
        write(pid, uids, gids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writer)
        os.close(reader)
        os.close(pidfd)
        os.waitpid(pid, 0)
