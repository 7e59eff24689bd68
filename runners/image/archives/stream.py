"""The bytes of an archive, unpacked as they are read: forward only, counted, hashed, and never more than is allowed.

What the compression is, the first bytes say, and not the name of the file.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from tare.runners.base import RunnerError

#: A larger image is no image but a mistake, or a bomb.
MOST_BYTES = 64 << 30
#: So many times its packed size may an archive become, beyond LEAST_BYTES. Real images reach 5, one file of zeros 1000.
MOST_TIMES = 100
LEAST_BYTES = 64 << 20
#: One header of an archive (a long name, PAX records) is read as a whole: no real one is nearly as large.
MOST_AT_ONCE = 1 << 20
_MOST_MEMORY = 256 << 20
_PIECE = 256 << 10
#: What those say that unpack. OSError: gzip's and bz2's word for a damaged file, and a file that cannot be read.
_DAMAGED = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, MemoryError)


class ImageRefused(RunnerError):  # noqa: N818 - a finding about an image
    """What was given is no image, or one that is not used: the user's input, and no fault of this host."""


class Readable(Protocol):
    """What has bytes."""

    def read(self, size: int, /) -> bytes:
        """At most *size* bytes; none at its end."""


class Budget:
    """How much may still come out of an archive of *packed_bytes* that is called *origin*.

    *note* is told each time, with the bytes so far.
    """

    def __init__(self, origin: str, packed_bytes: int, note: Callable[[int], object] = lambda _: None) -> None:
        self.origin = origin
        self._most = min(MOST_BYTES, max(LEAST_BYTES, MOST_TIMES * packed_bytes))
        self._packed_bytes = packed_bytes
        self._spent = self._holes = 0
        self._note = note

    def spend(self, size_bytes: int) -> None:
        """Count *size_bytes* that were unpacked. Raises ImageRefused."""
        self._spent += size_bytes
        self._note(self._spent)
        if self._spent + self._holes > self._most:
            self._refuse()

    def make_hole(self, size_bytes: int) -> None:
        """Count a file of *size_bytes* of which the archive need not have all. Raises ImageRefused."""
        self._holes += size_bytes
        if self._spent + self._holes > self._most:
            self._refuse()

    def _refuse(self) -> None:
        if self._most == MOST_BYTES:
            why = f"unpacked it is larger than {MOST_BYTES >> 30} GiB"
        else:
            why = f"it has {self._packed_bytes} bytes, and more than {self._most} unpacked: the ratio of a bomb"
        raise ImageRefused(
            f"the archive {self.origin} is not unpacked", why,
            "if you trust it, unpack it yourself and give the directory: dir:PATH",
        )  # fmt: skip


class Packed:
    """The bytes of a part of a file: *size_bytes* from *offset*, hashed as they are read."""

    def __init__(self, path: Path, offset: int, size_bytes: int, algorithm: str = "sha256") -> None:
        self._file = path.open("rb")
        self._file.seek(offset)
        self._left = size_bytes
        self._hash = hashlib.new(algorithm)

    def read(self, size: int = -1, /) -> bytes:
        """See :class:`Readable`; all that is left for a negative *size*."""
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        self._hash.update(data)
        return data

    def digest(self) -> str:
        """The hash over all of it, in hexadecimal digits: what was not read yet is read now."""
        while self.read(_PIECE):
            pass
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Stream:
    """The unpacked bytes of *packed*, as :mod:`tarfile` reads them. Raises ImageRefused for what is wrong in them."""

    def __init__(self, packed: Readable, budget: Budget) -> None:
        self._budget = budget
        self._at = 0
        self._hash = hashlib.sha256()
        self.last = b""  #: what was read last
        try:
            self._source = _unpacked(packed)
        except _DAMAGED as error:
            raise self.damaged(error) from error

    def read(self, size: int = -1) -> bytes:
        """At most *size* bytes; less at the end alone."""
        if not 0 <= size <= MOST_AT_ONCE:
            raise self.damaged(f"one of its headers says that it has {size} bytes")
        parts, left = [], size
        while left:
            try:
                part = self._source.read(left)
            except _DAMAGED as error:
                raise self.damaged(error) from error
            if not part:
                break
            parts.append(part)
            left -= len(part)
        self.last = b"".join(parts)
        self._at += len(self.last)
        self._hash.update(self.last)
        self._budget.spend(len(self.last))
        return self.last

    def tell(self) -> int:
        """How many bytes were read."""
        return self._at

    def seek(self, offset: int, _whence: int = 0) -> int:
        """Go on to *offset*; there is no way back, which no archive needs but one that is made to catch its reader."""
        if offset < self._at:
            raise self.damaged("one of its headers leads back to what was read before")
        while self._at < offset and self.read(min(_PIECE, offset - self._at)):
            pass
        return self._at

    def digest(self) -> str:
        """SHA-256 over all of it, in hexadecimal digits: what was not read yet is read now."""
        while self.read(_PIECE):
            pass
        return self._hash.hexdigest()

    def damaged(self, why: object) -> ImageRefused:
        """The error that says that this archive is damaged, and *why*."""
        said = str(why) or type(why).__name__
        return ImageRefused(f"the archive {self._budget.origin} is damaged", said, "make it again, or copy it again")


class _Xz:
    """xz and lzma with a limit of memory, which :mod:`lzma` has no file for; streams may follow one another."""

    def __init__(self, packed: Readable) -> None:
        self._packed = packed
        self._decompressor = self._new()

    def _new(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(memlimit=_MOST_MEMORY)

    def read(self, size: int, /) -> bytes:
        """See :class:`Readable`."""
        while True:
            data = b""
            if self._decompressor.eof:
                data = self._decompressor.unused_data.lstrip(b"\0") or self._packed.read(_PIECE).lstrip(b"\0")
                if not data:
                    return b""
                self._decompressor = self._new()
            elif self._decompressor.needs_input:
                data = self._packed.read(_PIECE)
                if not data:
                    raise EOFError("it ends in the middle")
            if out := self._decompressor.decompress(data, size):
                return out


class _Zstd:
    """zstd, which :mod:`zstandard` has a reader for; its error is derived from Exception alone."""

    def __init__(self, packed: Readable) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)  # type: ignore[arg-type]

    def read(self, size: int, /) -> bytes:
        """See :class:`Readable`."""
        try:
            return self._reader.read(size)
        except self._error as error:
            raise ValueError(str(error)) from error


def _unpacked(packed: Readable) -> Readable:
    """What unpacks *packed*, by its first bytes; it itself where they are of no compression."""
    whole = _Again(packed)
    start = whole.peek(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=whole, mode="rb")  # type: ignore[call-overload, no-any-return] # it only reads
    if start.startswith(b"BZh"):
        return bz2.BZ2File(whole)  # type: ignore[call-overload, no-any-return] # the same
    if start.startswith((b"\xfd7zXZ\x00", b"\x5d\x00\x00")):
        return _Xz(whole)
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return _Zstd(whole)
    return whole


class _Again:
    """A reader whose first bytes can be looked at before they are read."""

    def __init__(self, packed: Readable) -> None:
        self._packed = packed
        self._seen = b""

    def peek(self, size: int) -> bytes:
        self._seen = self._packed.read(size)
        return self._seen

    def read(self, size: int, /) -> bytes:
        if self._seen:
            data, self._seen = self._seen[:size], self._seen[size:]
            return data
        return self._packed.read(size)
