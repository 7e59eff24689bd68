"""What is measured. Each runner is one module; this table is the one line that a new runner adds."""

from __future__ import annotations

from tare.runners import registry
from tare.runners.base import Runner

#: Name in a scenario -> module, or module:object where one module drives several programs.
#: Imported only when asked for: a container-only host has no libvirt.
REGISTRY: dict[str, str] = {
    "null": "tare.runners.null",
    "process": "tare.runners.process",
    "container": "tare.runners.fork_server",
    "container-cold": "tare.runners.oci:TARE",
    "crun": "tare.runners.oci:CRUN",
    "runc": "tare.runners.oci:RUNC",
    "bwrap": "tare.runners.bwrap",
    "vm": "tare.runners.vm.backend",
}


def load(name: str) -> Runner:
    """Import the runner called *name*. Raises KeyError for a name that is not in :data:`REGISTRY`."""
    found: Runner = registry.find(REGISTRY[name])
    return found
