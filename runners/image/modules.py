"""Modules of the guest kernel: which ones a device needs, in which order, and a directory that loads them.

A distribution's kernel has virtio as modules, or has some of it built in (Debian 13's cloud kernel: the PCI bus). They
are unpacked from its package with the kernel, and added to the initramfs of machines with such a device; other machines
do not get larger.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from tare.runners.base import RunnerError
from tare.runners.image.cache import keep
from tare.runners.payload import compiled

#: The program that loads them and executes what follows it on the command line.
LOADER = "/load"
#: What a virtio balloon on a PCI bus needs, and what these need (:func:`order`).
BALLOON = ("virtio_pci", "virtio_balloon")
#: The same of a port for further commands, of a network device, and of a disk that is not to be written to.
CONTROL = ("virtio_pci", "virtio_console")
NETWORK = ("virtio_pci", "virtio_net")
DISK = ("virtio_pci", "virtio_blk", "ext4", "overlay")

_SOURCE = Path(__file__).with_name("load.c")
#: What is taken out of a package: all of virtio's own, and what drives its devices, with what that depends on.
_TAKEN = "|".join(
    (
        r"drivers/virtio/\w+",
        "drivers/block/virtio_blk",
        "drivers/char/virtio_console",
        "drivers/net/(?:virtio_net|net_failover)",
        "net/core/failover",
        "fs/overlayfs/overlay",
        "fs/(?:ext4/ext4|jbd2/jbd2|mbcache)",
        "lib/(?:crc16|libcrc32c)",
        "crypto/crc32c_generic",
    )
)
_FILE = re.compile(rf"\./(?:usr/)?lib/modules/[^/]+/kernel/(?P<path>{_TAKEN})\.ko(?P<packed>\.xz)?")
#: The package's list of what is in the kernel itself: one path of a module that is none on each line (kbuild).
_BUILT_IN = re.compile(r"\./(?:usr/)?lib/modules/[^/]+/modules\.builtin")
#: That list, beside the modules in the cache.
LIST = "modules.builtin"
#: A file beside it that says which selection of modules the cache has: raise it whenever :data:`_TAKEN` has more.
SELECTION, SELECTED = "selection", "2"
#: An entry of the section .modinfo: texts of the form KEY=VALUE, each with a NUL at its end (linux/moduleparam.h).
_DEPENDS = re.compile(rb"(?:^|\0)depends=(?P<names>[\w,-]*)\0")


def member(path: str, content: BinaryIO) -> tuple[str, bytes] | None:
    """Name and bytes of the module for a virtual machine's devices that *path* in a package is; None if it is none.

    Debian packs its modules from version 13 on, with xz.
    """
    match = _FILE.fullmatch(path)
    if match is None:
        return None
    data = content.read()
    return match["path"].rpartition("/")[2], lzma.decompress(data) if match["packed"] else data


def is_list(path: str) -> bool:
    """Whether *path* in a kernel's package says which modules are built in."""
    return _BUILT_IN.fullmatch(path) is not None


def built_in(directory: Path) -> frozenset[str]:
    """The names of what is built in, of all modules; none where the cache has no such list."""
    try:
        lines = (directory / LIST).read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return frozenset()
    # A module's name has underscores where its file's may have dashes (modprobe(8)).
    return frozenset(line.rpartition("/")[2].removesuffix(".ko").replace("-", "_") for line in lines)


def order(directory: Path, wanted: Sequence[str]) -> tuple[Path, ...]:
    """The files of *wanted* and all that they depend on, each after what it needs, without what is built in.

    *directory* has them as the cache has, or in the tree of a package. Raises RunnerError for one that is not there.
    """
    found: dict[str, Path] = {}
    present = built_in(directory)

    def add(name: str) -> None:
        if name in found or name.replace("-", "_") in present:
            return
        try:
            file = _file(directory, name)
            data = file.read_bytes()
        except OSError as error:
            raise RunnerError(
                f"the guest kernel has no module {name}",
                str(error),
                "run ./bootstrap, which takes the modules out of the kernel's package; leave the option kernel out",
            ) from error
        match = _DEPENDS.search(data)
        for needed in match["names"].decode().split(",") if match else ():
            if needed:
                add(needed)
        found[name] = file

    for name in wanted:
        add(name)
    return tuple(found.values())


def _file(directory: Path, name: str) -> Path:
    """See :func:`order`; the path that it would have in the cache where there is none."""
    flat = directory / f"{name}.ko"
    return flat if flat.exists() else next(directory.glob(f"kernel/**/{name}.ko"), flat)


def tree(directory: Path, wanted: Sequence[str], cache: Path) -> Path:
    """A directory below *cache* with :data:`LOADER` and *wanted* out of *directory*. Raises RunnerError."""
    files = order(directory, wanted)
    loader = compiled(_SOURCE, cache)
    parts = [loader.name.encode(), *(file.name.encode() + hashlib.sha256(file.read_bytes()).digest() for file in files)]
    digest = hashlib.sha256(b"".join(parts)).hexdigest()[:16]

    def build(root: Path) -> None:
        (root / "modules").mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, root / "modules" / file.name)
        (root / "modules" / "order").write_text("".join(f"{file.name}\n" for file in files))
        program = root / LOADER.lstrip("/")
        shutil.copyfile(loader, program)
        program.chmod(0o755)

    return keep(cache, f"modules-{digest}", build)
