"""Images with a name of the user's: what ``tare image import`` copied into the cache."""

from __future__ import annotations

import re
from pathlib import Path

from tare.runners.image import kept
from tare.runners.image.archives.blobs import Blobs, Folder
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.image.kept import Filled
from tare.runners.image.shapes import tar
from tare.runners.image.sources import archive, oci
from tare.runners.image.sources.base import Note, Source, a_file
from tare.runners.image.tree import Tree

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def _make(rest: str, cache: Path, _note: Note) -> Tree:
    _named(rest)

    def fill(_root: Path, _scratch: Path) -> Filled:
        names = [one.record.source.partition(":")[2] for one in kept.every(cache) if one.record.source[:6] == "image:"]
        known = f"; there are {', '.join(names)}" if names else ""
        raise ImageRefused(
            f"cannot use the image image:{rest}", f"nobody imported it{known}", f"tare image import FILE {rest}"
        )

    return kept.make(cache, f"named-{rest}", f"image:{rest}", fill)


def bring(path: Path, name: str, cache: Path, note: Note) -> Tree:
    """Keep what is at *path* as the image *name*: a directory, a tar, an OCI layout or an archive of docker.

    Raises RunnerError; of it ImageRefused where there is one of this name.
    """
    _named(name)
    if any(one.record.source == f"image:{name}" for one in kept.every(cache)):
        raise ImageRefused(f"there is an image image:{name} already", "", f"take another name, or tare image rm {name}")

    def fill(root: Path, scratch: Path) -> Filled:
        if path.is_dir() and not (path / "oci-layout").is_file():
            note(f"copying {path}", 0)
            tar.write(path, scratch / "copy.tar")
            return archive.unpack(scratch / "copy.tar", root, note)
        blobs: Blobs = Folder(path) if path.is_dir() else oci.opened(a_file(path), scratch, note)
        if blobs.find("oci-layout") or blobs.find("manifest.json"):
            return oci.filled(oci.either(blobs), root, str(path), note)
        return archive.unpack(path, root, note)

    return kept.make(cache, f"named-{name}", f"image:{name}", fill)


def _named(name: str) -> None:
    if not NAME.fullmatch(name):
        why = "a name has up to 63 small letters, digits and . _ -, and begins with a letter or a digit"
        raise ImageRefused(f"cannot name an image '{name}'", why, "take another name")


SOURCE = Source(form="image:NAME", meaning="what `tare image import` keeps under this name", make=_make)
