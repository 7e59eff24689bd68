"""Run directories: written so that nothing measured is lost, read so that nothing is believed unchecked.

The layout is described in :mod:`bench.records`. Each trial's rows go to the kernel in one write(2) before the next
trial begins, so that a killed run keeps all its finished trials. Where the disk is full, what was begun is taken back,
and the header still gets its end: over the old one, in the blocks that that has.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import string
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from tare.bench.errors import InvalidError, TareError, UsageError, unwritten
from tare.bench.records import files, inputs, upgrades
from tare.bench.records.metrics import METRICS, misfit
from tare.bench.records.rows import SCHEMA_VERSION, Outcome, Record, RunHeader, Sample

_Row = TypeVar("_Row", bound=Record)

#: A header holds the whole plan, a file of rows every number: more than any run that ends, less than a host's memory.
_MOST_HEADER, _MOST_ROWS = 256 << 20, 2 << 30
_RUN_NAME = re.compile(r"\d{8}T\d{6}Z-.+")

HEADER, SAMPLES, OUTCOMES, LOGS, SUBJECTS = "run.json", "samples.jsonl", "outcomes.jsonl", "logs", "subjects"
OUTPUT = "output.log"
#: From this size on, the log of what a subject's instances said is left as it is.
_OUTPUT_BYTES = 1 << 18

#: What stands for itself in :func:`file_name`, and how much of a long name: of the 255 bytes of a file name some are
#: for an ending, and for the time and the token of a run.
_PLAIN = frozenset(f"{string.ascii_lowercase}{string.digits}._+-")
_NAME_CHARS = 160


@dataclass(frozen=True, slots=True)
class Run:
    """One run as read from disk. ``notes`` are findings about the files themselves, for the reader of a report.

    ``schema`` is the one that it was written in. One that was made of several (:mod:`reports.analysis.merge`) has those
    in ``merged``, in ``unlike`` what they differ in, and no path of its own.
    """

    path: Path
    header: RunHeader
    samples: tuple[Sample, ...]
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    schema: int = SCHEMA_VERSION
    merged: tuple[Run, ...] = ()
    unlike: tuple[str, ...] = ()

    def file(self, name: str) -> tuple[Path, Path]:
        """The file that the records call *name*, and the directory of a run in which it must lie."""
        for run in self.merged:
            if name.startswith(f"{run.header.run}/"):
                return run.path / name.removeprefix(f"{run.header.run}/"), run.path
        return self.path / name, self.path


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


def load(path: Path) -> Run:
    """Read a run directory. Raises UsageError when it is none, is of a newer schema, or is damaged in the middle."""
    written, header = _header(path)
    notes: list[str] = []
    older = None if written >= upgrades.ROWS_SCHEMA else upgrades.outcome
    outcomes = _last_by(_read_rows(path / OUTCOMES, Outcome, notes, older=older), key=lambda row: row.trial)
    counted = {outcome.trial for outcome in outcomes}
    rows = _read_rows(path / SAMPLES, Sample, notes, wrong=_wrong)
    samples = _last_by(
        rows if older is None else [upgrades.sample(row) for row in rows],
        key=lambda row: (row.trial, row.metric, row.n, row.role, row.serves, row.stage),
    )
    kept = tuple(sample for sample in samples if sample.trial in counted)
    if len(kept) < len(samples):
        notes.append(f"{len(samples) - len(kept)} samples of a trial that did not end are left out")
    valid = tuple(sample for sample in kept if not sample.invalid)
    if len(valid) < len(kept):
        why = next(sample.invalid for sample in kept if sample.invalid)
        notes.append(f"{len(kept) - len(valid)} samples do not count, and are left out: {why}")
    return Run(path=path, header=header, samples=valid, outcomes=outcomes, notes=tuple(notes), schema=written)


def load_header(path: Path) -> RunHeader:
    """Read only ``run.json``. Raises UsageError like :func:`load`."""
    return _header(path)[1]


def schema(path: Path) -> int:
    """The schema that the run was written in. Raises UsageError like :func:`load`."""
    return _header(path)[0]


def _header(path: Path) -> tuple[int, RunHeader]:
    """The schema of a run's header, and the header in the words of today's."""
    file = path / HEADER
    try:
        text = inputs.data(file, most=_MOST_HEADER, fix="restore it, or become a user who may read it")
    except inputs.AbsentError:
        why = f"there is no {HEADER} in it" if path.is_dir() else "there is no such directory"
        raise UsageError(f"{path} is not a run", why, "`tare list --runs` names the runs") from None
    with inputs.parsing(f"{file} is damaged", "restore it, or remove the run"):
        written = msgspec.json.decode(text, type=_OnlySchema).schema
        if written > SCHEMA_VERSION:
            raise UsageError(
                f"{path} was written by a newer tare",
                f"its schema is {written}, this tare reads up to {SCHEMA_VERSION}",
                "read it with the newer tare",
            )
        if written == SCHEMA_VERSION:
            return written, msgspec.json.decode(text, type=RunHeader)
        return written, msgspec.convert(upgrades.header(msgspec.json.decode(text, type=dict), written), RunHeader)


def trim(path: Path) -> None:
    """Cut the torn last line that a killed run left, so that appending gives whole lines again."""
    for name in (SAMPLES, OUTCOMES):
        file = path / name
        try:
            data = _rows(file)
            if data and not data.endswith(b"\n"):
                os.truncate(file, data.rfind(b"\n") + 1)
        except OSError as error:
            raise unwritten(f"cannot write {file}", error, "run this as the user who made the run") from error


def runs(results: Path) -> list[Path]:
    """The run directories below *results*, oldest first; those that cannot be read by the time in their name.

    Raises UsageError where *results* is no directory, or may not be read; there are none where it is missing.
    """
    try:
        return sorted((entry for entry in results.iterdir() if _is_run(entry)), key=_began)
    except FileNotFoundError:
        return []
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"cannot list the runs in {results}", why, "give a directory of runs") from error


def _began(run: Path) -> tuple[str, str]:
    """When *run* began, and its name: by the name that a run is given, else by what its header says."""
    if _RUN_NAME.fullmatch(run.name):
        return run.name[:15], run.name
    try:
        began = load_header(run).started_at
    except UsageError:
        began = ""
    return began.replace("-", "").replace(":", "")[:15], run.name


def _is_run(entry: Path) -> bool:
    try:
        (entry / HEADER).lstat()
    except PermissionError:  # another user's: only its name can be judged
        return bool(_RUN_NAME.fullmatch(entry.name))
    except OSError:
        return False
    return True


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


def _wrong(row: Sample) -> str:
    """Why *row* is none that a run wrote, or an empty string: a trial with a number that cannot be true is not ok."""
    known = METRICS.get(row.metric)
    return misfit(row.metric, row.unit) or ("" if row.invalid or not known else known.implausible(row.value))


class _OnlySchema(msgspec.Struct):
    schema: int


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


def _rows(path: Path) -> bytes:
    """The bytes of a file of rows; none where it is missing."""
    try:
        return inputs.data(path, most=_MOST_ROWS, fix="restore it, or become a user who may read it")
    except inputs.AbsentError:
        return b""


def _read_rows(
    path: Path,
    kind: type[_Row],
    notes: list[str],
    *,
    wrong: Callable[[_Row], str] | None = None,
    older: Callable[[bytes], _Row] | None = None,
) -> list[_Row]:
    """The rows of a file; *wrong* says what cannot be true of one, *older* reads a line of an older schema."""
    whole, _, torn = _rows(path).rpartition(b"\n")
    if torn:
        notes.append(f"the last line of {path.name} was cut off when the run was killed; it is left out")
    decoder = msgspec.json.Decoder(kind)
    read = older or decoder.decode
    if not older:
        rows = _at_once(decoder, whole)
        if rows is not None and not (wrong and any(map(wrong, rows))):
            return rows
    rows, fix = [], "restore the file, or remove that line to report the other lines"
    for number, line in enumerate(whole.split(b"\n") if whole else (), start=1):
        with inputs.parsing(f"{path}, line {number} is damaged", fix):
            rows.append(read(line))
            if wrong and (why := wrong(rows[-1])):
                raise ValueError(why)
    return rows


def _at_once(decoder: msgspec.json.Decoder[_Row], whole: bytes) -> list[_Row] | None:
    """All rows, several times as fast as line by line; None where they must be looked at one by one."""
    try:
        rows = decoder.decode_lines(whole)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    # A line that holds no row, or several, is damage that is said by its number.
    return rows if len(rows) == (whole.count(b"\n") + 1 if whole else 0) else None


def _last_by(rows: list[_Row], *, key: Callable[[_Row], Hashable]) -> tuple[_Row, ...]:
    """One row per key, the last one written, in the order of its writing."""
    return tuple({key(row): row for row in rows}.values())
