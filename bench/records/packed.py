"""A run in one file, to be sent or kept: ``tare pack`` writes a zip, and every verb that takes a run reads zip and tar.

A packed file may come from anybody. Of what it holds, only plain files with plain names are unpacked, into an empty
directory of their own, and no more than :data:`MOST_BYTES` of them: it cannot write elsewhere, nor fill the disk.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

from tare.bench.errors import TareError, UsageError, unwritten
from tare.bench.records import files, inputs, store

#: What a packed file may hold, unpacked: more than a run of a million numbers.
MOST_BYTES = 1 << 30
MOST_FILES = 100_000
_CHUNK = 1 << 20
_TOO_LARGE = f"it is too large: tare unpacks at most {MOST_BYTES >> 20} MiB"
_NO_FILE = "it holds something else than files: {!r}"
_FIX = "pack it again with `tare pack RUN`"
_STREAMS: dict[bytes, Any] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
#: The earliest time that a zip can hold: the same run gives the same file.
_TIME = (1980, 1, 1, 0, 0, 0)


def within(path: Path) -> Path | None:
    """The file that *path* is or leads into (``runs.zip/NAME``); None where its parts are directories."""
    for one in (path, *path.parents):
        try:
            mode = one.stat().st_mode
        except (OSError, ValueError):
            continue
        return one if stat.S_ISREG(mode) else None
    return None


@contextmanager
def unpacked(file: Path, name: str = ".") -> Iterator[Path]:
    """The directory of the run in *file*, for as long as the block lasts.

    *name* is the run's folder, where there are several. Raises UsageError where *file* is no zip or tar, or holds no
    run, several runs or anything else than plain files, or too much. Errors that are raised inside, and name the
    directory, are made to name *file*.
    """
    scratch = Path(tempfile.mkdtemp(prefix="packed-run-"))
    files.half_written.add(scratch)
    place = scratch / (file.name.partition(".")[0] or "run")  # what the run is called whose files lie in no folder
    try:
        place.mkdir()
        _unpack(file, place)
        yield _run(file, place, name)
    except TareError as error:
        error.what, error.why, error.fix = (
            text.replace(str(place), str(file)) for text in (error.what, error.why, error.fix)
        )
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        files.half_written.discard(scratch)


def pack(run: Path) -> bytes:
    """A zip of *run*: its header, its rows, its logs and the configuration of its subjects; pages are not in it.

    Links are left out: whoever made the run could have them lead anywhere. Raises UsageError when *run* is none.
    """
    store.load_header(run)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in _files(run):
            info = zipfile.ZipInfo(f"{run.resolve().name}/{path.relative_to(run)}", _TIME)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
            archive.writestr(
                info, inputs.data(path, most=MOST_BYTES, fix="restore it, or become a user who may read it")
            )
    return data.getvalue()


def _files(run: Path) -> Iterator[Path]:
    """What of *run* is packed, without links and what lies behind them."""
    own = (run / name for name in (store.HEADER, store.SAMPLES, store.OUTCOMES))
    kept = (path for name in (store.LOGS, store.SUBJECTS) for path in sorted((run / name).rglob("*")))
    whole = run.resolve()
    for path in (*own, *kept):
        if path.is_file() and path.resolve() == whole / path.relative_to(run):
            yield path


def _run(file: Path, place: Path, name: str) -> Path:
    """The directory of the run among what was unpacked."""
    found = {str(path.parent.relative_to(place)): path.parent for path in sorted(place.glob(f"**/{store.HEADER}"))}
    if name in found:
        return found[name]
    names = ", ".join(f"{file}/{one}" for one in found)
    if name != ".":
        raise UsageError(f"{file}/{name} is not a run", "", f"it holds {names}" if found else _FIX)
    if len(found) > 1:
        raise UsageError(f"{file} holds {len(found)} runs", "", f"give one of them: {names}")
    if not found:
        raise UsageError(f"{file} holds no run", f"there is no {store.HEADER} in it", _FIX)
    return next(iter(found.values()))


def _unpack(file: Path, place: Path) -> None:
    """Write all files of *file* below *place*."""
    left, count = MOST_BYTES, 0
    with inputs.parsing(f"{file} cannot be unpacked", _FIX):
        for name, source in _members(file):
            target, count = place / _plain(name), count + 1
            if count > MOST_FILES:
                raise ValueError(f"it holds more than {MOST_FILES} files")
            try:
                left -= _copy(source, target, left)
            except OSError as error:
                raise unwritten(f"cannot unpack {name!r} of {file}", error, _FIX) from error
            if left < 0:
                raise ValueError(_TOO_LARGE)


def _copy(source: IO[bytes], target: Path, most: int) -> int:
    """Write *source* to the new file *target*, but one byte more than *most* at the most; how many bytes that were."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with target.open("xb") as file:
        while size <= most and (part := source.read(min(_CHUNK, most + 1 - size))):
            size += file.write(part)
    return size


def _plain(name: str) -> PurePosixPath:
    """*name*, if it leads nowhere but down."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"it names a place outside of itself: {name!r}")
    return path


def _members(file: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of each file in *file*, each to be read before the next."""
    with file.open("rb") as source:
        if zipfile.is_zipfile(source):
            yield from _zipped(source)
        else:
            source.seek(0)
            yield from _tarred(source)


def _zipped(source: BinaryIO) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(source) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                raise ValueError(_NO_FILE.format(info.filename))
            if info.flag_bits & 1:
                raise ValueError(f"it is encrypted: {info.filename!r}")
            with archive.open(info) as member:
                yield info.filename, member


def _tarred(source: BinaryIO) -> Iterator[tuple[str, IO[bytes]]]:
    begin = source.read(6)
    source.seek(0)
    opened = next((opener for magic, opener in _STREAMS.items() if begin.startswith(magic)), None)
    plain: IO[bytes] = opened(source) if opened else source
    try:
        # As a stream: names and sizes are read once, in their order, and never more than _Bounded lets through.
        with tarfile.open(fileobj=_Bounded(plain), mode="r|") as archive:
            for member in archive:
                if member.isdir():
                    continue
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    raise ValueError(_NO_FILE.format(member.name))
                yield member.name, content
    except tarfile.ReadError:
        raise ValueError("it is neither a zip nor a tar file") from None


class _Bounded(io.RawIOBase):
    """Reads no more than may be unpacked, whatever a header says of its size."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source, self._left = source, MOST_BYTES + (MOST_FILES << 10)

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= self._left:
            raise ValueError(_TOO_LARGE)
        part = self._source.read(size)
        self._left -= len(part)
        return part
