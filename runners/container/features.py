"""What this runtime can do, as data: read from the tables that the parsers use, so that it stays true."""

from __future__ import annotations

from . import capabilities, hooks, mounts, seccomp
from .bundle import NAMESPACES


def structure(newest: str) -> dict[str, object]:
    """The features structure of the OCI specification (features.md); *newest* is the version of it known here."""
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": newest,
        "hooks": list(hooks.KINDS),
        "mountOptions": mounts.words(),
        "linux": {
            "namespaces": list(NAMESPACES),
            "capabilities": capabilities.names((1 << _last_capability() + 1) - 1),
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": _seccomp(),
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
    }


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        return min(int(file.read()), len(capabilities.CAPABILITIES) - 1)


def _seccomp() -> dict[str, object]:
    if seccomp.available():
        return {"enabled": False}
    return {
        "enabled": True,
        "actions": list(seccomp.ACTIONS),
        "operators": list(seccomp.OPERATORS),
        "archs": [f"SCMP_ARCH_{name}" for name in seccomp.ARCHITECTURES],
        "knownFlags": list(seccomp.FLAGS),
        "supportedFlags": list(seccomp.FLAGS),
    }
