"""A :class:`Bundle` becomes a tuple of steps, in order, before anything runs.

There are two lists: what a child inherits across clone (the bounding set...) and may therefore be done once in the
parent, and what each container needs of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .bundle import NAMESPACES, Bundle
from .steps import (
    ChangeDirectory,
    DieWithParent,
    DropBounding,
    DropGroups,
    EnterRoot,
    Layer,
    Link,
    LoopbackUp,
    MakeDevice,
    MakeDirectory,
    MakeReadonly,
    MaskDirectory,
    MaskFile,
    MountFs,
    NewKeyring,
    NewSession,
    NoNewPrivileges,
    SetCapabilities,
    SetHostname,
    Step,
    Umask,
    UnshareCgroups,
)

Look = Callable[[str], Literal["file", "directory", ""]]
#: Permissions and numbers of the devices that every container has (OCI config-linux.md, "Default Devices").
DEVICES = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """*inherited* steps hold for every child of the process that does them; *own* are each container's.

    *clone_flags* are the namespaces that clone3 makes, before any step.
    """

    clone_flags: int
    inherited: tuple[Step, ...]
    own: tuple[Step, ...]
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]


def look(path: str) -> Literal["file", "directory", ""]:
    """What is at *path* on this host: a container's /proc and /sys show the same kernel."""
    if os.path.realpath(path) != path:
        return ""  # a link in a rootfs would lead to the host from here
    return "directory" if os.path.isdir(path) else "file" if os.path.exists(path) else ""


def plan(bundle: Bundle, *, base: str, last_capability: int, look: Look = look) -> Plan:
    """All steps for *bundle*; *base* is an existing directory to mount on, in the new mount namespace only.

    Joining cgroups is left out: it differs from container to container, and comes first. See :class:`JoinCgroup`.
    """
    own: list[Step] = [DieWithParent(), NewSession(), NewKeyring()]
    if "cgroup" in bundle.namespaces:
        own.append(UnshareCgroups())
    own += [Umask(0), Layer(bundle.rootfs, base), EnterRoot(f"{base}/m")]
    covered: list[str] = []
    for mount in bundle.mounts:
        # What the rootfs has shows in its overlay too, unless a mount has come over it.
        if mount.target.startswith(tuple(covered)) or not look(bundle.rootfs + mount.target):
            own.append(MakeDirectory(mount.target))
        covered.append(f"{mount.target}/")
        own.append(MountFs(mount.source, mount.target, mount.kind, mount.flags, mount.data))
        if mount.target == "/dev":
            own.extend(MakeDevice(f"/dev/{name}", major, minor) for name, major, minor in DEVICES)
            own.extend(Link(target, f"/dev/{name}") for name, target in LINKS)
    for path in bundle.masked:
        kind = look(path)
        if kind:
            own.append(MaskFile(path) if kind == "file" else MaskDirectory(path))
    own.extend(MakeReadonly(path) for path in bundle.readonly if look(path))
    if bundle.hostname:
        own.append(SetHostname(bundle.hostname))
    if "network" in bundle.namespaces:
        own.append(LoopbackUp())
    own += [ChangeDirectory(bundle.cwd), Umask(0o022), SetCapabilities(bundle.effective, bundle.permitted)]
    inherited: list[Step] = [DropGroups(), DropBounding(bundle.bounding, last_capability)]
    if bundle.no_new_privileges:
        inherited.append(NoNewPrivileges())
    # The cgroup namespace is unshared by a step, after joining.
    flags = sum(NAMESPACES[name] for name in bundle.namespaces - {"cgroup"})
    return Plan(clone_flags=flags, inherited=tuple(inherited), own=tuple(own), argv=bundle.argv, env=bundle.env)
