"""Ends a container whose state file cannot be read: it is damaged, or it was not written by this program.

If the state were only removed, the container's processes would stay. So each part of the state that can be read is
used.
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

#: The parts by which a container is ended, and the type of each.
_PIECES = {"pid": int, "pid_start": int, "cgroup": str, "lease": str, "shared_root": str, "bundle": str, "rootfs": str}


def salvaged(store: Store, name: str) -> State:
    """The container *name*, by what its damaged state still holds. Raises OciError if that is too little to end it."""
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
    """Raise OciError if processes would be left in the cgroup that the container must have had, if it had one."""
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
