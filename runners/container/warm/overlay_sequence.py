"""The steps of the fork server's containers: an overlay of the root filesystem, entered before anything is mounted.

With the overlay as root, a link of the image cannot lead out of it, except by a link of /proc to an open descriptor. A
path cannot hold such a link if all its directories are plain ones of the image, or of a file system that was just
mounted empty. Then a plain step is taken, which costs a third of the careful one of :mod:`rootfs`.
"""

from __future__ import annotations

import os

from ..reader import BundleError
from ..setup import cgroup_mount, child, rootfs_contents
from ..setup import sequence as plans
from ..setup.rootfs_contents import DEVICES, LINKS
from ..setup.sequence import StepSequence
from ..setup.steps.basic import (
    DieWithParent,
    Link,
    MakeDevice,
    MakeDirectory,
    MakeReadonly,
    MaskDirectory,
    MaskFile,
    MountFs,
    NewKeyring,
    NewSession,
    RunOn,
    Sysctl,
)
from ..setup.steps.carry import Inherit
from ..setup.steps.credentials import (
    BecomeUser,
    ChangeDirectory,
    DropBounding,
    NoNewPrivileges,
    OwnStreams,
    SetGroups,
    Umask,
    Undumpable,
)
from ..setup.steps.rootfs import DeviceIn, DirectoryIn, LinkIn, Mask, MountIn, Readonly
from .root_layer import LAYER, EnterLayer, Layer, StandAlone, StandApart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    from ..config.bundle import Bundle
    from ..config.mounts import Mount
    from ..seccomp.filters import Filter
    from ..setup.steps.basic import Step
    from .root_layer import HostHandles

    Found = Literal["file", "directory", "absent", ""]
    Look = Callable[[str], Found]

#: File systems in which only the kernel and this runtime make names: they hold no link of an image.
_EMPTY = ("proc", "sysfs", "tmpfs", "devpts", "mqueue")
#: Steps that the fork server does once, for all its children.
_INHERITED = (Undumpable, SetGroups, Inherit, DropBounding, NoNewPrivileges)
_COLD = "start it with tare-oci, crun or runc"


def look(path: str) -> Found:
    """What is at *path* on this host; "" if a link is part of the path."""
    above, name = os.path.split(path)
    if os.path.realpath(above) != above or os.path.islink(path):
        return ""
    if os.path.isdir(path):
        return "directory"
    if os.path.lexists(path):
        return "file"
    return "absent" if name and os.path.isdir(above) else ""


def make(
    bundle: Bundle,
    *,
    base: str,
    last_capability: int,
    processors: frozenset[int],
    held: HostHandles | None = None,
    look: Look = look,
    filtering: Filter | None = None,
) -> StepSequence:
    """All steps for a container of *bundle* on an overlay of its own.

    *base* is an existing directory to mount on. The inherited steps are for a process in a mount namespace of its own
    from which no mount goes out to the host's; with *held* it has none of the host's afterwards (:class:`StandAlone`).
    *processors* are those that the container may run on, even if its parent runs on one only
    (:class:`fork_server.Place`). Raises BundleError for what needs another process while a container is set up.
    """
    _refuse(bundle)
    _refuse_dots(bundle)
    made = _Maker(bundle, look)
    credentials = plans.becoming(bundle.process, bundle=bundle, last_capability=last_capability, filtering=filtering)
    limits = plans.limits(bundle.process, pid=0)
    stand: Step = StandApart(base)
    layer = Layer(bundle.rootfs, base)
    if held is not None:
        stand, layer = StandAlone(base, held), Layer(bundle.rootfs, LAYER, here=True)
    return StepSequence(
        clone_flags=plans.clone_flags(bundle),
        inherited=(stand, Undumpable(), *(step for step in credentials.steps if isinstance(step, _INHERITED))),
        outside=(
            DieWithParent(),
            NewSession(),
            NewKeyring(),
            *plans.namespaces(bundle),
            Umask(0),
            layer,
            EnterLayer(f"{layer.base}/m", held),
        ),
        entering=(*made.mounts(), *made.rest(), *plans.finish_root(bundle), RunOn(processors)),
        credentials=(*limits, *(step for step in credentials.steps if made.needed(step))),
        last=credentials.calls,
        last_words=credentials.words,
        argv=bundle.process.argv,
        env=_environment(bundle),
    )


def _environment(bundle: Bundle) -> tuple[tuple[str, str], ...]:
    """The configured environment with HOME, as :func:`child.prepare` makes it for the OCI runtime."""
    env = bundle.process.env
    if any(name == "HOME" and value for name, value in env):
        return env
    try:
        root = os.open(bundle.rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return env  # the overlay says so, with the path
    try:
        return (*env, ("HOME", child.home(bundle.process.uid, root=root)))
    finally:
        os.close(root)


def _refuse(bundle: Bundle) -> None:
    def no(where: str, what: str) -> BundleError:
        return BundleError(where, f"{what} are not supported by the fork server", _COLD)

    for kind, path in bundle.namespaces.items():
        if path or kind in ("user", "time"):
            raise no("linux.namespaces", f"{'joined' if path else 'new'} {kind} namespaces")
    for kind in ("mount", "pid"):
        if kind not in bundle.namespaces:
            raise no("linux.namespaces", f"containers without a {kind} namespace")
    for kind, found in bundle.hooks.items():
        if found:
            raise no(f"hooks.{kind}", "hooks")
    if not bundle.process.argv[0].startswith("/"):
        raise BundleError(
            "process.args", "must start with an absolute path: the fork server searches no PATH", "write it in full"
        )
    if bundle.process.terminal:
        raise no("process.terminal", "terminals")
    for number, mount in enumerate(bundle.mounts):
        if mount.bind or mount.remount or mount.target == "/":
            what = "remounts" if mount.remount else "bind mounts" if mount.bind else "mounts over the root"
            raise no(f"mounts[{number}]", what)


def _refuse_dots(bundle: Bundle) -> None:
    """Refuse a path with "..": where it leads is known only in the root, and here it is looked up before."""
    paths = [(f"mounts[{number}].destination", mount.target) for number, mount in enumerate(bundle.mounts)]
    paths += [("linux.maskedPaths", path) for path in bundle.masked]
    paths += [("linux.readonlyPaths", path) for path in bundle.readonly]
    for where, path in paths:
        if ".." in path.split("/"):
            raise BundleError(where, f"paths with .. ({path}) are not supported by the fork server", _COLD)


class _Maker:
    """Puts together the steps in the root, and remembers what has been mounted so far."""

    def __init__(self, bundle: Bundle, look: Look) -> None:
        self._bundle = bundle
        self._look = look
        self._covered: dict[str, str] = {}
        self._devices = False

    def _plain(self, path: str) -> bool:
        """Whether the directories of *path* are in a file system that was mounted empty."""
        above = [target for target in self._covered if path.startswith(f"{target}/")]
        return bool(above) and self._covered[max(above, key=len)] in _EMPTY

    def mounts(self) -> Iterator[Step]:
        """The mounts of the configuration, and the devices as soon as /dev is there."""
        for number, mount in enumerate(self._bundle.mounts):
            yield from rootfs_contents.covered(self._bundle.mounts, number)
            if mount.kind == "cgroup":
                yield from cgroup_mount.cgroup(mount, "", own_namespace="cgroup" in self._bundle.namespaces)
            elif mount.copy_up:
                yield rootfs_contents.filled(mount)
            else:
                yield from self._mount(mount)
            self._covered[mount.target] = "" if mount.copy_up else mount.kind
            yield from rootfs_contents.changed(mount)
            if mount.target == "/dev" and mount.kind == "tmpfs" and not mount.copy_up:
                self._devices = True
                listed = {device.path for device in self._bundle.devices}
                for name, major, minor in DEVICES:
                    if f"/dev/{name}" not in listed:
                        yield MakeDevice(f"/dev/{name}", major, minor)
                yield from (Link(target, f"/dev/{name}") for name, target in LINKS)

    def _mount(self, mount: Mount) -> Iterator[Step]:
        inside = self._plain(mount.target)
        over = any(mount.target.startswith(f"{target}/") for target in self._covered)
        # What the root filesystem holds is seen in its overlay, too, unless it is covered by a mount.
        found = "absent" if inside else "" if over else self._look(self._bundle.rootfs + mount.target)
        # A tmpfs without a mode takes that of its directory, and only the careful step does that.
        plain = found in ("absent", "directory") and (mount.kind != "tmpfs" or "mode=" in mount.data)
        made = rootfs_contents.filled(mount)
        if not plain or not isinstance(made, MountIn):
            yield made
        else:
            if found == "absent":
                yield MakeDirectory(mount.target)
            yield MountFs(made.source, made.target, made.kind, made.flags, made.data)

    def rest(self) -> Iterator[Step]:
        """Devices of the configuration, working directory, kernel parameters, masks."""
        bundle = self._bundle
        if not self._devices:
            for name, major, minor in DEVICES:
                yield DeviceIn(f"/dev/{name}", 0o020666, major, minor, standard=True)
            yield from (LinkIn(target, f"/dev/{name}", replace=name == "ptmx") for name, target in LINKS)
        for device in bundle.devices:
            yield DeviceIn(device.path, device.mode, device.major, device.minor, device.uid, device.gid)
        if bundle.process.cwd != "/":
            yield DirectoryIn(bundle.process.cwd)
        yield from rootfs_contents.closed(bundle)
        yield from (Sysctl(path, value) for path, value in bundle.sysctls)
        yield from self._masks()
        for path in bundle.readonly:
            if not self._shows_host(path):
                yield Readonly(path)
            elif self._look(path) in ("file", "directory"):
                yield MakeReadonly(path)

    def _masks(self) -> Iterator[Step]:
        hidden = ""
        for path in self._bundle.masked:
            if not self._devices or not self._shows_host(path):
                yield Mask(path)
                continue
            found = self._look(path)
            if found == "file":
                yield MaskFile(path)
            elif found == "directory":
                yield MaskDirectory(path, hidden)
                hidden = hidden or path

    def _shows_host(self, path: str) -> bool:
        """Whether *path* shows the same in the container as on the host."""
        return any(
            self._covered.get(top) == kind and path.startswith(f"{top}/") and self._alone(top)
            for top, kind in (("/proc", "proc"), ("/sys", "sysfs"))
        )

    def _alone(self, top: str) -> bool:
        return not any(target.startswith(f"{top}/") for target in self._covered)

    def needed(self, step: Step) -> bool:
        """Whether each child must still do *step*: its parent is root already, and stands at the root."""
        process = self._bundle.process
        if isinstance(step, ChangeDirectory):
            return process.cwd != "/"
        if isinstance(step, BecomeUser):
            return (process.uid, process.gid) != (0, 0)
        if isinstance(step, OwnStreams):
            return process.uid != 0
        return not isinstance(step, _INHERITED)
