"""Smaller parts of the object ``linux`` of a configuration: devices, kernel parameters, clocks, personality."""

from __future__ import annotations

from ..light.dataclasses import record
from ..reader import SEE, BundleError, Reader
from .mounts import from_root
from .process import number

#: time_namespaces(7)
_CLOCKS = ("monotonic", "boottime")
#: personality(2)
_DOMAINS = {"LINUX": 0, "LINUX32": 8}
#: Kernel parameters that belong to a namespace (namespaces(7)): start of the path -> namespace. All others belong to
#: the host.
_SYSCTLS = {
    "net/": "network",
    "fs/mqueue/": "ipc",
    "kernel/shm": "ipc",
    "kernel/msg": "ipc",
    "kernel/sem": "ipc",
    "kernel/domainname": "uts",
    "user/": "user",
}
_PROC_SYS = "/proc/sys/"
DOMAINNAME = f"{_PROC_SYS}kernel/domainname"
_DEVICE_KINDS = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}  # S_IFCHR, S_IFBLK, S_IFIFO


@record(kw_only=True)
class Device:
    """A device node: *mode* holds kind and permissions, as for mknod(2)."""

    path: str
    mode: int
    major: int
    minor: int
    uid: int
    gid: int


def time_offsets(linux: Reader, namespaces: dict[str, str]) -> tuple[tuple[str, int, int], ...]:
    """(clock, seconds, nanoseconds): how far a new time namespace is ahead of the host. Raises BundleError."""
    found = []
    offsets = linux.below("timeOffsets", {})
    for clock in offsets.left():
        if clock not in _CLOCKS:
            why = "is not a clock that a time namespace can have of its own"
            raise BundleError(offsets.at(clock), why, f"use {' or '.join(_CLOCKS)}")
    for clock in _CLOCKS:
        item = offsets.below(clock, {})
        seconds = number(item, "secs", 0, low=-(1 << 40), high=1 << 40)
        rest_ns = number(item, "nanosecs", 0, high=999_999_999)
        item.done()
        if seconds or rest_ns:
            found.append((clock, seconds, rest_ns))
    offsets.done()
    if found and namespaces.get("time") != "":
        raise BundleError(offsets.where, "need a new time namespace", 'add {"type": "time"} to linux.namespaces')
    return tuple(found)


def devices(linux: Reader) -> tuple[Device, ...]:
    """The device nodes in addition to the standard ones. Raises BundleError."""
    found = []
    for item in linux.each("devices"):
        path, kind = item.take("path", str), item.take("type", str)
        if kind not in _DEVICE_KINDS:
            raise BundleError(item.at("type"), f"{kind!r} is not a kind of device", "use c, b, u or p")
        path = from_root(path) if path.startswith("/") and "\0" not in path else ""
        if path in ("", "/"):
            raise BundleError(item.at("path"), "must be an absolute path of a file", SEE)
        numbers = [number(item, key, 0 if kind == "p" else None, high=(1 << 20) - 1) for key in ("major", "minor")]
        mode = number(item, "fileMode", 0o666, high=0o177777) & 0o7777
        uid, gid = number(item, "uid", 0), number(item, "gid", 0)
        item.done()
        found.append(
            Device(path=path, mode=mode | _DEVICE_KINDS[kind], major=numbers[0], minor=numbers[1], uid=uid, gid=gid)
        )
    return tuple(found)


def sysctls(linux: Reader, namespaces: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """(path, value) of kernel parameters of the container's namespaces. Raises BundleError for those of the host."""
    found = []
    for name, value in linux.pairs("sysctl").items():
        where = f"{linux.at('sysctl')}.{name}"
        path = _sysctl_path(name)
        kind = sysctl_namespace(f"{_PROC_SYS}{path}")
        if path == "kernel/hostname":
            raise BundleError(where, "is the container's name", "set hostname instead")
        if not kind or "\0" in name or {"", ".", ".."} & {*path.split("/")}:
            raise BundleError(
                where,
                "is not in any namespace of the container: it is of the whole host, or unknown to this kernel",
                "set it on the host",
            )
        if kind not in namespaces:
            raise BundleError(
                where, f"would change the host's {kind} namespace", f'add {{"type": "{kind}"}} to linux.namespaces'
            )
        found.append((f"{_PROC_SYS}{path}", value))
    return tuple(found)


def _sysctl_path(name: str) -> str:
    """sysctl(8): the first dot or slash in the name is the separator; the other one then stands for it in a part."""
    first = next((letter for letter in name if letter in "./"), "/")
    if first == "/":
        return name.strip("/")
    return name.translate({ord("."): "/", ord("/"): "."})


def sysctl_namespace(path: str) -> str:
    """The kind of namespace to which the kernel parameter at *path* belongs; "" if it belongs to the whole host."""
    name = path.removeprefix(_PROC_SYS)
    return next((kind for start, kind in _SYSCTLS.items() if name.startswith(start)), "")


def personality(item: Reader) -> int:
    """The argument of personality(2). Raises BundleError."""
    domain, flags = item.take("domain", str), item.texts("flags")
    item.done()
    if flags:  # the specification has no flags yet
        item.warn("flags", f"{' '.join(flags)} are not known here and are ignored")
    if domain not in _DOMAINS:
        raise BundleError(item.at("domain"), f"unknown domain {domain!r}", f"use one of {', '.join(_DOMAINS)}")
    return _DOMAINS[domain]
