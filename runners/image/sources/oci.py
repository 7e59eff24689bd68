"""Images of layers in files: OCI layouts, as a directory or as one archive, and what ``docker save`` writes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tare.runners.image import kept
from tare.runners.image.archives import oci
from tare.runners.image.archives.blobs import Archive, Blobs, Folder
from tare.runners.image.archives.oci import Layered
from tare.runners.image.archives.stream import Budget, ImageRefused, Packed, Stream
from tare.runners.image.kept import Filled
from tare.runners.image.sources.base import Note, Source, a_file, hash_of, tagged
from tare.runners.image.tree import Tree

_PIECE = 256 << 10


def _layout(rest: str, cache: Path, note: Note) -> Tree:
    path, tag = tagged(rest, Path())
    if path.is_dir():
        return _make(oci.layout(Folder(path), tag[1:]), f"oci:{rest}", cache, note)
    return _from_archive("oci", oci.layout, path, tag, cache, note)


def _docker_archive(rest: str, cache: Path, note: Note) -> Tree:
    path, tag = tagged(rest, Path())
    return _from_archive("docker-archive", oci.docker_archive, path, tag, cache, note)


def _from_archive(
    word: str, read: Callable[[Blobs, str], Layered], path: Path, tag: str, cache: Path, note: Note
) -> Tree:
    """The image *tag* in the archive *path*, which may be packed as a whole."""
    source = f"{word}:{path}{tag}"
    if is_flat(a_file(path)):
        return _make(read(Archive(path), tag[1:]), source, cache, note)

    def fill(root: Path, scratch: Path) -> Filled:
        return filled(read(opened(path, scratch, note), tag[1:]), root, source, note)

    return kept.make(cache, f"{word}-{hash_of(path, note)}{re.sub('[:/]', '-', tag)}", source, fill)


def is_flat(file: Path) -> bool:
    """Whether *file* is a tar that is not packed (POSIX ustar: the word at byte 257)."""
    try:
        with file.open("rb") as stream:
            stream.seek(257)
            return stream.read(5) == b"ustar"
    except OSError as error:
        why = error.strerror or str(error)
        raise ImageRefused(f"cannot use the image {file}", why, "give a file that this user may read") from error


def opened(file: Path, scratch: Path, note: Note) -> Archive:
    """The members of *file*, unpacked into *scratch* where it is packed: they are read in an order of their own."""
    if is_flat(file):
        return Archive(file)
    size_bytes = file.stat().st_size
    packed = Packed(file, 0, size_bytes)
    try:
        stream = Stream(packed, Budget(str(file), size_bytes, lambda done: note(f"unpacking {file.name}", done)))
        with (scratch / "image.tar").open("wb") as out:
            while data := stream.read(_PIECE):
                out.write(data)
    finally:
        packed.close()
    return Archive(scratch / "image.tar")


def _make(layers: Layered, source: str, cache: Path, note: Note) -> Tree:
    """*layers* as an image that is kept by their digest: where they were does not count."""
    name = f"layers-{layers.identity.rpartition(':')[2][:16]}"
    return kept.make(cache, name, source, lambda root, _: filled(layers, root, source, note))


def filled(layers: Layered, root: Path, source: str, note: Note) -> Filled:
    """Fill the directory *root* with *layers*. Raises ImageRefused, OSError."""
    left_out = layers.unpack(str(root), source, lambda done: note(f"unpacking {source}", done))
    return Filled(layers.config, left_out)


def either(blobs: Blobs) -> Layered:
    """The only image in *blobs*, an OCI layout or what docker wrote. Raises ImageRefused."""
    return oci.layout(blobs) if blobs.find("oci-layout") else oci.docker_archive(blobs)


LAYOUT = Source(
    form="oci:PATH[:TAG]",
    meaning="an OCI layout, a directory or an archive: what `skopeo copy` and `podman save --format oci-archive` write",
    make=_layout,
    path=tagged,
)
DOCKER_ARCHIVE = Source(
    form="docker-archive:FILE[:TAG]", meaning="what `docker save` writes", make=_docker_archive, path=tagged
)
