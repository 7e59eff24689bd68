"""An OCI configuration (``config.json``) as a frozen :class:`Bundle`, or refused by the name of what is not done.

A runtime that silently skips a line of a configuration is worse than one that refuses it: every key that is read here
is in force later, and every other key raises :class:`BundleError`, with its path in the file and what to do. The one
exception are annotations, which mean nothing to a runtime.

Source: the OCI runtime specification 1.0.2 (config.md, config-linux.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from . import syscalls as k
from .reader import SEE, BundleError, Reader

#: sched-bwc.rst: the default period, which crun, runc and docker use too.
CPU_PERIOD_US = 100_000

#: linux/capability.h, in the order of its numbers.
CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)

NAMESPACES = {
    "mount": k.CLONE_NEWNS,
    "pid": k.CLONE_NEWPID,
    "uts": k.CLONE_NEWUTS,
    "ipc": k.CLONE_NEWIPC,
    "network": k.CLONE_NEWNET,
    "cgroup": k.CLONE_NEWCGROUP,
}

_FLAGS = {
    "ro": k.MS_RDONLY,
    "rw": 0,
    "nosuid": k.MS_NOSUID,
    "nodev": k.MS_NODEV,
    "noexec": k.MS_NOEXEC,
    "noatime": k.MS_NOATIME,
    "relatime": k.MS_RELATIME,
    "strictatime": k.MS_STRICTATIME,
}
_KINDS = ("proc", "tmpfs", "devpts", "mqueue", "sysfs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mount of the configuration: *flags* as in mount(2), *data* for the file system."""

    source: str
    target: str
    kind: str
    flags: int
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """One container, as configured. Capability sets are bit masks; None means no limit."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    hostname: str
    rootfs: str
    namespaces: frozenset[str]
    mounts: tuple[Mount, ...]
    masked: tuple[str, ...]
    readonly: tuple[str, ...]
    bounding: int
    effective: int
    permitted: int
    no_new_privileges: bool
    cgroup: str
    deny_devices: bool
    memory_bytes: int | None
    pids: int | None
    cpus: float | None


def parse(config: object) -> Bundle:
    """The :class:`Bundle` of a decoded ``config.json``. Raises :class:`BundleError`."""
    top = Reader(config, "")
    version = top.take("ociVersion", str)
    if not version.startswith("1."):
        raise BundleError(
            "ociVersion", f"{version} is not 1.x", "write the configuration for version 1 of the OCI specification"
        )
    top.take("annotations", dict, {})
    hostname = top.take("hostname", str, "")
    rootfs = _rootfs(top.below("root"))
    mounts = tuple(_mount(Reader(value, f"mounts[{i}]")) for i, value in enumerate(top.take("mounts", list, [])))
    process, linux = top.below("process"), top.below("linux")
    top.done()
    argv, env, cwd = _words(process)
    bounding, effective, permitted = _capabilities(process.below("capabilities", {}))
    no_new_privileges = process.take("noNewPrivileges", bool, False)
    process.done()
    namespaces = _namespaces(linux, hostname=hostname)
    masked, readonly = linux.texts("maskedPaths"), linux.texts("readonlyPaths")
    cgroup = _cgroup(linux.take("cgroupsPath", str, ""))
    resources = linux.below("resources", {})
    linux.done()
    deny_devices = _deny_devices(resources)
    memory_bytes, pids, cpus = _limits(resources)
    if not cgroup and (deny_devices or memory_bytes is not None or pids is not None or cpus is not None):
        raise BundleError("linux.resources", "limits need a cgroup", "set linux.cgroupsPath")
    return Bundle(
        argv=argv,
        env=env,
        cwd=cwd,
        hostname=hostname,
        rootfs=rootfs,
        namespaces=namespaces,
        mounts=mounts,
        masked=masked,
        readonly=readonly,
        bounding=bounding,
        effective=effective,
        permitted=permitted,
        no_new_privileges=no_new_privileges,
        cgroup=cgroup,
        deny_devices=deny_devices,
        memory_bytes=memory_bytes,
        pids=pids,
        cpus=cpus,
    )


def _rootfs(root: Reader) -> str:
    path = root.take("path", str)
    if root.take("readonly", bool, False):
        raise BundleError("root.readonly", "is not supported", "set it to false: writes go to a layer of the instance")
    root.done()
    return path


def _words(process: Reader) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...], str]:
    argv = process.texts("args")
    if not argv or not argv[0].startswith("/"):
        raise BundleError(
            "process.args", "must start with an absolute path", "name the program by its path in the rootfs"
        )
    pairs = [text.partition("=") for text in process.texts("env")]
    if not all(name and equals for name, equals, _ in pairs):
        raise BundleError("process.env", "must hold NAME=VALUE", SEE)
    user = process.below("user", {})
    for key in ("uid", "gid"):
        if user.take(key, int, 0) != 0:
            raise BundleError(user.at(key), "only root inside the container is supported", "set it to 0")
    user.done()
    if process.take("terminal", bool, False):
        raise BundleError("process.terminal", "is not supported", "set it to false: the console is a pipe")
    cwd = process.take("cwd", str, "/")
    if not cwd.startswith("/"):
        raise BundleError("process.cwd", "must be an absolute path", SEE)
    return argv, tuple((name, value) for name, _, value in pairs), cwd


def _mount(item: Reader) -> Mount:
    target, kind = item.take("destination", str), item.take("type", str, "")
    if not target.startswith("/") or ".." in target.split("/"):
        raise BundleError(item.at("destination"), "must be an absolute path without ..", SEE)
    options = item.texts("options")
    if kind not in _KINDS:
        raise BundleError(
            item.at("type"),
            f"{kind or 'bind'!r} is not supported, only {', '.join(_KINDS)}",
            "copy the files into the root filesystem instead",
        )
    source = item.take("source", str, kind)
    item.done()
    flags = 0
    for word in options:
        flags |= _FLAGS.get(word, 0)
        if word in ("bind", "rbind") or word.lstrip("r") in ("shared", "slave", "private", "unbindable"):
            raise BundleError(item.at("options"), f"{word!r} is not supported")
    data = ",".join(word for word in options if word not in _FLAGS)
    return Mount(source=source, target=target.rstrip("/"), kind=kind, flags=flags, data=data)


def _mask(names: tuple[str, ...], where: str) -> int:
    mask = 0
    for name in names:
        short = name.removeprefix("CAP_")
        if short == name or short not in CAPABILITIES:
            raise BundleError(where, f"unknown capability {name!r}", "see capabilities(7)")
        mask |= 1 << CAPABILITIES.index(short)
    return mask


def _capabilities(sets: Reader) -> tuple[int, int, int]:
    bounding, effective, permitted = (
        _mask(sets.texts(name), sets.at(name)) for name in ("bounding", "effective", "permitted")
    )
    sets.done()
    if effective & ~permitted:
        raise BundleError(sets.at("effective"), "holds capabilities that permitted lacks", "add them to permitted")
    if permitted != bounding or effective != permitted:
        # capabilities(7): exec as root grants the whole bounding set, whatever was permitted before.
        raise BundleError(sets.where, "bounding, effective and permitted differ", "make the three sets equal")
    return bounding, effective, permitted


def _namespaces(linux: Reader, *, hostname: str) -> frozenset[str]:
    names = set()
    for i, value in enumerate(linux.take("namespaces", list, [])):
        item = Reader(value, linux.at(f"namespaces[{i}]"))
        name = item.take("type", str)
        if name not in NAMESPACES:
            raise BundleError(item.at("type"), f"{name!r} is not supported, only {', '.join(NAMESPACES)}")
        item.done()
        names.add(name)
    if not names.issuperset(("mount", "pid")):
        raise BundleError(
            linux.at("namespaces"), "mount and pid are required", 'add {"type": "mount"} and {"type": "pid"}'
        )
    if hostname and "uts" not in names:
        raise BundleError("hostname", "would rename the host", 'add {"type": "uts"} to linux.namespaces')
    return frozenset(names)


def _cgroup(path: str) -> str:
    if ":" in path:
        raise BundleError("linux.cgroupsPath", f"{path!r} is for the systemd driver", "give a path: /group/name")
    return path.strip("/")


def _deny_devices(resources: Reader) -> bool:
    rules = resources.take("devices", list, [])
    if rules not in ([], [{"allow": False, "access": "rwm"}]):
        raise BundleError(
            resources.at("devices"),
            "only the rule that denies all is supported (the standard devices are always allowed)",
            'write [{"allow": false, "access": "rwm"}]',
        )
    return bool(rules)


def _limits(resources: Reader) -> tuple[int | None, int | None, float | None]:
    memory, pids, cpu = (resources.below(name, {}) for name in ("memory", "pids", "cpu"))
    resources.done()
    limit = memory.take("limit", int, -1)
    if memory.take("swap", int, limit) != limit:
        raise BundleError(memory.at("swap"), "only the value of limit is supported (no swap)", "make it equal to limit")
    tasks = pids.take("limit", int, -1)
    quota, period = cpu.take("quota", int, -1), cpu.take("period", int, CPU_PERIOD_US)
    for reader in (memory, pids, cpu):
        reader.done()
    if period <= 0:
        raise BundleError(cpu.at("period"), "must be positive", f"use {CPU_PERIOD_US}")
    return (
        limit if limit > 0 else None,
        tasks if tasks > 0 else None,
        quota / period if quota > 0 else None,
    )
