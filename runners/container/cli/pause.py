"""The verbs pause and resume."""

from __future__ import annotations

import os

from ..errors import OciError
from ..lifecycle import claim_cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..cgroup.cgroups import Cgroup
    from .main import Call


def pause(call: Call) -> int:
    """Stop all processes of a container from running."""
    group_in(call, "pause", ("running", "created")).freeze()
    return 0


def resume(call: Call) -> int:
    """Let them run again."""
    group = group_in(call, "resume", ("paused",))
    group.thaw()
    above = group.frozen_by()
    if above:
        raise OciError(f"cannot resume the container {call.name()}", f"the cgroup {above} above its own is frozen")
    return 0


def group_in(call: Call, verb: str, statuses: tuple[str, ...]) -> Cgroup:
    """The cgroup of the container in *call*, for *verb*, which accepts these *statuses*. Raises OciError."""
    name = call.name()
    lock = call.store.lock(name)
    try:
        known = call.store.read(name)
        status = call.store.status(known, claim_cgroup.is_frozen)
        if status not in statuses:
            raise OciError(f"cannot {verb} the container {name}", f"it is {status}")
        group = claim_cgroup.group_of(known)
        if group is None:
            raise OciError(
                f"cannot {verb} the container {name}", "it has no cgroup of its own", "set linux.cgroupsPath"
            )
        return group
    finally:
        os.close(lock)
