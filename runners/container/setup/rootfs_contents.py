"""What a root filesystem gets, as steps: the mounts of a configuration, in their order, and devices and links in /dev.

Sources: OCI config.md ("Mounts"), config-linux.md ("Devices", "Default Devices"), runtime-linux.md.
"""

from __future__ import annotations

import posixpath
import stat

from ..config.mounts import below
from ..light.dataclasses import replace
from ..linux import capabilities
from ..linux import mount_calls as k
from . import cgroup_mount
from .steps.rootfs import (
    Bind,
    BindDevice,
    CopyUp,
    DeviceIn,
    EnterCover,
    LinkIn,
    MountIn,
    PropagateIn,
    RemountIn,
    SetAttributes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from ..config.bundle import Bundle
    from ..config.extras import Device
    from ..config.mounts import Mount
    from .steps.basic import Step

#: Permissions and numbers of the devices that every container has.
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
#: File systems that show a namespace, and that only its owner may mount: the namespace, and where the host has one.
_SHOWING = {"proc": ("pid", "/proc"), "mqueue": ("ipc", "/dev/mqueue")}


def filling(bundle: Bundle, cgroup: str, trees: Mapping[int, int], nodes: Mapping[str, int]) -> Iterator[Step]:
    """The mounts, and the devices and links as soon as /dev is there.

    They must not come later: by a link of the image, a later mount may cover /dev with a directory of the host.
    *cgroup* is the container's; *trees* are detached mounts by number, see :func:`sequence.make`; *nodes* see
    :mod:`userns_devices`.
    """
    covers = [i for i, mount in enumerate(bundle.mounts) if below("/dev", mount.target) and not mount.remount]
    place = max(covers, default=-1)
    later = [mount.target for mount in bundle.mounts[place + 1 :] if not mount.remount]
    last = [device for device in bundle.devices if any(below(device.path, target) for target in later)]
    first = [device for device in bundle.devices if device not in last]
    for number in range(-1, len(bundle.mounts)):
        if number >= 0:
            yield from _mounted(bundle, number, cgroup, trees.get(number, -1))
        if number == place:
            yield from _dev(bundle)
            yield from _devices(bundle, first, nodes)
    yield from _devices(bundle, last, nodes)


def _mounted(bundle: Bundle, number: int, cgroup: str, tree: int) -> Iterator[Step]:
    mount = bundle.mounts[number]
    yield from covered(bundle.mounts, number)
    if mount.remount:
        yield from _remounted(mount)
    elif mount.kind == "cgroup":
        yield from cgroup_mount.cgroup(mount, cgroup, own_namespace="cgroup" in bundle.namespaces)
    elif mount.bind:
        attributes = (mount.attributes, mount.attributes_below)
        yield Bind(mount.source, mount.target, tree, mount.recursive, *attributes, mount.propagation)
    else:
        yield filled(mount, _instead(mount, bundle.namespaces))
    if mount.target == "/" and not mount.remount:
        yield EnterCover(bundle.rootfs)
    if not mount.bind or mount.remount:
        yield from changed(mount)


def filled(mount: Mount, instead: str = "") -> Step:
    """The file system of *mount*. A read-only tmpfs stays writable for what comes below it, until :func:`closed`."""
    if mount.kind == "tmpfs":
        mount = replace(mount, flags=mount.flags & ~k.MS_RDONLY)
    if mount.copy_up:
        return CopyUp(mount.target, mount.flags, mount.data)
    return MountIn(mount.source, mount.target, mount.kind, mount.flags, mount.data, instead)


def changed(mount: Mount) -> Iterator[Step]:
    """What is set once a file system is mounted."""
    if any(mount.attributes_below):
        yield SetAttributes(mount.target, *mount.attributes_below, recursive=True)
    for propagation in mount.propagation:
        yield PropagateIn(mount.target, propagation)


def _remounted(mount: Mount) -> Iterator[Step]:
    """remount as in mount(8): with bind, only the mount changes; what is not named stays as it is."""
    if mount.bind:
        yield SetAttributes(mount.target, *mount.attributes)
    else:
        yield RemountIn(mount.target, mount.flags, mount.cleared, mount.data)


def _instead(mount: Mount, namespaces: Container[str]) -> str:
    """What of the host is bound if this user namespace may not mount *mount*: only what shows the same."""
    if mount.kind == "sysfs":
        # as crun: the host's is read-only
        return "/sys" if mount.flags & k.MS_RDONLY else ""
    namespace, path = _SHOWING.get(mount.kind, ("", ""))
    return path if namespace not in namespaces else ""


def covered(mounts: tuple[Mount, ...], number: int) -> Iterator[Step]:
    """Close each read-only tmpfs that the mount of this *number* covers: afterwards no path leads to it."""
    target = mounts[number].target
    for mount in _closing(mounts[:number]):
        if not mounts[number].remount and below(mount.target, target):
            yield SetAttributes(mount.target, k.MOUNT_ATTR_RDONLY)


def closed(bundle: Bundle) -> Iterator[Step]:
    """Make each read-only tmpfs read-only, now that it holds the places for what is mounted below it."""
    for mount in _closing(bundle.mounts):
        yield SetAttributes(mount.target, k.MOUNT_ATTR_RDONLY)


def _closing(mounts: tuple[Mount, ...]) -> list[Mount]:
    """Each tmpfs that is to be read-only and that no later mount covers."""
    return _visible(mounts, lambda mount: mount.kind == "tmpfs" and bool(mount.flags & k.MS_RDONLY))


def _visible(mounts: tuple[Mount, ...], wanted: Callable[[Mount], bool]) -> list[Mount]:
    """The mounts that are *wanted* and that no later one covers."""
    found: list[Mount] = []
    for mount in mounts:
        if not mount.remount:
            found = [each for each in found if not below(each.target, mount.target)]
            if wanted(mount):
                found.append(mount)
    return found


def propagated(bundle: Bundle) -> Iterator[Step]:
    """How all mounts propagate, except those for which the configuration says it."""
    mounts, wanted = _visible(bundle.mounts, lambda _: True), bundle.propagation
    worded = [mount.target for mount in bundle.mounts if mount.propagation and (mount.remount or mount in mounts)]
    if not worded:
        yield PropagateIn("/", wanted)
        return
    silent = [mount.target for mount in mounts if mount.target not in worded]
    for target in (*(() if "/" in worded else ("/",)), *(silent if wanted & k.MS_REC else ())):
        spread = not any(below(each, target) for each in worded)
        yield PropagateIn(target, wanted if spread else wanted & ~k.MS_REC)


def _dev_is_bound(mounts: tuple[Mount, ...]) -> bool:
    """Whether /dev is a bind of the host's: then only the host makes devices in it."""
    found = [mount.bind for mount in mounts if posixpath.normpath(mount.target) == "/dev" and not mount.remount]
    return bool(found) and found[-1]


def _unable(bundle: Bundle) -> bool:
    """Whether nodes made by mknod(2) cannot be opened, as in a user namespace: then the host's own are bound."""
    return "user" in bundle.namespaces or capabilities.confined()


def _dev(bundle: Bundle) -> Iterator[Step]:
    """The standard devices and links."""
    if _dev_is_bound(bundle.mounts):
        return
    unable = _unable(bundle)
    # what the configuration mounts or lists there counts
    listed = {device.path for device in bundle.devices}
    mounted = [mount.target for mount in bundle.mounts if below(mount.target, "/dev")]
    for name, major, minor in DEVICES:
        path, mode = f"/dev/{name}", stat.S_IFCHR | 0o666
        if path in listed or path in mounted:
            continue
        if unable:
            yield BindDevice(path, mode, major, minor)
        else:
            yield DeviceIn(path, mode, major, minor, standard=True)
    for name, target in LINKS:
        if not any(below(each, f"/dev/{name}") for each in mounted):
            yield LinkIn(target, f"/dev/{name}", replace=name == "ptmx")


def _devices(bundle: Bundle, wanted: Sequence[Device], nodes: Mapping[str, int]) -> Iterator[Step]:
    """Devices of the configuration."""
    bound, unable = _dev_is_bound(bundle.mounts), _unable(bundle)
    for device in wanted:
        if device.path != "/dev/ptmx" and not (bound and below(device.path, "/dev")):
            made = nodes.get(device.path, -1)
            yield Bind(device.path, device.path, made) if made >= 0 else _device(device, unable=unable)


def _device(device: Device, *, unable: bool) -> Step:
    if unable and not stat.S_ISFIFO(device.mode):
        return BindDevice(device.path, device.mode, device.major, device.minor)
    return DeviceIn(device.path, device.mode, device.major, device.minor, device.uid, device.gid)
