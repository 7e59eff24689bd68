"""A cgroup of several containers: what is done to one of them does not touch the processes of the others.

Each of them has a file beside its state, :data:`claim_cgroup.MARK`; the removal of a container without it only has to
look for that file. A container's processes are known by their mount namespace. A pid namespace would not do: it may be
shared on purpose (the containers of a pod), and if it is not, the kernel ends all of its processes with the first.
"""

from __future__ import annotations

import os

from ..cgroup import hierarchies
from ..errors import OciError
from . import state
from .claim_cgroup import MARK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cgroup.cgroups import Cgroup
    from .state import Store

_SIGKILL = 9


def others(store: Store, name: str, path: str) -> list[str]:
    """The living containers of *store* but *name* whose cgroup is *path*."""
    found = []
    for other in store.names():
        try:
            known = store.read(other)
            if other != name and known.cgroup == path and store.status(known) not in ("stopped", "creating"):
                found.append(other)
        except (OciError, OSError):  # it is removed meanwhile
            pass
    return found


def join(store: Store, name: str, path: str) -> list[str]:
    """Return the :func:`others`, and mark them and *name*, which is going to use their cgroup."""
    found = others(store, name, path)
    for each in (*found, name) if found else ():
        try:
            state.place_file(store.file(each, MARK), "")
        except FileNotFoundError:  # it is removed meanwhile
            pass
    return found


def end(group: Cgroup, first: int) -> None:
    """Kill all processes in *group* of the container whose first is *first*; wait for their ends. Raises OSError.

    A frozen cgroup is thawed: else they could not die (v1).
    """
    members = _members(group, first)
    hierarchies.send_kill(members())
    if group.frozen():
        group.thaw_if_there()
    hierarchies.kill(members, f"/{group.relative}")


def send(group: Cgroup, first: int, number: int) -> None:
    """Send the same processes the signal *number*."""
    if number == _SIGKILL:
        end(group, first)
        return
    for pid in _members(group, first)():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def _members(group: Cgroup, first: int) -> Callable[[], frozenset[int]]:
    """A function that finds the processes, also after *first* has ended."""
    space = _space(first)

    def found() -> frozenset[int]:
        return frozenset(pid for pid in group.pids() if pid == first or (space and _space(pid) == space))

    return found


def _space(pid: int) -> str:
    """The mount namespace of process *pid*; empty if it has ended, is another user's, or is in this process's own."""
    try:
        found = os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""
    return "" if found == os.readlink("/proc/self/ns/mnt") else found
