"""The verbs pause, resume and update: what is done to the cgroup of a running container."""

from __future__ import annotations

import os

from . import jsontext, lifecycle, state
from .failure import OciError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cgroups import Cgroup
    from .cli import Call
    from .state import State


def pause(call: Call) -> int:
    """Stop all processes of a container from running."""
    _group(call, "pause", ("running", "created")).freeze()
    return 0


def resume(call: Call) -> int:
    """Let them run again."""
    _group(call, "resume", ("paused",)).thaw()
    return 0


def is_frozen(known: State) -> bool:
    """Whether the container's cgroup is frozen."""
    group = lifecycle.group_of(known)
    return group is not None and group.frozen()


def _group(call: Call, verb: str, statuses: tuple[str, ...]) -> Cgroup:
    name = call.name()
    lock = call.store.lock(name)
    try:
        known = call.store.read(name)
        status = call.store.status(known, is_frozen)
        if status not in statuses:
            raise OciError(f"cannot {verb} the container {name}", f"it is {status}")
        group = lifecycle.group_of(known)
        if group is None:
            raise OciError(
                f"cannot {verb} the container {name}", "it has no cgroup of its own", "set linux.cgroupsPath"
            )
        return group
    finally:
        os.close(lock)


def update(call: Call) -> int:
    """Change the limits of a container; its configuration stays as it was made."""
    from . import resources
    from .reader import Reader

    path = call.options.text("resources")
    if not path:
        raise OciError("update: --resources is required", "", "give a file with linux.resources as JSON, or -")
    group = _group(call, "update", ("created", "running", "paused"))
    try:
        value = jsontext.loads(state.read_bytes("/dev/stdin" if path == "-" else path))
    except ValueError as error:
        raise OciError(path, str(error), "correct the JSON") from None
    resources.update(resources.parse(Reader(value, "linux.resources")), group)
    return 0
