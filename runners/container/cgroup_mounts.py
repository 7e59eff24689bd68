"""Which mount of each cgroup hierarchy is used: a host may have several, of which some show a part or are covered.

In a container the mounts show a part as a rule: that below the container's own cgroup (docker), or from where a cgroup
namespace begins, which the kernel writes as ``/``, and as ``/..`` what lies above it.

Sources: proc_pid_mountinfo(5), cgroup_namespaces(7), Documentation/filesystems/sharedsubtree.rst.
"""

from __future__ import annotations

from .record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: What the kernel appends to the root of a mount of a cgroup that was removed.
_DELETED = "//deleted"


@record
class Mount:
    """One mount of a cgroup file system, *version* 1 or 2; *root* is the cgroup that its mount *point* shows."""

    version: int
    point: str
    root: str
    #: Options of the super block: v1's controllers stand among them.
    words: tuple[str, ...]


def visible(mountinfo: str) -> list[Mount]:
    """The cgroup mounts of a ``/proc/PID/mountinfo`` text that a path leads to, in its order."""
    found: list[tuple[str, str, Mount]] = []
    over: dict[tuple[str, str], str] = {}
    numbers: set[str] = set()
    for line in mountinfo.splitlines():
        left, dash, right = line.partition(" - ")
        fields = left.split(" ", 6)
        if not dash or len(fields) < 6:
            continue
        number, parent, _, root, point, _ = fields[:6]
        numbers.add(number)
        # The very first mount of a machine is its own parent.
        over["" if number == parent else parent, point] = number
        if right.startswith("cgroup"):
            kind = right.split(" ")
            if kind[0] in ("cgroup", "cgroup2") and len(kind) > 2:
                version = 2 if kind[0] == "cgroup2" else 1
                mount = Mount(version, unescape(point), unescape(root), tuple(kind[2].split(",")))
                found.append((number, point, mount))
    # A mount whose parent is not in the list is one where paths begin: the root, or each below a chroot(2).
    first = {point: number for (parent, point), number in over.items() if parent not in numbers}
    return [mount for number, point, mount in found if _reached(point, over, first) == number]


def _reached(point: str, over: dict[tuple[str, str], str], first: dict[str, str]) -> str | None:
    """The number of the mount in which the path *point* ends."""
    now, path = None, ""
    for word in ("", *point.strip("/").split("/")):
        path = f"{path.rstrip('/')}/{word}"
        while (above := first.get(path) if now is None else over.get((now, path))) is not None:
            now = above
    return now


def best(mounts: list[Mount], own: Callable[[], str]) -> Mount:
    """The one of *mounts*, all of one hierarchy, that cgroups are made in: one that shows it all, or our own cgroup.

    *own* returns the text of /proc/self/cgroup; it is called only where no mount shows all.
    """
    for mount in mounts:
        if mount.root == "/":
            return mount
    path = _own_path(own(), mounts[0])
    for mount in mounts:
        if covers(mount.root, path):
            return mount
    return mounts[0]


def _own_path(text: str, mount: Mount) -> str:
    for line in text.splitlines():
        _, colon, rest = line.partition(":")
        words, colon, path = rest.partition(":")
        if colon and (not words if mount.version == 2 else words.split(",")[0] in mount.words):
            return path
    return ""


def covers(root: str, path: str) -> bool:
    """Whether the cgroup *path* is *root* or below it; both as the kernel writes them for one cgroup namespace."""
    if root.endswith(_DELETED) or not path:
        return False
    above, below = root.strip("/").split("/"), path.strip("/").split("/")
    if set(above) <= {"", ".."}:  # where the namespace begins, or above that
        return below.count("..") <= above.count("..")
    return below[: len(above)] == above


def unescape(word: str) -> str:
    """Decode mountinfo's octal escapes of space, tab, newline and backslash."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(code, char)
    return word
