"""Containers in virtual machines: the backend."""

from __future__ import annotations

import itertools
import json
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tare.runners import layers
from tare.runners.base import HOST, Layers, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.engines import podman
from tare.runners.guest import inside
from tare.runners.guest.workload import make_directory
from tare.runners.image import kept, sources
from tare.runners.launch import frame
from tare.runners.nested import podman as podman_inside
from tare.runners.nested import system
from tare.runners.nested.instance import NO_ADDRESS, Starter
from tare.runners.nested.machine import Machines, kept_name
from tare.runners.nested.options import OPTIONS, Runtime, read
from tare.runners.vm import backend as vm
from tare.runners.vm.machines import Further

LAYERS: Layers = ("vm", "container")
#: Emulated: a machine boots, and a container starts in it.
TYPICAL_S = 4.0
_BOOT_S, _CONTAINER_S = 3.0, 0.8
_WALLS = ("own kernel", *frame.WALLS, frame.DEVICE_RULES)
#: How many ports a machine has that are not of containers.
_OWN_PORTS = 2
_numbers = itertools.count(1)


def probe(options: Options, cache: Path) -> Support:
    """Whether a machine runs here (:func:`runners.vm.backend.probe`). What is to run in it, :func:`prepare` finds."""
    try:
        wanted = read(options)
    except RunnerError as error:
        return Support(ok=False, why=str(error), fix=error.fix)
    found = vm.probe(wanted.machine, cache)
    if not found.ok:
        return found
    if _cannot_be_made(wanted.system, cache):
        why = f"the system of its machines, {wanted.system}, is not made yet, and there is no mmdebstrap"
        return Support(ok=False, why=why, fix="apt-get install mmdebstrap", facts=found.facts)
    facts = {
        **found.facts,
        layers.PLACES: str(wanted.containers),
        "system": wanted.system,
        "network": f"none: {NO_ADDRESS}",
    }
    return Support(
        ok=True,
        version=f"{found.version}; {wanted.runtime} in it",
        accelerator=found.accelerator,
        walls=_WALLS if wanted.runtime != "podman" else ("own kernel", *podman.WALLS),
        reclaims="the balloon of its machine" if found.reclaims else "",
        enters=f"{wanted.runtime} exec, by a port of virtio-serial",
        images=(HOST,),
        facts=facts,
    )


def _cannot_be_made(source: str, cache: Path) -> bool:
    """Whether it needs a program that is not there, which :func:`prepare` would find out after a while."""
    if source.partition(":")[0] not in ("debian", "os") or shutil.which("mmdebstrap"):
        return False
    parts = set(source.split("+"))
    return all(set(one.record.source.split("+")) != parts for one in kept.every(cache))


def typical_s(options: Options, argv: tuple[str, ...]) -> float:
    """About how long one start and stop takes, emulated, in seconds, where many are started one after the other."""
    try:
        wanted = read(options)
    except RunnerError:
        return TYPICAL_S
    return _CONTAINER_S if wanted.keep else _CONTAINER_S + _BOOT_S / wanted.containers


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """Make the disks of a machine, and with keep = yes boot one. Raises RunnerError."""
    wanted = read(options, spec)
    if spec.image.source == HOST:
        why = "a machine has a root of its own, and no part of this host's"
        raise RunnerError("a container in a virtual machine cannot take the image host", why, sources.MAKE_ONE)
    image = sources.find(wanted.system, scratch.cache)
    system.check(image, wanted.runtime)
    with ExitStack() as stack:
        directory = make_directory(scratch.cache)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        asker = directory / "ask"  # a name that a reader knows, for a process that every container has
        asker.symlink_to(inside.asker(scratch.cache))
        kit = directory / "kit.ext4"
        system.write_kit(kit, spec, image, wanted.runtime, wanted.containers)
        machine = Spec(
            argv=("/bin/sh", "-c", system.script("setup", wanted.runtime)),
            image=image,
            memory_bytes=wanted.memory_bytes,
            cpus=wanted.cpus,
            env=(("PATH", system.PATH), ("HOME", "/root")),
            custom=True,
        )
        further = Further(disks=(kit, spec.image.shape("ext4")), ports=_OWN_PORTS + wanted.containers)
        prepared = stack.enter_context(vm.opened(machine, wanted.machine, scratch, further))
        machines = Machines(prepared.launch, wanted.containers, asker, keep=wanted.keep)
        stack.callback(machines.end)
        resident = [machines.booted(kept_name(scratch.prefix, next(_numbers)))] if wanted.keep else []
        pids = frozenset(one.guest.emulator_pid for one in resident)
        starter = Starter(machines, spec, wanted.runtime, pids)
        yield Prepared(
            launch=frame.launcher(starter.start),
            manifest={
                **prepared.manifest,
                **_asked(spec, wanted.runtime),
                "start.sh": system.script("start", wanted.runtime),
            },
            resident_pids=pids,
            resident_cgroups=frozenset(one.guest.cgroup for one in resident if one.guest.cgroup is not None),
            guest_bytes=wanted.memory_bytes,
            pause_s=prepared.pause_s,
        )


def _asked(spec: Spec, runtime: Runtime) -> dict[str, str]:
    """What the runtime is asked for, of the first place: its configuration, or podman's command line."""
    if runtime == "podman":
        return {"argv.txt": shlex.join(podman_inside.run(spec, system.place(1))) + "\n"}
    return {"config.json": json.dumps(system.configuration(spec, system.place(1)), indent=2) + "\n"}


def sweep() -> Sequence[str]:
    """See :func:`runners.vm.backend.sweep`."""
    return vm.sweep()


__all__ = ["LAYERS", "OPTIONS", "TYPICAL_S", "prepare", "probe", "sweep", "typical_s"]
