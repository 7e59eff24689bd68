"""A whole operating system on a disk, which firmware starts: the image with its own kernel, initramfs and boot loader.

The workload is its init, or a service of it. For the latter, and for a network and further commands, a second disk has
our program and what it is told; the system's udev starts it when it finds that disk
(:mod:`runners.image.shapes.machine`).
"""

from __future__ import annotations

import dataclasses
import shlex
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tare.runners.base import Mark, RunnerError, Spec
from tare.runners.guest import inside
from tare.runners.image.shapes import disk as filesystem
from tare.runners.image.shapes import machine
from tare.runners.vm.connection import Hypervisor
from tare.runners.vm.domain import Disk, Firmware, FirmwareBoot
from tare.runners.vm.machines import Own, Recipe, direct, place, provision
from tare.runners.vm.options import Provision, Wanted

#: (program of the firmware, its empty variables): Debian, Ubuntu, Fedora, Arch, openSUSE.
_OVMF = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin"),
)


@contextmanager
def recipe(spec: Spec, wanted: Wanted, hypervisor: Hypervisor, cache: Path, *, tap: bool) -> Iterator[Recipe]:
    """What guests of *spec* start from. Raises RunnerError."""
    if not spec.custom:
        raise RunnerError(
            "boot = disk cannot start the payload's image", "there is no operating system in it",
            "give it a workload whose image is one: os:bookworm",
        )  # fmt: skip
    image = spec.image.shape("machine")
    told = inside.description(spec, direct.DEVICES, networked=tap, command=not inside.is_init(spec))
    with ExitStack() as stack:
        work = stack.enter_context(place.stage(hypervisor, cache))
        base = Disk(path=place.reachable(hypervisor, image, work), bus=wanted.disk_bus, cache=wanted.disk_cache)
        seed = _seed(told, work, cache)
        disk = Booting(base, (seed,), wanted, work)
        yield Recipe(
            own=disk.own,
            shown=disk.shown,
            by_hand=disk.by_hand,
            custom=True,
            networked=tap,
            asker=inside.asker(cache),
            system=inside.is_init(spec),
            manifest={"argv.txt": shlex.join(spec.argv) + "\n"},
        )


class Booting:
    """Gives each instance a disk of its own, made from *base* in *directory*, beside what all share."""

    def __init__(self, base: Disk, shared: tuple[Disk, ...], wanted: Wanted, directory: Path) -> None:
        self._base, self._shared, self._wanted, self._directory = base, shared, wanted, directory
        self._variables = variables(wanted.firmware)

    @contextmanager
    def own(self, name: str, mark: Mark) -> Iterator[Own]:
        """The disk and the firmware's variables of the instance *name*. Raises RunnerError."""
        with own_disk(self._base, self._shared, self._wanted.provision, self._directory, self._variables, name) as own:
            mark("provisioned")
            yield own

    @property
    def shown(self) -> Own:
        """What one starts from; a name stands for its disk."""
        overlay = self._wanted.provision == "overlay"
        disk = dataclasses.replace(self._base, path=Path("DISK"), format="qcow2" if overlay else self._base.format)
        return Own(boot=self._firmware("VARIABLES"), disks=(disk, *self._shared))

    @property
    def by_hand(self) -> Own:
        """What starts from the disk that all are made from, without writing to it."""
        disk = dataclasses.replace(self._base, transient=True)
        return Own(boot=self._firmware("/tmp/tare-by-hand.fd"), disks=(disk,))

    def _firmware(self, kept: str) -> FirmwareBoot:
        if self._variables is None:
            return FirmwareBoot()
        program, empty = self._variables
        return FirmwareBoot(loader=program, variables=Path(kept), empty=empty)


@contextmanager
def own_disk(
    base: Disk,
    shared: tuple[Disk, ...],
    how: Provision,
    directory: Path,
    variables: tuple[Path, Path] | None,
    name: str,
) -> Iterator[Own]:
    """The disk and the firmware's variables of the instance *name*, removed at the end. Raises RunnerError.

    *variables* are the firmware's program, and those that are copied.
    """
    with ExitStack() as stack:
        target = directory / f"{name}.disk"
        stack.callback(target.unlink, missing_ok=True)
        disk = provision.provide(how, base, target)
        files = [target]
        boot = FirmwareBoot()
        if variables is not None:
            program, empty = variables
            kept = directory / f"{name}.fd"
            stack.callback(kept.unlink, missing_ok=True)
            shutil.copyfile(empty, kept)
            kept.chmod(0o600)
            files.append(kept)
            boot = FirmwareBoot(loader=program, variables=kept)
        made = sum(map(provision.allocated_bytes, files))
        yield Own(boot=boot, disks=(disk, *shared), files=tuple(files), made_bytes=made)


def variables(firmware: Firmware) -> tuple[Path, Path] | None:
    """The program of UEFI, and its empty variables; None for BIOS, which QEMU brings. Raises RunnerError."""
    if firmware == "bios":
        return None
    for program, empty in _OVMF:
        if Path(program).is_file() and Path(empty).is_file():
            return Path(program), Path(empty)
    raise RunnerError(
        "there is no UEFI firmware", f"none of {', '.join(one for one, _ in _OVMF)}", "apt-get install ovmf"
    )


def _seed(told: bytes, directory: Path, cache: Path) -> Disk:
    """A small file system with our program and what it is *told*."""
    tree = directory / "seed"
    inside.write_program(tree / machine.SEED, told, cache)
    target = directory / "seed.ext4"
    filesystem.write(tree, target)
    return Disk(path=target, read_only=True, serial=machine.SERIAL)
