"""Run directories, read so that nothing is believed unchecked. Their layout is described in :mod:`bench.records`."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from tare.bench.errors import UsageError
from tare.bench.records import inputs, upgrades
from tare.bench.records.header import SCHEMA_VERSION, RunHeader
from tare.bench.records.metrics import METRICS, misfit
from tare.bench.records.rows import Outcome, Record, Sample

_Row = TypeVar("_Row", bound=Record)

#: A header holds the whole plan, a file of rows every number: more than any run that ends, less than a host's memory.
_MOST_HEADER, _MOST_ROWS = 256 << 20, 2 << 30
_RUN_NAME = re.compile(r"\d{8}T\d{6}Z-.+")

HEADER, SAMPLES, OUTCOMES, LOGS, SUBJECTS = "run.json", "samples.jsonl", "outcomes.jsonl", "logs", "subjects"


@dataclass(frozen=True, slots=True)
class Run:
    """One run as read from disk. ``notes`` are findings about the files themselves, for the reader of a report.

    ``schema`` is the one that it was written in. A run that was made of several has those in ``merged``, in ``unlike``
    what they differ in, and no path of its own (:mod:`reports.analysis.several.merge`).
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


def _wrong(row: Sample) -> str:
    """Why *row* is none that a run wrote, or an empty string: a trial with a number that cannot be true is not ok."""
    known = METRICS.get(row.metric)
    return misfit(row.metric, row.unit) or ("" if row.invalid or not known else known.implausible(row.value))


class _OnlySchema(msgspec.Struct):
    schema: int


def row_bytes(path: Path) -> bytes:
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
    whole, _, torn = row_bytes(path).rpartition(b"\n")
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
