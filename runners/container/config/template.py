"""The configuration that ``tare-oci spec`` writes: a shell, with few rights as in runc's, to be edited."""

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
    # As runc's: whoever starts from it expects few rights, an image that stays as it is, and sees its cgroups.
    config["process"]["capabilities"] = {name: list(_CAPABILITIES) for name in ("bounding", "effective", "permitted")}
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}]
    config["root"]["readonly"] = True
    # And no filter: a tool that is tried in the container (unshare, mount) is told by the kernel what it may not.
    del config["linux"]["seccomp"]
    # And as runc's: with cgroup v1 it sees its place in the host's hierarchies, whoever adds a namespace.
    linux = config["linux"]
    if hierarchies.layout().mode != "v2":
        linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "cgroup"]
    if rootless:
        # One id of the caller's is all that needs no newuidmap; devpts cannot give its devices to group 5 then.
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
