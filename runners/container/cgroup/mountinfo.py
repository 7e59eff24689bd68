"""``/proc/PID/mountinfo``, read here and nowhere else, and which mount of each cgroup hierarchy is used.

A host may have several mounts of a hierarchy; some may show only a part of it, or be covered. In a container they
usually show a part: what is below the container's own cgroup (docker), or below the root of a cgroup namespace. The
kernel writes that root as ``/``, and what is above it as ``/..``.

Sources: proc_pid_mountinfo(5), cgroup_namespaces(7), Documentation/filesystems/sharedsubtree.rst.
"""

from __future__ import annotations

from ..light.dataclasses import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: What the kernel appends to the root of a mount of a cgroup that was removed.
_DELETED = "//deleted"


@record
class Entry:
    """One line: *root* is the directory of the file system that its mount *point* shows, *source* what was mounted."""

    number: str
    root: str
    point: str
    kind: str
    source: str


def entries(text: str) -> list[Entry]:
    """All mounts of a ``/proc/PID/mountinfo`` text, in its order; a line that is cut off is left out."""
    found = []
    for line in text.split("\n"):  # a mount point may hold what else splitlines() takes for the end of a line
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        if len(fields) > 5 and len(kind) > 1:
            found.append(Entry(fields[0], unescape(fields[3]), unescape(fields[4]), kind[0], unescape(kind[1])))
    return found


@record
class CgroupMount:
    """One mount of a cgroup file system, *version* 1 or 2; *root* is the cgroup that its mount *point* shows."""

    version: int
    point: str
    root: str
    #: Options of the super block: v1's controllers stand among them.
    words: tuple[str, ...]


def visible(mountinfo: str) -> list[CgroupMount]:
    """The cgroup mounts of a ``/proc/PID/mountinfo`` text that a path leads to, in its order."""
    over: dict[tuple[str, str], str] = {}
    numbers: set[str] = set()
    found: list[tuple[str, str, str]] = []
    for line in mountinfo.split("\n"):  # not entries(): a start reads hundreds of lines here, and few are of cgroups
        fields = line.split(" ", 5)
        if len(fields) < 6:
            continue
        number, parent, _, _, point, rest = fields
        numbers.add(number)
        # The very first mount of a machine is its own parent.
        over["" if number == parent else parent, point] = number
        if " - cgroup" in rest:
            found.append((number, point, line))
    # Paths begin at a mount whose parent is not in the list: the root, or the mounts below the root of a chroot(2).
    first = {point: number for (parent, point), number in over.items() if parent not in numbers}
    ends: dict[str, str | None] = {}
    mounts = (_mount(line) for number, point, line in found if _end(point, over, first, ends) == number)
    return [mount for mount in mounts if mount is not None]


def _mount(line: str) -> CgroupMount | None:
    left, _, right = line.partition(" - ")
    fields, kind = left.split(" "), right.split(" ")
    if len(fields) < 6 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
        return None
    version = 2 if kind[0] == "cgroup2" else 1
    return CgroupMount(version, unescape(fields[4]), unescape(fields[3]), tuple(kind[2].split(",")))


def _end(path: str, over: dict[tuple[str, str], str], first: dict[str, str], ends: dict[str, str | None]) -> str | None:
    """The number of the mount in which *path* ends. *ends* is a cache for the directories above, which many share."""
    if path not in ends:
        above = path.rpartition("/")[0]
        now = _end(above or "/", over, first, ends) if path != "/" and path else None
        while (next_ := first.get(path) if now is None else over.get((now, path))) is not None:
            now = next_
        ends[path] = now
    return ends[path]


def best(mounts: list[CgroupMount], own: Callable[[], str]) -> CgroupMount:
    """The one of *mounts*, all of one hierarchy, to make cgroups in: one that shows all of it, or our own cgroup.

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


def _own_path(text: str, mount: CgroupMount) -> str:
    for line in text.split("\n"):
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
    if set(above) <= {"", ".."}:  # the root of the namespace, or above it
        return below.count("..") <= above.count("..")
    return below[: len(above)] == above


def unescape(word: str) -> str:
    """Decode mountinfo's octal escapes of space, tab, newline and backslash."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        word = word.replace(code, char)
    return word
