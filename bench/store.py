"""Run directories: written so that nothing measured is lost, read so that nothing is believed unchecked.

The layout is described in :mod:`bench.records`. Each trial's rows go to the kernel in one write(2) before the next
trial begins, so that a killed run keeps all its finished trials.
"""

from __future__ import annotations

import hashlib
import os
import string
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.errors import InvalidError, UsageError
from bench.metrics import misfit
from bench.records import SCHEMA_VERSION, Outcome, Record, RunHeader, Sample

_Row = TypeVar("_Row", bound=Record)

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
    """One run as read from disk. ``notes`` are findings about the files themselves, for the reader of a report."""

    path: Path
    header: RunHeader
    samples: tuple[Sample, ...]
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]


class RunWriter:
    """Appends to one run directory. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._samples = _open_append(path / SAMPLES)
        self._outcomes = _open_append(path / OUTCOMES)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._samples)
        os.close(self._outcomes)

    def header(self, header: RunHeader) -> None:
        """Replace run.json atomically: a reader sees the old one or the new one, never a part."""
        write_atomically(self.path / HEADER, msgspec.json.format(msgspec.json.encode(header), indent=1) + b"\n")

    def trial(self, samples: Iterable[Sample], outcome: Outcome) -> None:
        """Append one trial: its samples first, then the outcome that makes them count.

        Raises InvalidError, and writes nothing, when a sample is not in the unit of its metric.
        """
        rows = tuple(samples)
        for row in rows:
            if why := misfit(row.metric, row.unit):
                raise InvalidError(f"trial {row.trial} has a number in a wrong unit", why, "this is a defect of tare")
        _append(self._samples, rows)
        _append(self._outcomes, (outcome,))

    def log(self, trial: str, text: str) -> str:
        """Keep the console of a trial; return the path to put into its outcome."""
        relative = Path(LOGS, f"{file_name(trial)}.log")
        (self.path / LOGS).mkdir(exist_ok=True)
        (self.path / relative).write_text(text, encoding="utf-8")
        return str(relative)

    def output(self, subject: str, trial: str, console: str) -> None:
        """Add to the subject's log what it said besides its marks, as long as the log has room for it."""
        said = [line for line in console.splitlines() if line.strip() and not line.startswith("tare ")]
        file = self.path / SUBJECTS / file_name(subject) / OUTPUT
        if said and (not file.exists() or file.stat().st_size < _OUTPUT_BYTES):
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as log:
                log.write(f"{trial}\n" + "".join(f"    {line}\n" for line in said))

    def manifest(self, subject: str, files: dict[str, str]) -> tuple[str, ...]:
        """Keep the exact configuration of a subject; return the relative paths."""
        folder = Path(SUBJECTS, file_name(subject))
        (self.path / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (self.path / folder / name).write_text(text, encoding="utf-8")
        return tuple(str(folder / name) for name in files)


def create(results: Path, name: str) -> Path:
    """Make the empty directory ``results/name``. Raises UsageError when it exists or cannot be written."""
    path = results / name
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise UsageError(f"{path} exists already", "", "run again: every run gets a directory of its own") from None
    except OSError as error:
        raise UsageError(
            f"cannot make the run directory {path}", error.strerror or str(error), "give a writable --results DIR"
        ) from None
    return path


def load(path: Path) -> Run:
    """Read a run directory. Raises UsageError when it is none, is of a newer schema, or is damaged in the middle."""
    header = load_header(path)
    notes: list[str] = []
    outcomes = _last_by(_read_rows(path / OUTCOMES, Outcome, notes), key=lambda row: row.trial)
    counted = {outcome.trial for outcome in outcomes}
    samples = _last_by(
        _read_rows(path / SAMPLES, Sample, notes, lambda row: misfit(row.metric, row.unit)),
        key=lambda row: (row.trial, row.metric, row.n, row.role, row.stage),
    )
    kept = tuple(sample for sample in samples if sample.trial in counted)
    if len(kept) < len(samples):
        notes.append(f"{len(samples) - len(kept)} samples of a trial that never ended are left out")
    valid = tuple(sample for sample in kept if not sample.invalid)
    if len(valid) < len(kept):
        why = next(sample.invalid for sample in kept if sample.invalid)
        notes.append(f"{len(kept) - len(valid)} samples do not count and are left out: {why}")
    return Run(path=path, header=header, samples=valid, outcomes=outcomes, notes=tuple(notes))


def load_header(path: Path) -> RunHeader:
    """Read only ``run.json``. Raises UsageError like :func:`load`."""
    file = path / HEADER
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{path} is not a run", f"there is no {HEADER} in it", "`tare list --runs` names the runs"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read {file}", error.strerror or str(error), "check its permissions") from None
    try:
        schema = msgspec.json.decode(text, type=_OnlySchema).schema
        if schema > SCHEMA_VERSION:
            raise UsageError(
                f"{path} was written by a newer tare",
                f"its schema is {schema}, this tare reads up to {SCHEMA_VERSION}",
                "use the newer tare to read it",
            )
        return msgspec.json.decode(text, type=RunHeader)
    except msgspec.MsgspecError as error:
        raise UsageError(f"{file} is damaged", str(error), "restore it, or remove the run") from None


def trim(path: Path) -> None:
    """Cut the torn last line that a killed run left, so that appending gives whole lines again."""
    for name in (SAMPLES, OUTCOMES):
        file = path / name
        if not file.exists():
            continue
        data = file.read_bytes()
        if data and not data.endswith(b"\n"):
            os.truncate(file, data.rfind(b"\n") + 1)


def runs(results: Path) -> list[Path]:
    """The run directories below *results*, oldest first."""
    if not results.is_dir():
        return []
    return sorted(entry for entry in results.iterdir() if (entry / HEADER).is_file())


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


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside *path*, then rename over it."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(data)
    scratch.replace(path)


class _OnlySchema(msgspec.Struct):
    schema: int


def _open_append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)


def _append(fd: int, rows: Iterable[Record]) -> None:
    data = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
    while data:
        data = data[os.write(fd, data) :]


def _read_rows(
    path: Path, kind: type[_Row], notes: list[str], wrong: Callable[[_Row], str] | None = None
) -> list[_Row]:
    """The rows of a file; *wrong* says what cannot be true of one, if anything."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot read {path}", error.strerror or str(error), "check its permissions") from None
    whole, _, torn = data.rpartition(b"\n")
    if torn:
        notes.append(f"the last line of {path.name} was cut off when the run was killed; it is left out")
    decoder = msgspec.json.Decoder(kind)
    rows = []
    for number, line in enumerate(whole.split(b"\n") if whole else (), start=1):
        try:
            rows.append(decoder.decode(line))
            why = wrong(rows[-1]) if wrong else ""
        except msgspec.MsgspecError as error:
            why = str(error)
        if why:
            fix = "restore the file, or remove that line to report the rest"
            raise UsageError(f"{path}, line {number} is damaged", why, fix)
    return rows


def _last_by(rows: list[_Row], *, key: Callable[[_Row], Hashable]) -> tuple[_Row, ...]:
    """One row per key, the last one written, in the order of its writing."""
    return tuple({key(row): row for row in rows}.values())
