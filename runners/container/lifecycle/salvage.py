"""Ending a container whose state cannot be read any more: damaged on its disk, or written by who knows whom.

To forget it would leave its processes to nobody. So what is left of the state is taken, piece by piece.
"""

from __future__ import annotations

import os

from ..cgroup import cgroups
from ..errors import OciError, reason
from ..light import json
from ..light.dataclasses import replace
from .state import CONFIG, STATE, State, read_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .state import Store

#: What a container is ended by, and the kind of each.
_PIECES = {"pid": int, "pid_start": int, "cgroup": str, "lease": str, "shared_root": str, "bundle": str, "rootfs": str}


def salvaged(store: Store, name: str) -> State:
    """The container *name* by what its damaged state still says. Raises OciError where it says too little to end it."""
    try:
        value = _object(store.file(name, STATE))
    except OSError as error:
        raise OciError(f"cannot read the state of {name}", reason(error)) from None
    kept = {key: value[key] for key, kind in _PIECES.items() if type(value.get(key)) is kind and value[key] != ""}
    if "cgroup" not in kept:
        _check_empty(store, name)
    nothing = State(
        name=name,
        oci_version="",
        bundle="/",
        rootfs="/",
        cgroup="",
        annotations={},
        created="",
        owner_uid=os.getuid(),
    )
    return replace(nothing, **kept)


def _check_empty(store: Store, name: str) -> None:
    """Refuse to forget processes: those of the cgroup that the container must have had, if it had one."""
    try:
        linux = _object(store.file(name, CONFIG)).get("linux")
    except OSError:
        linux = None
    path = linux.get("cgroupsPath") if isinstance(linux, dict) else None
    group = cgroups.for_container(path if isinstance(path, str) else "", name)
    inside = group.pids()
    if inside:
        why = f"its state is damaged, and /{group.relative}, which may be its cgroup, has {len(inside)} process(es)"
        raise OciError(f"cannot remove the container {name}", why, "end them if they are its own, and try again")


def _object(path: str) -> dict[str, object]:
    try:
        value = json.loads(read_bytes(path), ours=True)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
