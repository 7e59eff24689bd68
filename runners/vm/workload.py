"""A workload of a user's becomes what a guest boots from.

That is an initramfs that tells its init what to do, and a disk if the image is too large for the guest's memory.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tare.runners.base import Image, RunnerError, Spec
from tare.runners.image import modules
from tare.runners.image.kernel import Kernel
from tare.runners.image.rootfs import walk
from tare.runners.vm import inside
from tare.runners.vm.connection import make_directory

#: Where the image lies: ``auto`` is in memory where it fits (:func:`most_bytes`), else on a disk.
Root = Literal["auto", "memory", "disk"]
ROOTS: tuple[Root, ...] = ("auto", "memory", "disk")

#: Debian's cloud kernel 6.1 boots with this much, and not with 64 MiB.
LEAST_MEMORY_BYTES = 72 << 20
#: Of the grant: while the kernel unpacks an initramfs, memory holds both.
_SHARE = 4
_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootable:
    """``initrd`` and ``disk`` are files; the first is removed at the end of the run, the second stays in the cache."""

    initrd: Path
    disk: Path | None
    networked: bool
    asker: Path


def most_bytes(memory_bytes: int) -> int:
    """How large an image may be that is held in the memory of a guest with *memory_bytes*."""
    return max(0, min(memory_bytes // _SHARE, (memory_bytes - LEAST_MEMORY_BYTES) // 2))


@contextmanager
def assembled(
    spec: Spec, kernel: Kernel, root: Root, drivers: tuple[str, ...], cache: Path, *, networked: bool | None = None,
    driven: bool = False, tells: bool = False, mmio: bool = False,
) -> Iterator[Bootable]:  # fmt: skip
    """What a guest of *spec* boots from, with the modules *drivers*, too. Raises RunnerError.

    It is *networked* where it has ports, if nothing is said; one that is *driven* has the driver, and no address. One
    that *tells* says how far it is. *mmio*: its machine has no PCI.
    """
    on_disk = _on_disk(spec, root)
    networked = bool(spec.ports) if networked is None else networked
    wanted = (*drivers, *modules.CONTROL)
    if networked or driven:
        wanted += modules.NETWORK
    if on_disk:
        wanted += modules.DISK
    wanted = modules.on_mmio(wanted) if mmio else wanted
    # A kernel of the user's own comes without modules: they must be built in, or the init says what is missing.
    names = modules.order(kernel.modules, wanted) if kernel.modules is not None else ()
    files = [kernel.modules / f"{name}.ko" for name in names] if kernel.modules is not None else []
    told = inside.description(spec, [file.name for file in files], on_disk=on_disk, networked=networked, tells=tells)
    disk = spec.image.shape("ext4") if on_disk else None
    image = None if on_disk else spec.image.shape("initramfs")
    asker = inside.asker(cache)
    with ExitStack() as stack:
        try:
            directory = make_directory(cache)
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            initrd = directory / "initrd.cpio"
            inside.write_initrd(initrd, image, told, files, cache, directory)
        except OSError as error:
            raise RunnerError(f"the initramfs of {spec.image.source} could not be written", str(error)) from error
        yield Bootable(initrd=initrd, disk=disk, networked=networked, asker=asker)


def _on_disk(spec: Spec, root: Root) -> bool:
    if root == "disk":
        return True
    size = _size_bytes(spec.image)
    most = most_bytes(spec.memory_bytes)
    if size <= most:
        return False
    if root == "memory":
        least = max(_SHARE * size, 2 * size + LEAST_MEMORY_BYTES)
        raise RunnerError(
            f"the image {spec.image.source} is too large to be held in memory",
            f"{size / _MIB:.0f} MiB; {most / _MIB:.0f} fit into a guest of {spec.memory_bytes / _MIB:.0f} MiB",
            f'raise memory_mib to {-(-least // _MIB)}, or give the option root = "disk"',
        )
    return True


def _size_bytes(image: Image) -> int:
    return sum(status.st_size for _, status in walk(image.directory) if stat.S_ISREG(status.st_mode))
