"""Run directories, written so that nothing measured is lost. Their layout is described in :mod:`bench.records`.

Each trial's rows go to the kernel in one write(2) before the next trial begins, so that a killed run keeps all its
finished trials. Where the disk is full, what was begun is taken back, and the header still gets its end: over the old
one, in the blocks that that has.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import string
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tare.bench.errors import InvalidError, TareError, UsageError, unwritten
from tare.bench.records import files
from tare.bench.records.header import RunHeader
from tare.bench.records.metrics import misfit
from tare.bench.records.rows import Outcome, Record, Sample
from tare.bench.records.store import HEADER, LOGS, OUTCOMES, SAMPLES, SUBJECTS, load_header, row_bytes

OUTPUT = "output.log"
#: From this size on, the log of what a subject's instances said is left as it is.
_OUTPUT_BYTES = 1 << 18

#: What stands for itself in :func:`file_name`, and how much of a long name: of the 255 bytes of a file name some are
#: for an ending, and for the time and the token of a run.
_PLAIN = frozenset(f"{string.ascii_lowercase}{string.digits}._+-")
_NAME_CHARS = 160


class RunWriter:
    """Appends to one run directory. Use as a context manager.

    Its methods raise OutputError where the disk is full or broken, UsageError where it may not be written. Nothing
    half-written stays then, and what was written before can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._samples = _open_append(path / SAMPLES)
            try:
                self._outcomes = _open_append(path / OUTCOMES)
            except OSError:
                os.close(self._samples)
                raise
        except OSError as error:
            raise self._stopped(path, error) from error

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._samples)
        os.close(self._outcomes)

    def header(self, header: RunHeader) -> None:
        """Replace run.json atomically: a reader sees the old one or the new one, never a part."""
        file, data = self.path / HEADER, msgspec.json.encode(header)
        try:
            files.replace(file, msgspec.json.format(data, indent=1) + b"\n")
        except OSError as error:
            if self._end_without_room(file, header, data):
                return
            if not file.exists():  # without a header it is no run: nothing was measured
                shutil.rmtree(self.path, ignore_errors=True)
            raise self._stopped(file, error) from error

    def trial(self, samples: Iterable[Sample], outcome: Outcome) -> None:
        """Append one trial: its samples first, then the outcome that makes them count.

        Raises InvalidError, and writes nothing, when a sample is not in the unit of its metric.
        """
        rows = tuple(samples)
        for row in rows:
            if why := misfit(row.metric, row.unit):
                raise InvalidError(
                    f"trial {row.trial} has a number in a wrong unit", why, "this is an error in tare; please report it"
                )
        before = os.fstat(self._samples).st_size
        try:
            _append(self._samples, rows)
            _append(self._outcomes, (outcome,))
        except OSError as error:
            os.ftruncate(self._samples, before)
            raise self._stopped(self.path / OUTCOMES, error) from error

    def log(self, trial: str, text: str) -> str:
        """Keep the console of a trial; return the path to put into its outcome."""
        relative = Path(LOGS, f"{file_name(trial)}.log")
        self._keep(relative, text)
        return str(relative)

    def output(self, subject: str, trial: str, console: str) -> None:
        """Add to the subject's log what it said besides its marks, as long as the log has room for it."""
        said = [line for line in console.splitlines() if line.strip() and not line.startswith("tare ")]
        file = self.path / SUBJECTS / file_name(subject) / OUTPUT
        if said and (not file.exists() or file.stat().st_size < _OUTPUT_BYTES):
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("a", encoding="utf-8", errors="backslashreplace") as log:
                    log.write(f"{trial}\n" + "".join(f"    {line}\n" for line in said))
            except OSError as error:
                raise self._stopped(file, error) from error

    def manifest(self, subject: str, files: dict[str, str]) -> tuple[str, ...]:
        """Keep the exact configuration of a subject; return the relative paths."""
        folder = Path(SUBJECTS, file_name(subject))
        for name, text in files.items():
            self._keep(folder / name, text)
        return tuple(str(folder / name) for name in files)

    def _keep(self, relative: Path, text: str) -> None:
        file = self.path / relative
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            file.unlink(missing_ok=True)
            raise self._stopped(file, error) from error

    def _end_without_room(self, file: Path, header: RunHeader, data: bytes) -> bool:
        """Say in the blocks of the old header how the run ended: the whole new one if it fits, else state and time."""
        if header.state == "running" or not file.exists():
            return False
        if files.write_over(file, data):
            return True
        old = load_header(self.path)
        ended = msgspec.structs.replace(old, state=header.state, finished_at=header.finished_at, leaks=header.leaks)
        return files.write_over(file, msgspec.json.encode(ended))

    def _stopped(self, file: Path, error: OSError) -> TareError:
        found = unwritten(f"cannot write {file}", error, "make its directory writable")
        found.fix = f"{found.fix.partition(';')[0]}; then `tare run --resume {shlex.quote(str(self.path))}`"
        return found


def create(results: Path, name: str) -> Path:
    """Make the empty directory ``results/name``. Raises UsageError when it exists or cannot be written."""
    path = results / name
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"{path} exists already", "", "run again: every run gets a directory of its own") from None
    except OSError as error:
        raise unwritten(
            f"cannot make the run directory {path}", error, "give a directory that you may write to: --results DIR"
        ) from None
    return path


def trim(path: Path) -> None:
    """Cut the torn last line that a killed run left, so that appending gives whole lines again."""
    for name in (SAMPLES, OUTCOMES):
        file = path / name
        try:
            data = row_bytes(file)
            if data and not data.endswith(b"\n"):
                os.truncate(file, data.rfind(b"\n") + 1)
        except OSError as error:
            raise unwritten(f"cannot write {file}", error, "run this as the user who made the run") from error


def file_name(text: str) -> str:
    """*text* as a harmless file name: another one for each text, also where upper and lower case are the same.

    Small letters, digits and ``. _ + -`` stand for themselves, every other byte is ``%XX`` as in a URL (RFC 3986, 2.1),
    a dot at the beginning, too. A name too long for a file ends in a digest of the whole.
    """
    raw = text.encode("utf-8", "surrogatepass")
    name = "".join(chr(byte) if chr(byte) in _PLAIN else f"%{byte:02x}" for byte in raw)
    if name.startswith("."):
        name = f"%2e{name[1:]}"
    if len(name) > _NAME_CHARS:
        # "~" is no plain letter, so no shorter text has this name.
        name = f"{name[:_NAME_CHARS]}~{hashlib.sha256(raw).hexdigest()[:16]}"
    return name or "%"


def _open_append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def _append(fd: int, rows: Iterable[Record]) -> None:
    """Append *rows*; after an OSError none of them is there."""
    data = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    before = os.fstat(fd).st_size
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        os.ftruncate(fd, before)
        raise
