"""The options of the runner, as a scenario gives them, and as they are understood."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from tare.runners.base import Option, Options, RunnerError, Spec
from tare.runners.vm import options as machines

#: What starts a container in a machine: our own runtime, or one of the machine's system.
Runtime = Literal["tare-oci", "crun", "runc", "podman"]
RUNTIMES: tuple[Runtime, ...] = ("tare-oci", "crun", "runc", "podman")
#: Debian's packages that each needs.
PACKAGES: Mapping[Runtime, tuple[str, ...]] = {
    "tare-oci": ("libseccomp2", "python3"),
    "crun": ("crun",),
    "runc": ("runc",),
    "podman": ("conmon", "crun", "podman"),
}

#: QEMU's virtio-serial device has 31 ports, of which the first is a console's, and two are not of containers.
MOST_CONTAINERS = 28
_CONTAINERS = 10
#: What a machine has besides the grants of its containers: its kernel, its system, and buffers of its ports.
_SYSTEM_BYTES = 192 << 20
#: What podman takes besides: its own program and conmon stay with each container.
_PODMAN_BYTES, _PODMAN_EACH_BYTES = 128 << 20, 64 << 20
#: Less does not boot with a system that has a shell and a runtime.
_LEAST_MIB = 128
#: The options of a machine that are handed on.
_OF_MACHINES = ("accelerator", "kernel", "machine", "cpu", "hugepages", "balloon")

OPTIONS: Mapping[str, Option] = {
    "runtime": Option(
        "what starts a container in the machine: tare-oci (default), crun, runc, podman", choices=RUNTIMES
    ),
    "containers": Option(f"how many fit into one machine, 1 to {MOST_CONTAINERS}; default: {_CONTAINERS}"),
    "keep": Option(
        "no (default): a machine boots with its first container, and ends with its last; yes: one runs before any "
        "clock does, and each that is started stays to the end of the run",
        choices=("no", "yes"),
    ),
    "system": Option(
        "the image that a machine boots, as `tare image build` takes it; default: Debian of the host's suite with what "
        "the runtime needs"
    ),
    "machine_memory_mib": Option(
        f"the memory of a machine; default: the grant of each container, and {_SYSTEM_BYTES >> 20} MiB; podman: more"
    ),
    "machine_cpus": Option(
        "the processors of a machine; default: the grant of each container, but no more than the host's"
    ),
    **{name: machines.OPTIONS[name] for name in _OF_MACHINES},
    # A machine without PCI counts its disks in another order.
    "machine": Option("QEMU's machine type; default: q35", choices=("q35", "pc")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options, read; ``machine`` are those of the runner ``vm``."""

    runtime: Runtime
    containers: int
    keep: bool
    system: str
    memory_bytes: int
    cpus: int
    machine: Options


def read(options: Options, spec: Spec | None = None) -> Wanted:
    """*options*, understood, of machines for containers of *spec*. Raises RunnerError for one that cannot be used."""
    for name, value in options.items():
        if name not in OPTIONS or not isinstance(value, str):
            known = ", ".join(OPTIONS)
            raise RunnerError(f"the option {name} = {value!r} cannot be used", f"known, each a text: {known}")
        if OPTIONS[name].choices and value not in OPTIONS[name].choices:
            raise RunnerError(f"there is no {name} {value!r}", f"known: {', '.join(OPTIONS[name].choices)}")
    given = cast(Mapping[str, str], options)
    runtime = cast(Runtime, given.get("runtime", "tare-oci"))
    containers = _number(given, "containers", _CONTAINERS, most=MOST_CONTAINERS)
    grant_bytes, cpus = (spec.memory_bytes, spec.cpus) if spec else (0, 1)
    more, each = (_PODMAN_BYTES, _PODMAN_EACH_BYTES) if runtime == "podman" else (0, 0)
    memory_mib = (containers * (grant_bytes + each) + _SYSTEM_BYTES + more) >> 20
    machine = {name: given[name] for name in _OF_MACHINES if name in given}
    wanted = Wanted(
        runtime=runtime,
        containers=containers,
        keep=given.get("keep") == "yes",
        system=given.get("system", "+".join((f"debian:{_suite()}", *PACKAGES[runtime]))),
        memory_bytes=_number(given, "machine_memory_mib", memory_mib, least=_LEAST_MIB) << 20,
        cpus=_number(given, "machine_cpus", min(containers * cpus, os.cpu_count() or 1)),
        machine={**machine, "boot": "direct-disk", "network": "none", "timeline": "no"},
    )
    machines.read(wanted.machine)
    return wanted


def _number(given: Mapping[str, str], name: str, usual: int, *, least: int = 1, most: int | None = None) -> int:
    if name not in given:
        return usual
    text = given[name]
    if not text.isascii() or not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        raise RunnerError(f"the option {name} = {text!r} cannot be used", f"it is a number: {bounds}")
    return int(text)


def _suite() -> str:
    """The suite of this host's Debian; on another host, one that is in every Debian archive's mirror."""
    try:
        host = platform.freedesktop_os_release()
    except OSError:
        host = {}
    return host.get("VERSION_CODENAME", "stable") if host.get("ID") == "debian" else "stable"
