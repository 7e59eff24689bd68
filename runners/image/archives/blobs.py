"""Where the parts of an image are: files below a directory, or members of an archive that need not be unpacked."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tare.runners.image.archives.stream import Budget, ImageRefused, Packed, Stream
from tare.runners.image.archives.unpack import members

#: A JSON text of an image is some kilobytes.
_MOST_TEXT = 8 << 20
_MOST_LINKS = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of a file."""

    path: Path
    offset: int
    size_bytes: int

    def opened(self, algorithm: str = "sha256") -> Packed:
        """These bytes, from the first; hashed by *algorithm*."""
        return Packed(self.path, self.offset, self.size_bytes, algorithm)


class Blobs(Protocol):
    """The parts of an image by their names, such as ``index.json``."""

    origin: str

    def find(self, name: str) -> Place | None:
        """Where *name* is; None where there is none."""


class Folder:
    """Files below the directory *path*."""

    def __init__(self, path: Path) -> None:
        self.origin = str(path)
        self._path = path

    def find(self, name: str) -> Place | None:
        """See :class:`Blobs`."""
        if ".." in name.split("/") or name.startswith("/"):
            return None
        try:
            status = (self._path / name).stat()
        except (OSError, ValueError):
            return None
        return Place(self._path / name, 0, status.st_size) if stat.S_ISREG(status.st_mode) else None


class Archive:
    """Members of the tar *path*, which is not packed. Raises ImageRefused where it is no such file."""

    def __init__(self, path: Path) -> None:
        self.origin = str(path)
        self._path = path
        self._places: dict[str, Place] = {}
        self._links: dict[str, str] = {}
        size_bytes = path.stat().st_size
        packed = Packed(path, 0, size_bytes)
        try:
            for _, member in members(Stream(packed, Budget(self.origin, size_bytes))):
                name = member.name.removeprefix("./")
                if member.isreg() and not member.issparse():
                    self._places[name] = Place(path, member.offset_data, member.size)
                elif member.issym():  # docker before version 25 writes a layer once, and links to it
                    self._links[name] = _joined(name, member.linkname)
                elif member.islnk():
                    self._links[name] = member.linkname.removeprefix("./")
        finally:
            packed.close()

    def find(self, name: str) -> Place | None:
        """See :class:`Blobs`."""
        for _ in range(_MOST_LINKS):
            if name in self._places:
                return self._places[name]
            name = self._links.get(name, "")
        return None


def _joined(name: str, target: str) -> str:
    """Where a link *name* to *target* leads, as a name of the archive."""
    parts: list[str] = []
    for part in (*name.split("/")[:-1], *target.split("/")):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def text(blobs: Blobs, name: str) -> bytes:
    """The whole of *name*. Raises ImageRefused where it is missing, or no text of an image."""
    place = blobs.find(name)
    if place is None:
        raise incomplete(blobs, f"it has no {name}")
    if place.size_bytes > _MOST_TEXT:
        raise incomplete(blobs, f"its {name} has {place.size_bytes} bytes")
    packed = place.opened()
    try:
        return packed.read()
    except OSError as error:
        raise incomplete(blobs, f"its {name} cannot be read: {error.strerror}") from error
    finally:
        packed.close()


def incomplete(blobs: Blobs, why: str) -> ImageRefused:
    """The error that says that *blobs* are no image, and *why*."""
    return ImageRefused(f"{blobs.origin} is no image that can be used", why, "make it again, or copy it again")
