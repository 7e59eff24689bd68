"""A cgroup that several containers share: what is done to one of them leaves the processes of the others alone.

Each of them has a file beside its state, ``claiming.MARK``, so that the removal of one that shares nothing costs no
more than a look. Its processes are told from others' by their mount namespace: a pid namespace may be shared on purpose
(the containers of a pod), and in one of its own the kernel ends all with the first.
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
    """The :func:`others`, marked with *name*, which is to share their cgroup."""
    found = others(store, name, path)
    for each in (*found, name) if found else ():
        try:
            state.place_file(store.file(each, MARK), "")
        except FileNotFoundError:  # it is removed meanwhile
            pass
    return found


def end(group: Cgroup, first: int) -> None:
    """SIGKILL all processes in *group* of the container whose first is *first*; await their ends. Raises OSError.

    A frozen cgroup runs again: else they could not die (v1).
    """
    members = _members(group, first)
    hierarchies.send_kill(members())
    if group.frozen():
        group.thaw_if_there()
    hierarchies.kill(members, f"/{group.relative}")


def send(group: Cgroup, first: int, number: int) -> None:
    """Send them the signal *number*."""
    if number == _SIGKILL:
        end(group, first)
        return
    for pid in _members(group, first)():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def _members(group: Cgroup, first: int) -> Callable[[], frozenset[int]]:
    """What finds them, also after *first* has ended."""
    space = _space(first)

    def found() -> frozenset[int]:
        return frozenset(pid for pid in group.pids() if pid == first or (space and _space(pid) == space))

    return found


def _space(pid: int) -> str:
    """The mount namespace of process *pid*; empty where it has ended, is another user's, or has our own."""
    try:
        found = os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""
    return "" if found == os.readlink("/proc/self/ns/mnt") else found
