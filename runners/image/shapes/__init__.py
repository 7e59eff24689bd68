"""The shapes of an image beside its directory, each made once and kept: one module each, and one line here.

A shape's file in the cache is named by all that is in it: the content, and what the digest leaves out of it (owners,
times, capabilities, what the image says of its workload). So two images that differ only in these are not mixed up.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from tare.runners.base import PREFIX, Image
from tare.runners.image import initramfs
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.image.cache import keep
from tare.runners.image.rootfs import walk
from tare.runners.image.shapes import disk, machine, oci, tar

#: Part of every name: raise it whenever the same image would give other bytes.
_FORMAT = 2

#: name -> what writes it to a path, given the image and the path of its shape ``tar``. ``docker-archive`` and
#: ``oci-archive`` are one file that says the same in both ways.
SHAPES: dict[str, Callable[[Image, str, Path, Path], None]] = {
    "oci-archive": oci.write,
    "docker-archive": oci.write,
}
TAR = "tar"


def _initramfs(tree: Path, target: Path) -> None:
    with target.open("xb") as stream:
        initramfs.write(stream, tree, owned=True)


#: name -> the end of the file's name, and what writes it out of the image's directory. An ``initramfs``, an ``ext4``
#: system and a whole ``machine`` are what a virtual machine boots from.
DIRECT: dict[str, tuple[str, Callable[[Path, Path], None]]] = {
    TAR: ("tar", tar.write),
    "initramfs": ("cpio", _initramfs),
    "ext4": ("ext4", disk.write),
    "machine": (f"machine{machine.FORMAT}.disk", machine.write),
}


def make(image: Image, name: str, cache: Path) -> Path:
    """The file that is *image* in the shape *name*, below *cache*. Raises RunnerError, ImageRefused."""
    if name not in (*DIRECT, *SHAPES):
        known = ", ".join((*DIRECT, *SHAPES))
        raise ImageRefused(
            f"the image {image.source} has no shape '{name}'", "there is no such shape", f"known: {known}"
        )
    if not image.digest:
        raise ImageRefused(
            f"the image {image.source} cannot be made a {name}",
            "it is not read as a whole, so nobody could tell when a copy of it is stale",
            "name an image of your own: dir:PATH, an archive, or debian:SUITE",
        )
    key = f"{image.digest}-{_rest(image)}"
    if name in DIRECT:
        return _direct(image, name, key, cache)
    layer, write = _direct(image, TAR, key, cache), SHAPES[name]
    return keep(cache, f"image-{key}.oci.tar", _closed(lambda path: write(image, _reference(key), layer, path)))


def _direct(image: Image, name: str, key: str, cache: Path) -> Path:
    suffix, write = DIRECT[name]
    build: Callable[[Path], None] = lambda path: write(image.directory, path)  # noqa: E731
    # What a virtual machine boots from, QEMU reads, which may be another user's.
    return keep(cache, f"image-{key}.{suffix}", _closed(build) if name == TAR else build)


def reference(archive: Path) -> str:
    """The name by which an engine knows what it loaded from *archive*, a shape: ``localhost/tare-image:...``."""
    return _reference(archive.name.removeprefix("image-").partition(".")[0])


def _closed(write: Callable[[Path], None]) -> Callable[[Path], None]:
    """*write*, to a file that other users cannot read: an image may hold what only some of its users may."""

    def build(path: Path) -> None:
        write(path)
        path.chmod(0o600)

    return build


def _reference(key: str) -> str:
    return f"localhost/{PREFIX}image:{key}"


def _rest(image: Image) -> str:
    """Sixteen hexadecimal digits over what the digest of *image* does not cover."""
    total = hashlib.sha256(repr((_FORMAT, image.config)).encode())
    for path, status in walk(image.directory):
        total.update(os.fsencode(path) + f"\0{status.st_uid} {status.st_gid} {int(status.st_mtime)}\0".encode())
        total.update(tar.capability(image.directory / path, status))
    return total.hexdigest()[:16]
