"""podman in a machine: its command lines. It takes the root that a start has made, so no image is loaded there."""

from __future__ import annotations

from tare.runners.base import Spec
from tare.runners.container.config.defaults import PIDS_LIMIT

#: All that it keeps is in memory. It unpacks nothing, so the driver of its storage is the one that needs nothing.
WORDS = (
    *("podman", "--root", "/run/podman/root", "--runroot", "/run/podman/run", "--tmpdir", "/run/podman/tmp"),
    *("--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs"),
)


def run(spec: Spec, where: str) -> tuple[str, ...]:
    """The command line of the container of *spec* in the place *where*; podman stays in the foreground."""
    own = f"/run/containers/{where}"
    memory = str(spec.memory_bytes)
    return (
        *(*WORDS, "run", "--rm", "--name", where, "--pidfile", f"{own}/pid", "--cgroup-parent", f"/{where}"),
        *("--network", "none", "--log-driver", "none", "--hostname", "tare", "--http-proxy=false", "--ulimit", "host"),
        *("--cgroupns", "private", "--security-opt", "no-new-privileges", "--workdir", spec.cwd, "--unsetenv-all"),
        *("--user", f"{spec.user.uid}:{spec.user.gid}"),
        *(word for group in spec.user.groups for word in ("--group-add", str(group))),
        *(word for name, value in spec.env for word in ("--env", f"{name}={value}")),
        *("--memory", memory, "--memory-swap", memory, "--cpus", str(spec.cpus), "--pids-limit", str(PIDS_LIMIT)),
        *("--rootfs", f"{own}/rootfs", *spec.argv),
    )
