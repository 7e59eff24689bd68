"""The configuration that ``tare-oci spec`` writes, to be edited: a shell with few rights, as runc's."""

from __future__ import annotations

import os

from ..cgroup import hierarchies
from .defaults import default_config

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")


def specimen(*, rootless: bool) -> dict[str, object]:
    """A ``config.json`` for the root filesystem in ``rootfs``; with *rootless*, for the calling user."""
    config: dict[str, Any] = default_config(
        argv=["sh"],
        env=[("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("TERM", "xterm")],
        rootfs="rootfs",
        cgroup=None,
        memory_bytes=0,
        cpus=0,
    )
    config["process"]["terminal"] = True
    # As runc's: users expect few rights, a read-only root, and mounts of the cgroups.
    config["process"]["capabilities"] = {name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted")}
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}]
    config["root"]["readonly"] = True
    # And no filter: for a tool that is tried in the container (unshare, mount), the kernel decides.
    del config["linux"]["seccomp"]
    # And as runc's: with cgroup v1, the container sees its path in the host's hierarchies.
    linux = config["linux"]
    if hierarchies.layout().mode != "v2":
        linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "cgroup"]
    if rootless:
        # One id, the caller's own, needs no newuidmap. Then devpts cannot give its devices to group 5.
        linux["namespaces"].append({"type": "user"})
        for key, number in (("uidMappings", os.geteuid()), ("gidMappings", os.getegid())):
            linux[key] = [{"containerID": 0, "hostID": number, "size": 1}]
        for mount in config["mounts"]:
            mount["options"] = [word for word in mount["options"] if word != "gid=5"]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
        options = ["nosuid", "noexec", "nodev", "relatime", "ro"]
        config["mounts"].append(
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options}
        )
    return config
