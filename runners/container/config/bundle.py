"""An OCI configuration (``config.json``) as a frozen :class:`Bundle`, or an error that names what cannot be done.

There are three kinds of keys. A key that is read here is in force later. A key that the specification knows and this
runtime cannot do raises :class:`BundleError`, with its path in the file and what to do. An unknown key is ignored, as
the specification demands (config.md, "Extensibility"), with a warning in :attr:`Bundle.warnings`. Annotations are only
shown in the state; they mean nothing to this runtime.

Source: the OCI runtime specification 1.2 (config.md, config-linux.md).
"""

from __future__ import annotations

import os
import posixpath

from ..light.dataclasses import record, replace
from ..linux import syscalls as k
from ..reader import SEE, BundleError, Reader
from . import extras, mounts
from . import process as processes
from .process import NO_SELINUX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..cgroup.resources import Resources
    from ..linux.idmap import Range
    from ..seccomp.filters import Profile
    from .extras import Device
    from .hooks import Hook
    from .mounts import Mount
    from .process import Process

NAMESPACES = {
    "mount": k.CLONE_NEWNS,
    "pid": k.CLONE_NEWPID,
    "uts": k.CLONE_NEWUTS,
    "ipc": k.CLONE_NEWIPC,
    "network": k.CLONE_NEWNET,
    "cgroup": k.CLONE_NEWCGROUP,
    "user": k.CLONE_NEWUSER,
    "time": k.CLONE_NEWTIME,
}
#: Exists if the kernel's SELinux is in use.
_SELINUX = "/sys/fs/selinux/enforce"
#: Sections that the specification has for other platforms.
PLATFORMS = ("windows", "solaris", "vm", "zos", "freebsd")
#: Keys of ``linux`` that this runtime cannot do. The last two are of version 1.3 of the specification.
_IMPOSSIBLE = {
    "intelRdt": "this runtime does not use resctrl, the file system of Intel RDT",
    "netDevices": "this runtime does not move network devices",
    "memoryPolicy": "this runtime sets no NUMA policy",
}


@record(kw_only=True)
class Bundle:
    """One container, as configured. *namespaces* maps each kind to the path to join, or to "" for a new one."""

    version: str
    directory: str
    annotations: dict[str, str]
    process: Process
    rootfs: str
    readonly_root: bool
    hostname: str
    domainname: str
    mounts: tuple[Mount, ...]
    hooks: dict[str, tuple[Hook, ...]]
    namespaces: dict[str, str]
    uids: tuple[Range, ...]
    gids: tuple[Range, ...]
    time_offsets: tuple[tuple[str, int, int], ...]
    devices: tuple[Device, ...]
    sysctls: tuple[tuple[str, str], ...]
    masked: tuple[str, ...]
    readonly: tuple[str, ...]
    propagation: int
    personality: int | None
    cgroup: str
    resources: Resources
    seccomp: Profile | None
    #: One line for each part of the configuration that is not in force.
    warnings: tuple[str, ...] = ()

    def is_new(self, kind: str) -> bool:
        """Whether the container has a namespace of *kind* that is made for it."""
        return self.namespaces.get(kind) == ""


def parse(config: object, *, directory: str, twice: Iterable[str] = ()) -> Bundle:
    """The :class:`Bundle` of a decoded ``config.json``; relative paths are below *directory*. Raises BundleError.

    *twice* are names that were twice in one object of the text.
    """
    top = Reader(config, "")
    for name in twice:
        top.warn(name, "stands twice in one object: the last counts")
    version = _version(top)
    annotations = top.pairs("annotations", null="")
    hostname, domainname = top.take("hostname", str, ""), top.take("domainname", str, "")
    rootfs, readonly_root = _root(top.below("root"), directory)
    made = tuple(mounts.parse(item, directory=directory) for item in top.each("mounts"))
    found_hooks = _hooks(top)
    process = processes.NOTHING if top.lacks("process") else processes.parse(top.below("process"))
    linux = top.below("linux", {})
    _other_platforms(top)
    top.done()
    namespaces = _namespaces(linux)
    mounts.check(made, namespaces)
    made = mounts.settled(made, namespaces, top)
    uids, gids = _ids(linux, namespaces, process)
    sysctls = extras.sysctls(linux, namespaces)
    _check_names(hostname, domainname, namespaces, dict(sysctls))
    readonly = _paths(linux, "readonlyPaths")
    cgroup = _cgroup(linux)
    bundle = Bundle(
        version=version,
        directory=directory,
        annotations=annotations,
        process=process,
        rootfs=rootfs,
        readonly_root=readonly_root or "/" in readonly,
        hostname=hostname,
        domainname=domainname,
        mounts=made,
        hooks=found_hooks,
        namespaces=namespaces,
        uids=uids,
        gids=gids,
        time_offsets=extras.time_offsets(linux, namespaces),
        devices=extras.devices(linux),
        sysctls=sysctls,
        masked=_paths(linux, "maskedPaths"),
        readonly=tuple(path for path in readonly if path != "/"),
        propagation=_propagation(linux),
        personality=None if linux.lacks("personality") else extras.personality(linux.below("personality")),
        cgroup=cgroup,
        resources=_resources(linux),
        seccomp=_seccomp(linux),
    )
    _impossible(linux)
    linux.done()
    return replace(bundle, warnings=tuple(top.warnings)) if top.warnings else bundle


def _version(top: Reader) -> str:
    version = top.take("ociVersion", str)
    major, *rest = version.partition("+")[0].partition("-")[0].split(".")
    if major != "1":
        raise BundleError(
            "ociVersion", f"{version!r} is not 1.x", "write the configuration for version 1 of the OCI specification"
        )
    if len(rest) != 2 or not all(part.isascii() and part.isdecimal() for part in rest):
        top.warn("ociVersion", f"{version!r} is not in the form of Semantic Versioning (1.2.1) and is taken as 1.x")
    return version


def _other_platforms(top: Reader) -> None:
    """Take the sections for other platforms, with a warning for each that is not empty."""
    for key in PLATFORMS:
        if not top.empty(key):
            top.warn(key, "is for another platform and is ignored")
        top.ignore(key)


def _check_names(hostname: str, domainname: str, namespaces: dict[str, str], sysctls: dict[str, str]) -> None:
    """Refuse a name that the host would get, and one that *sysctls* contradict. Raises BundleError."""
    if (hostname or domainname) and "uts" not in namespaces:
        raise BundleError(
            "hostname" if hostname else "domainname",
            "would rename the host",
            'add {"type": "uts"} to linux.namespaces',
        )
    if domainname and sysctls.get(extras.DOMAINNAME, domainname) != domainname:
        raise BundleError("linux.sysctl.kernel.domainname", f"contradicts domainname {domainname!r}", "remove one")


def _cgroup(linux: Reader) -> str:
    path = linux.take("cgroupsPath", str, "")
    if path.count(":") == 2:
        linux.warn("cgroupsPath", "is taken as a path: slice:prefix:name is for a runtime with --systemd-cgroup")
    return path


def _impossible(linux: Reader) -> None:
    """Refuse what the specification knows and this runtime cannot do. Raises BundleError."""
    if linux.take("mountLabel", str, ""):
        if os.path.exists(_SELINUX):
            raise BundleError("linux.mountLabel", NO_SELINUX, "remove it")
        linux.warn("mountLabel", "files have no labels on this host, which is without SELinux: ignored")
    for key, why in _IMPOSSIBLE.items():
        if not linux.lacks(key):
            raise BundleError(linux.at(key), why, "remove it")


def _hooks(top: Reader) -> dict[str, tuple[Hook, ...]]:
    if top.lacks("hooks"):
        return {}
    from . import hooks  # imported late, as everything that most configurations do not need

    return hooks.parse(top.below("hooks", {}))


def _paths(reader: Reader, key: str) -> tuple[str, ...]:
    paths = reader.texts(key)
    for path in paths:
        if not path.startswith("/"):
            reader.warn(key, f"{path!r} is not absolute: {'taken from /' if path else 'ignored'}")
    return tuple(mounts.from_root(path) for path in paths if path)


def _root(root: Reader, directory: str) -> tuple[str, bool]:
    path, readonly = root.take("path", str), root.take("readonly", bool, False)
    root.done()
    if not path:
        raise BundleError(root.at("path"), "must be a path", SEE)
    return posixpath.normpath(posixpath.join(directory, path)), readonly


def _namespaces(linux: Reader) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in linux.each("namespaces"):
        kind, path = item.take("type", str), item.take("path", str, "")
        item.done()
        if kind not in NAMESPACES:
            raise BundleError(
                item.at("type"), f"{kind!r} is not a kind of namespace; there are {', '.join(NAMESPACES)}", SEE
            )
        if kind in found:
            raise BundleError(item.at("type"), f"{kind} stands twice", "leave one")
        if path and not path.startswith("/"):
            raise BundleError(item.at("path"), "must be an absolute path", SEE)
        found[kind] = path
    return found


def _ids(linux: Reader, namespaces: dict[str, str], process: Process) -> tuple[tuple[Range, ...], tuple[Range, ...]]:
    if "user" not in namespaces and linux.lacks("uidMappings") and linux.lacks("gidMappings"):
        return (), ()
    from ..linux import idmap

    uids, gids = idmap.parse(linux, "uidMappings"), idmap.parse(linux, "gidMappings")
    new = namespaces.get("user") == ""
    if not new:
        if (uids or gids) and "user" not in namespaces:
            linux.warn("uidMappings" if uids else "gidMappings", "is ignored: the container has no user namespace")
        return (), ()  # a joined namespace has its own ids
    if not uids and not gids:
        linux.warn("uidMappings", "is missing: the container has one user, who is the caller on the host")
        return (idmap.Range(process.uid, os.geteuid(), 1),), (idmap.Range(process.gid, os.getegid(), 1),)
    if not uids or not gids:
        raise BundleError(
            linux.at("gidMappings" if uids else "uidMappings"), "is missing: a new user namespace needs users", SEE
        )
    for key, ranges, number in (("uid", uids, process.uid), ("gid", gids, process.gid)):
        if not idmap.covers(ranges, number):
            raise BundleError(f"process.user.{key}", f"{number} is in no range of linux.{key}Mappings", "map it")
    return uids, gids


def _propagation(linux: Reader) -> int:
    word = linux.take("rootfsPropagation", str, "")
    if word and word not in mounts.PROPAGATION:
        raise BundleError(
            linux.at("rootfsPropagation"), f"unknown word {word!r}", f"use one of {', '.join(mounts.PROPAGATION)}"
        )
    return mounts.PROPAGATION[word] if word else 0


def _resources(linux: Reader) -> Resources:
    from ..cgroup import resources

    return resources.parse(linux.below("resources", {}))


def _seccomp(linux: Reader) -> Profile | None:
    if linux.empty("seccomp"):
        return None
    from ..seccomp import filters

    return filters.parse(linux.below("seccomp"))


def load(directory: str) -> Bundle:
    """The bundle in *directory*: its ``config.json``, read. Raises BundleError and OSError."""
    from ..light.json import loads

    path = os.path.join(directory, "config.json")
    with open(path, "rb") as file:
        text = file.read()
    try:
        return parse(loads(text), directory=directory)
    except BundleError:
        raise
    except ValueError as error:
        raise BundleError(path, f"is not JSON: {error}", "correct the file") from None
