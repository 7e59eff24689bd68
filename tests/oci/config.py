"""Configurations for the tests: what an engine writes for a container with ordinary isolation, as a dict to change."""

from __future__ import annotations

from typing import Any

#: Names under which busybox is in the root filesystem.
APPLETS = """
    awk cat chmod chown cp cut dd df echo env false find grep head hostname id ip kill ln ls mkdir mkfifo mknod
    mount mv od ping printf ps pwd readlink rm rmdir sed sh sleep sort stat stty tail test touch tr true tty
    umount unshare wc yes
""".split()

CAPABILITIES = (
    *("CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD"),
    *("CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"),
    "CAP_SYS_CHROOT",
)
NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
MASKED = ("/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/nothing-like-this")
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_PTS = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
_MOUNTS = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    ("/dev/pts", "devpts", "devpts", _PTS),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
)


def base(name: str) -> dict[str, Any]:
    """A container called *name*: six namespaces, docker's capabilities, a cgroup of its own, no limits."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": capabilities(*CAPABILITIES),
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "inside",
        "mounts": [
            {"destination": target, "type": kind, "source": source, "options": list(options)}
            for target, kind, source, options in _MOUNTS
        ],
        "linux": {
            "cgroupsPath": f"/{name}",
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
        },
    }


def capabilities(*names: str, ambient: bool = False) -> dict[str, list[str]]:
    """The sets that let a process have *names* and no others."""
    sets = ("bounding", "effective", "permitted", *(("inheritable", "ambient") if ambient else ()))
    return {kind: list(names) for kind in sets}


def with_user_namespace(config: dict[str, Any], *, first: int = 100_000, count: int = 65536) -> None:
    """Map *count* ids from 0 inside to *first* outside."""
    linux = config["linux"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = [{"containerID": 0, "hostID": first, "size": count}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": first, "size": count}]


def seccomp(action: str, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A profile with this default and these rules."""
    return {"defaultAction": action, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(rules), **more}
