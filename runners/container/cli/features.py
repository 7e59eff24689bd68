"""What this runtime can do, as data: read from the tables that the parsers use, so that it stays true."""

from __future__ import annotations

from ..config import hooks, mounts
from ..config.bundle import NAMESPACES
from ..linux import capabilities
from ..seccomp import filters

#: The annotations that engines ask for by name.
_ANNOTATIONS = {"org.opencontainers.runc.checkpoint.enabled": "false"}


def structure(newest: str) -> dict[str, object]:
    """The features structure of the OCI specification (features.md); *newest* is the version of it known here.

    It says what this program can do, not what the host allows.
    """
    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": newest,
        "hooks": list(hooks.KINDS),
        "mountOptions": mounts.words(),
        "linux": {
            "namespaces": list(NAMESPACES),
            "capabilities": [f"CAP_{name}" for name in capabilities.CAPABILITIES],
            "cgroup": {"v1": True, "v2": True, "systemd": False, "systemdUser": False, "rdma": False},
            "seccomp": {
                "enabled": True,
                "actions": list(filters.ACTIONS),
                "operators": list(filters.OPERATORS),
                "archs": [f"SCMP_ARCH_{name}" for name in filters.ARCHITECTURES],
                "knownFlags": list(filters.FLAGS),
                "supportedFlags": list(filters.FLAGS),
            },
            "apparmor": {"enabled": False},
            "selinux": {"enabled": False},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": True}},
        },
        "annotations": _ANNOTATIONS,
        "potentiallyUnsafeConfigAnnotations": [],
    }
