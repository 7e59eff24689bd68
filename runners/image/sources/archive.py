"""An image from a tar, packed or not: what ``podman export``, ``debootstrap`` and ``tar`` make."""

from __future__ import annotations

from pathlib import Path

from tare.runners.image import kept
from tare.runners.image.archives.stream import Budget, ImageRefused, Packed, Stream
from tare.runners.image.archives.unpack import Unpacker
from tare.runners.image.kept import Filled
from tare.runners.image.sources.base import Note, Source, a_file, hash_of, whole
from tare.runners.image.tree import Tree


def _make(rest: str, cache: Path, note: Note) -> Tree:
    file = a_file(Path(rest))

    def fill(root: Path, _scratch: Path) -> Filled:
        return unpack(file, root, note)

    return kept.make(cache, f"tar-{hash_of(file, note)}", f"tar:{rest}", fill)


def unpack(file: Path, root: Path, note: Note) -> Filled:
    """Fill the directory *root* from the tar *file*. Raises ImageRefused, OSError."""
    size_bytes = file.stat().st_size
    packed = Packed(file, 0, size_bytes)
    budget = Budget(str(file), size_bytes, lambda done: note(f"unpacking {file.name}", done))
    unpacker = Unpacker(str(root), budget)
    try:
        stream = Stream(packed, budget)
        unpacker.add(stream)
        stream.digest()  # to its end, where a packed file has its checksum
    finally:
        packed.close()
    unpacker.finish()
    for name, word in (("oci-layout", "oci"), ("manifest.json", "docker-archive")):
        if (root / name).is_file() and not (root / "bin").exists() and not (root / "usr").exists():
            raise ImageRefused(
                f"the archive {file} holds an image, and is none itself", f"there is a file {name} in it",
                f"write {word}:{file}",
            )  # fmt: skip
    return Filled(left_out=unpacker.left_out)


SOURCE = Source(
    form="tar:FILE", meaning="a tar of a root filesystem, packed (gzip, bzip2, xz, zstd) or not", make=_make, path=whole
)
