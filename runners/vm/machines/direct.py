"""A kernel and an initramfs that QEMU itself puts into the machine's memory; the root is there, too, or on a disk."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tare.runners.base import Mark, RunnerError, Spec
from tare.runners.guest import inside, workload
from tare.runners.image import modules
from tare.runners.image.initramfs import initramfs
from tare.runners.image.kernel import Kernel
from tare.runners.vm.connection import Hypervisor
from tare.runners.vm.domain import DirectBoot, Disk, command_line
from tare.runners.vm.machines import NOTHING, Further, Own, Recipe
from tare.runners.vm.machines.place import reachable
from tare.runners.vm.options import Wanted

#: Debian's cloud kernel 6.1 boots with this much, and not with 64 MiB.
LEAST_BYTES = 72 << 20
DEVICES = inside.Devices(disk="/dev/vda", link="eth0")


@contextmanager
def recipe(
    spec: Spec, wanted: Wanted, kernel: Kernel, hypervisor: Hypervisor, directory: Path, cache: Path, *, tap: bool,
    further: Further = NOTHING,
) -> Iterator[Recipe]:  # fmt: skip
    """What guests of *spec* start from; files that QEMU reads, and a daemon could not, are in *directory*."""
    with ExitStack() as stack:
        made: workload.Bootable | None = None
        disks: tuple[Disk, ...] = ()
        # Our init runs the payload, too, where that is not all that the machine holds.
        if spec.custom or wanted.boot == "direct-disk" or wanted.restored or wanted.network in ("tap", "user"):
            made = stack.enter_context(
                workload.assembled(
                    spec, machine(wanted, kernel, further), wanted.root, cache, networked=tap, tells=wanted.timeline
                )
            )
            image, words = made.initrd, command_line((inside.INIT,), (), told=wanted.timeline)
            if made.disk is not None:
                disks = (Disk(path=reachable(hypervisor, made.disk, directory), read_only=True),)
            disks += tuple(Disk(path=reachable(hypervisor, file, directory), read_only=True) for file in further.disks)
        else:
            drivers = added(wanted, kernel, cache)
            image = initramfs(cache, spec.rootfs, *drivers)
            argv = (modules.LOADER, *spec.argv) if drivers else spec.argv
            words = command_line(argv, spec.env, told=wanted.timeline)
        boot = DirectBoot(
            kernel=reachable(hypervisor, kernel.path, directory),
            initrd=reachable(hypervisor, image, directory),
            command_line=words,
        )

        @contextmanager
        def own(_name: str, _mark: Mark) -> Iterator[Own]:
            yield Own(boot=boot, disks=disks)

        manifest = {"cmdline.txt": f"{boot.command_line}\n"}
        if made is not None:
            manifest["argv.txt"] = shlex.join(spec.argv) + "\n"
        yield Recipe(
            own=own,
            shown=Own(boot=boot, disks=disks),
            by_hand=Own(boot=boot) if made is None else None,
            custom=made is not None,
            networked=made is not None and made.networked,
            asker=made.asker if made else None,
            system=inside.is_init(spec),
            manifest=manifest,
        )


def machine(wanted: Wanted, kernel: Kernel, further: Further = NOTHING) -> workload.Machine:
    """What guests with *kernel* have. One on QEMU's own network has the driver, and asks for an address itself."""

    balloon = () if wanted.balloon == "none" else modules.BALLOON
    driven = modules.NETWORK if wanted.network == "user" else ()
    return workload.Machine(
        devices=dataclasses.replace(DEVICES, ports=further.ports),
        least_bytes=LEAST_BYTES,
        modules=kernel.modules,  # a kernel of the user's own comes without
        always=(*balloon, *modules.CONTROL, *driven),
        for_network=modules.NETWORK,
        for_disk=modules.DISK,
    )


def added(wanted: Wanted, kernel: Kernel, cache: Path) -> tuple[Path, ...]:
    """What the initramfs of the payload has besides it, for a balloon. Raises RunnerError."""
    if wanted.balloon == "none":
        return ()
    if kernel.modules is None:
        raise RunnerError(
            "a balloon needs modules of the guest kernel",
            f"the kernel {kernel.path} was given, and there are no modules for it",
            "leave out the option kernel: the kernel from a package has modules",
        )
    return (modules.tree(kernel.modules, modules.BALLOON, cache),)
