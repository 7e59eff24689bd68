"""A workload of a user's becomes what a guest boots from.

That is an initramfs that tells its init what to do, and a disk if the image is too large for the guest's memory.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tare.runners.base import PREFIX, Image, RunnerError, Spec
from tare.runners.guest import inside
from tare.runners.image import modules
from tare.runners.image.rootfs import walk

#: Where the image lies: ``auto`` is in memory where it fits (:func:`most_bytes`), else on a disk.
Root = Literal["auto", "memory", "disk"]
ROOTS: tuple[Root, ...] = ("auto", "memory", "disk")
#: How short-lived directories of guests begin; the number of the process that made it follows, so that it can be
#: removed when that has ended (:mod:`runners.vm.leftovers`).
DIRECTORY_PREFIX = f"{PREFIX}vm-"

#: Of the grant: while the kernel unpacks an initramfs, memory holds both.
_SHARE = 4
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A kind of machine with one kernel: with how much memory that boots, and which modules drive its devices.

    The modules are files in ``modules`` (:func:`runners.image.modules.order`); None: all that is needed is built in, or
    the init says what is missing.
    """

    devices: inside.Devices
    least_bytes: int
    modules: Path | None
    always: tuple[str, ...] = ()
    for_network: tuple[str, ...] = ()
    for_disk: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootable:
    """``initrd`` and ``disk`` are files; the first is removed at the end of the run, the second stays in the cache."""

    initrd: Path
    disk: Path | None
    networked: bool
    asker: Path


def make_directory(place: Path) -> Path:
    """A new directory in *place*, this user's only; the caller removes it."""
    return Path(tempfile.mkdtemp(prefix=f"{DIRECTORY_PREFIX}{os.getpid()}-", dir=place))


def most_bytes(memory_bytes: int, least_bytes: int) -> int:
    """How large an image may be that is held in the memory of a guest with *memory_bytes*.

    *least_bytes* is what its kernel needs.
    """
    return max(0, min(memory_bytes // _SHARE, (memory_bytes - least_bytes) // 2))


@contextmanager
def assembled(
    spec: Spec, machine: Machine, root: Root, cache: Path, *, networked: bool | None = None, tells: bool = False
) -> Iterator[Bootable]:
    """What a guest of *spec* boots from. Raises RunnerError.

    It is *networked* where it has ports, if nothing is said; one that *tells* says how far it is.
    """
    on_disk = _on_disk(spec, machine, root)
    networked = bool(spec.ports) if networked is None else networked
    wanted = machine.always
    if networked:
        wanted += machine.for_network
    if on_disk:
        wanted += machine.for_disk
    files = modules.order(machine.modules, wanted) if machine.modules is not None else ()
    told = inside.description(
        spec, machine.devices, [file.name for file in files], on_disk=on_disk, networked=networked, tells=tells
    )
    disk = spec.image.shape("ext4") if on_disk else None
    image = None if on_disk else spec.image.shape("initramfs")
    asker = inside.asker(cache)
    directory = None
    try:
        try:
            directory = make_directory(cache)
            initrd = directory / "initrd.cpio"
            inside.write_initrd(initrd, image, told, files, cache, directory)
        except OSError as error:
            raise RunnerError(f"the initramfs of {spec.image.source} could not be written", str(error)) from error
        yield Bootable(initrd=initrd, disk=disk, networked=networked, asker=asker)
    finally:
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)


def _on_disk(spec: Spec, machine: Machine, root: Root) -> bool:
    if root == "disk":
        return True
    size = _size_bytes(spec.image)
    most = most_bytes(spec.memory_bytes, machine.least_bytes)
    if size <= most:
        return False
    if root == "memory":
        least = max(_SHARE * size, 2 * size + machine.least_bytes)
        disk = ', or give the option root = "disk"' if machine.devices.disk else ""
        raise RunnerError(
            f"the image {spec.image.source} is too large to be held in memory",
            f"{size / _MIB:.0f} MiB; {most / _MIB:.0f} fit into a guest of {spec.memory_bytes / _MIB:.0f} MiB",
            f"raise memory_mib to {-(-least // _MIB)}{disk}",
        )
    return True


def _size_bytes(image: Image) -> int:
    return sum(status.st_size for _, status in walk(image.directory) if stat.S_ISREG(status.st_mode))
