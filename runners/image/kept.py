"""Images that were made once: each a directory of the cache with its files, and ``image.json``, which says what it is.

The directory is closed to other users: an image may hold setuid programs, and whoever made it need not be trusted.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tare.runners.base import ImageConfig, RunnerError
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.image.cache import keep
from tare.runners.image.rootfs import digest, walk
from tare.runners.image.tree import Tree

#: Raised when the same source gives another image, or its record has another form.
_FORMAT = 1
_RECORD, _FILES = "image.json", "rootfs"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """``image.json``.

    source: what it was made from, as a scenario says it
    digest: sixteen hexadecimal digits over its content
    config: what it says of its workload
    files: how many files and directories it has
    size_bytes: the sum of its files, each once
    left_out: how many devices of its archive were left out
    made_at: when it was made, in UTC
    """

    source: str
    digest: str
    config: ImageConfig = ImageConfig()
    files: int
    size_bytes: int
    left_out: int = 0
    made_at: str


@dataclass(frozen=True, slots=True)
class Kept:
    """An image that is kept at *path*, with the files that are further shapes of it."""

    path: Path
    record: Record
    shapes: tuple[Path, ...] = ()

    @property
    def directory(self) -> Path:
        """Its files."""
        return self.path / _FILES

    @property
    def disk_bytes(self) -> int:
        """What it takes of the disk, its other shapes among it."""
        blocks = sum(status.st_blocks for status in {(one.st_dev, one.st_ino): one for one in self._status()}.values())
        return 512 * blocks

    def _status(self) -> list[os.stat_result]:
        return [*(status for _, status in walk(self.path)), *(shape.stat() for shape in self.shapes)]

    def is_called(self, name: str, beside: Path) -> bool:
        """Whether *name* means it: its source, with a path from the directory *beside*, or the start of its digest."""
        if name == self.record.source or (len(name) >= 8 and self.record.digest.startswith(name)):
            return True
        word, colon, rest = name.partition(":")
        return bool(colon) and self.record.source == f"{word}:{(beside / rest).absolute()}"

    def sound(self) -> bool:
        """Whether its files are what they were when it was made."""
        return digest(self.directory) == self.record.digest


@dataclass(frozen=True, slots=True)
class Filled:
    """What whoever filled the directory of an image says of it."""

    config: ImageConfig = field(default_factory=ImageConfig)
    left_out: int = 0


def place(cache: Path) -> Path:
    """The directory below *cache* in which images are."""
    return cache / "images"


@contextmanager
def in_use(cache: Path, *, alone: bool = False) -> Iterator[None]:
    """Nobody removes an image of *cache* in the block; with *alone*, nobody else uses one. Raises RunnerError.

    The lock is on the directory itself (flock(2)), and goes with the process that holds it. A cache that this user
    cannot write to has no images that this user could make or remove.
    """
    path = place(cache)
    try:
        path.mkdir(parents=True, exist_ok=True)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if alone:
            raise RunnerError(f"the images in {path} cannot be removed", str(error), "set TARE_CACHE") from error
        yield
        return
    try:
        fcntl.flock(directory, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(directory)
        doing = "uses or makes" if alone else "removes"
        raise ImageRefused(
            f"the images in {path} are in use", f"another tare {doing} images there", "wait for it, or stop it"
        ) from None
    try:
        yield
    finally:
        os.close(directory)


def make(cache: Path, name: str, source: str, fill: Callable[[Path, Path], Filled]) -> Tree:
    """The image that is kept as *name*; where there is none, ``fill(root, scratch)`` makes it.

    *root* is an empty directory; *scratch* is one for further files, which goes away. Raises RunnerError.
    """
    # What root unpacked has its owners, what a user unpacked has none.
    full = f"{name}.{_FORMAT}" if os.geteuid() == 0 else f"{name}.{_FORMAT}u"

    def build(path: Path) -> None:
        path.mkdir(mode=0o700)
        root, scratch = path / _FILES, path / "scratch"
        root.mkdir()
        scratch.mkdir()
        try:
            filled = fill(root, scratch)
        except OSError as error:
            raise _not_made(source, cache, error) from error
        shutil.rmtree(scratch)
        found = walk(root)
        if not found:
            raise ImageRefused(f"the image {source} is empty", "there is no file in it", "correct what it is made from")
        sizes = {status.st_ino: status.st_size for _, status in found if stat.S_ISREG(status.st_mode)}
        record = Record(
            source=source,
            digest=digest(root),
            config=filled.config,
            files=len(found),
            size_bytes=sum(sizes.values()),
            left_out=filled.left_out,
            made_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        (path / _RECORD).write_bytes(msgspec.json.encode(record))

    path = keep(place(cache), full, build)
    record = _record(path)
    return Tree(source=source, digest=record.digest, directory=path / _FILES, cache=place(cache), config=record.config)


def every(cache: Path) -> list[Kept]:
    """All images that are kept, by their source. Raises RunnerError where the cache cannot be read."""
    found: list[Kept] = []
    try:
        names = sorted(place(cache).iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunnerError(f"the images in {place(cache)} cannot be read", str(error), "set TARE_CACHE") from error
    shapes = [path for path in names if path.is_file()]
    for path in names:
        if (path / _RECORD).is_file():
            record = _record(path)
            found.append(
                Kept(path, record, tuple(one for one in shapes if one.name.startswith(f"image-{record.digest}")))
            )
    return sorted(found, key=lambda one: one.record.source)


def remove(kept: Kept, *, shapes: bool) -> None:
    """Remove *kept*, and with *shapes* its further shapes. Raises OSError."""
    for path in kept.shapes if shapes else ():
        path.unlink(missing_ok=True)
    (kept.path / _RECORD).unlink(missing_ok=True)  # first: what is half removed is no image
    shutil.rmtree(kept.path)


def clear(cache: Path) -> list[str]:
    """Remove all that is in the directory of images, damaged and half-made ones, too; their names. Raises OSError."""
    left = sorted(place(cache).iterdir()) if place(cache).is_dir() else []
    for path in left:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [path.name for path in left]


def _record(path: Path) -> Record:
    try:
        return msgspec.json.decode((path / _RECORD).read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError) as error:
        raise RunnerError(f"the image in {path} is damaged", f"{_RECORD}: {error}", f"rm -r {path}") from error


def _not_made(source: str, cache: Path, error: OSError) -> RunnerError:
    """The error for an image that could not be written."""
    why = error.strerror or str(error)
    free = ""
    try:
        free = f"; {shutil.disk_usage(cache).free >> 20} MiB are free now that it is removed again"
    except OSError:
        pass
    return RunnerError(
        f"the image {source} cannot be written to the cache {cache}", f"{why}{free}",
        "make room there (`tare image rm` removes images), or set TARE_CACHE to another directory",
    )  # fmt: skip
