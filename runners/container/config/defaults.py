"""The configuration that every container gets, whichever runtime reads it: what ``docker run`` would write."""

from __future__ import annotations

from collections.abc import Iterable

from ..cgroup.hierarchies import CPU_PERIOD_US
from ..seccomp.docker_profile import docker_profile

#: What ``docker run`` grants to root in a container since 2013: 14 of 41 (moby, oci/caps/defaults.go).
DOCKER_CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)
#: moby, oci/defaults.go.
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

#: moby, oci/namespaces.go; "cgroup" is docker's default only on a host with cgroup v2, and ours everywhere.
NAMESPACES = ("mount", "pid", "uts", "ipc", "network", "cgroup")

#: Enough for any payload of tare, and a limit for a fork bomb.
PIDS_LIMIT = 512


def default_config(
    *,
    argv: Iterable[str],
    env: Iterable[tuple[str, str]],
    rootfs: str,
    cgroup: str | None,
    memory_bytes: int,
    cpus: float,
    pids: int = PIDS_LIMIT,
    count_swap: bool = True,
    deny_devices: bool = True,
    cwd: str = "/",
    uid: int = 0,
    gid: int = 0,
    groups: Iterable[int] = (),
) -> dict[str, object]:
    """What ``docker run`` would configure: one dict, written as ``config.json`` for every runtime.

    *cgroup* is relative to the hierarchies' roots; None leaves cgroups and limits out. With *count_swap*, memory and
    swap together are limited to *memory_bytes* (needs swap accounting). With *deny_devices*, only the standard devices
    may be opened. A user other than root has no capability in force (moby, oci/caps/utils.go and daemon/oci_linux.go).
    """
    capabilities = list(DOCKER_CAPABILITIES)
    in_force = [] if uid else capabilities
    linux: dict[str, object] = {
        "namespaces": [{"type": name} for name in NAMESPACES],
        "maskedPaths": list(MASKED_PATHS),
        "readonlyPaths": list(READONLY_PATHS),
        "seccomp": seccomp(),
    }
    if cgroup is not None:
        linux["cgroupsPath"] = f"/{cgroup}"
        linux["resources"] = {
            "devices": [{"allow": False, "access": "rwm"}] if deny_devices else [],
            "memory": {"limit": memory_bytes} | ({"swap": memory_bytes} if count_swap else {}),
            "pids": {"limit": pids},
            "cpu": {"quota": round(cpus * CPU_PERIOD_US), "period": CPU_PERIOD_US},
        }
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": uid, "gid": gid} | ({"additionalGids": list(groups)} if groups else {}),
            "args": list(argv),
            "env": [f"{name}={value}" for name, value in env],
            "cwd": cwd,
            "capabilities": {"bounding": capabilities, "effective": in_force, "permitted": in_force},
            "noNewPrivileges": True,
        },
        "root": {"path": rootfs, "readonly": False},
        "hostname": "tare",
        "mounts": _default_mounts(),
        "linux": linux,
    }


def seccomp() -> dict[str, object]:
    """``linux.seccomp``: what docker's default profile makes of the capabilities above on this machine."""
    return docker_profile()


def _default_mounts() -> list[dict[str, object]]:
    def one(target: str, kind: str, *options: str, source: str = "") -> dict[str, object]:
        return {"destination": target, "type": kind, "source": source or kind, "options": list(options)}

    pts = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    return [
        one("/proc", "proc", "nosuid", "noexec", "nodev"),
        one("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        one("/dev/pts", "devpts", *pts),
        one("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k", source="shm"),
        one("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        one("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
    ]
