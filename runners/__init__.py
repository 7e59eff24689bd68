"""What is measured. Each runner is one module, and one line in this table."""

from __future__ import annotations

from collections.abc import Callable

from tare.runners import registry
from tare.runners.base import Options, Runner

#: Name in a scenario -> module, or module:object if one module runs several programs. A module is imported only when it
#: is used: a host for containers alone has no libvirt.
REGISTRY: dict[str, str] = {
    "null": "tare.runners.null",
    "process": "tare.runners.process",
    "container": "tare.runners.fork_server",
    "container-cold": "tare.runners.oci:TARE",
    "crun": "tare.runners.oci:CRUN",
    "runc": "tare.runners.oci:RUNC",
    "oci": "tare.runners.oci:ANY",
    "bwrap": "tare.runners.bwrap",
    "lxc": "tare.runners.engines.lxc",
    "nspawn": "tare.runners.engines.nspawn",
    "gvisor": "tare.runners.engines.gvisor:RUNNER",
    "uml": "tare.runners.engines.uml",
    "podman": "tare.runners.engines.podman",
    "docker": "tare.runners.engines.docker",
    "containerd": "tare.runners.engines.containerd",
    "vm": "tare.runners.vm.backend",
    "firecracker": "tare.runners.microvm.backend:FIRECRACKER_RUNNER",
    "cloud-hypervisor": "tare.runners.microvm.backend:CLOUD_HYPERVISOR_RUNNER",
    "nested": "tare.runners.nested.backend",
}


def load(name: str) -> Runner:
    """Import the runner called *name*. Raises KeyError for a name that is not in :data:`REGISTRY`."""
    found: Runner = registry.find(REGISTRY[name])
    return found


def typical_s(name: str, options: Options, argv: tuple[str, ...]) -> float:
    """A rough duration of start + stop of *argv* by the runner *name*, in seconds.

    A runner whose options make it another has a function ``typical_s(options, argv)`` beside its constant.
    """
    runner = load(name)
    told: Callable[[Options, tuple[str, ...]], float] | None = getattr(runner, "typical_s", None)
    return told(options, argv) if told else runner.TYPICAL_S
