"""TOML to Scenario: read whole and judged whole before anything starts.

An error names the file, the table and the key, says what would have been right, and offers the near miss.
"""

from __future__ import annotations

import difflib
import itertools
import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

import runners
from bench.errors import UsageError
from runners import payload

MOST_BYTES = 256 * 1024
MIB = 1 << 20

Count = Annotated[int, Meta(ge=1, le=10_000)]
Warmups = Annotated[int, Meta(ge=0, le=100)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Mebibytes = Annotated[int, Meta(ge=4, le=1 << 20)]
Touched = Annotated[int, Meta(ge=0, le=1 << 20)]
Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000)]
Cpus = Annotated[int, Meta(ge=1, le=1024)]
Option = str | int | float | bool


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every table of a scenario file."""


class RunTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[run]``: how often, in which order, from which state, and when a start is over."""

    rounds: Count = 12
    warmup: Warmups = 1
    seed: Seed = 1
    cache: Literal["warm", "cold"] = "warm"
    ready: Literal["ready", "first"] = "ready"
    timeout_s: Seconds = 60.0


class GrantTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[grant]``: what every subject is given."""

    memory_mib: Mebibytes = 128
    cpus: Cpus = 1


class PayloadTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[payload]``: what PID 1 of every subject does. ``rootfs = "payload"`` is the built-in tree with it alone."""

    rootfs: str = "payload"
    delay_ms: Milliseconds = 0
    touch_mib: Touched = 0


class SubjectTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[subjects]]``: a label, a runner, its options; any key of grant or payload again, for this subject only.

    ``matrix`` maps such a key, or an option, to a list of values; the subject becomes one subject for each combination.
    """

    label: str
    runner: str
    options: dict[str, Option] = {}
    memory_mib: Mebibytes | None = None
    cpus: Cpus | None = None
    delay_ms: Milliseconds | None = None
    touch_mib: Touched | None = None
    matrix: dict[str, list[Option]] = {}


class ScenarioFile(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole file. ``schema`` is the version of this format."""

    schema: Literal[1]
    question: str
    probe: Literal["startup"] = "startup"
    reference: str = "process"
    pairs: list[tuple[str, str]] = []
    run: RunTable = RunTable()
    grant: GrantTable = GrantTable()
    payload: PayloadTable = PayloadTable()
    subjects: Annotated[list[SubjectTable], Meta(min_length=1, max_length=200)]


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to be weighed, with nothing left to default. ``argv`` starts with the payload's path in the rootfs."""

    label: str
    runner: str
    options: dict[str, Option]
    argv: tuple[str, ...]
    memory_bytes: int
    cpus: int


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A validated scenario, ready to be planned. ``rootfs`` is None for the built-in tree."""

    name: str
    text: str
    question: str
    probe: str
    reference: str
    pairs: tuple[tuple[str, str], ...]
    run: RunTable
    rootfs: str | None
    subjects: tuple[Subject, ...]


#: Keys that a subject or a matrix may set, besides the options of its runner.
_OVERRIDES = ("memory_mib", "cpus", "delay_ms", "touch_mib")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,39}")


def shipped() -> dict[str, Path]:
    """The scenarios that come with tare: name -> file."""
    files = (Path(str(file)) for file in resources.files("scenarios").iterdir())
    return {file.stem: file for file in sorted(files) if file.suffix == ".toml"}


def find(name: str) -> Path:
    """The file meant by *name*: a shipped scenario's name, or a path. Raises UsageError when there is none."""
    known = shipped()
    if name in known:
        return known[name]
    path = Path(name)
    if path.exists() or "/" in name or name.endswith(".toml"):
        return path
    raise UsageError(f"there is no scenario '{name}'", _near(name, known), "`tare list` names them; a path works too")


def load(path: Path, flags: Mapping[str, object] | None = None) -> Scenario:
    """Read and validate *path*. *flags* replace keys of ``[run]``. Raises UsageError; nothing was started then."""
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML", str(error), "correct that line") from None
    _check_keys(path, data, ScenarioFile, "")
    if flags:
        data["run"] = {**data.get("run", {}), **flags}
    try:
        file = msgspec.convert(data, ScenarioFile)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path} is not a valid scenario", _words(str(error)), "correct that key") from None
    return _Resolver(path, file).scenario(text)


def select(scenario: Scenario, labels: Iterable[str]) -> Scenario:
    """The scenario with these subjects alone, and its reference. Raises UsageError for a label it does not have."""
    wanted = set(labels)
    known = {subject.label for subject in scenario.subjects}
    for label in sorted(wanted - known):
        raise UsageError(f"{scenario.name} has no subject '{label}'", _near(label, known), "`tare plan` names them")
    wanted.add(scenario.reference)
    return msgspec.structs.replace(
        scenario,
        subjects=tuple(subject for subject in scenario.subjects if subject.label in wanted),
        pairs=tuple(pair for pair in scenario.pairs if set(pair) <= wanted),
    )


class _Resolver:
    """Turns a well-typed file into a Scenario, or says what in it cannot be meant."""

    def __init__(self, path: Path, file: ScenarioFile) -> None:
        self.path = path
        self.file = file

    def scenario(self, text: str) -> Scenario:
        subjects = [subject for table in self.file.subjects for subject in self._expand(table)]
        if not any(subject.runner == "process" for subject in subjects):  # the tare is always on the scale
            subjects.insert(0, self._subject(SubjectTable(label="process", runner="process"), "process", {}))
        labels = [subject.label for subject in subjects]
        for label in labels:
            if labels.count(label) > 1:
                raise self._error(
                    f"the label '{label}' is used {labels.count(label)} times", "give each subject its own"
                )
        for label in (self.file.reference, *itertools.chain.from_iterable(self.file.pairs)):
            if label not in labels:
                raise self._error(f"'{label}' is no subject of this scenario", _near(label, labels) or "name a subject")
        return Scenario(
            name=self.path.stem,
            text=text,
            question=self.file.question,
            probe=self.file.probe,
            reference=self.file.reference,
            pairs=tuple(self.file.pairs),
            run=self.file.run,
            rootfs=self._rootfs(),
            subjects=tuple(subjects),
        )

    def _rootfs(self) -> str | None:
        if self.file.payload.rootfs == "payload":
            return None
        rootfs = Path(self.file.payload.rootfs)
        rootfs = rootfs if rootfs.is_absolute() else self.path.parent / rootfs
        if not rootfs.is_dir():
            raise self._error(
                f"payload.rootfs: there is no directory {rootfs}", 'give a directory, or "payload" for the built-in one'
            )
        return str(rootfs.resolve())

    def _expand(self, table: SubjectTable) -> Iterable[Subject]:
        self._check_runner(table)
        for key, values in table.matrix.items():
            if not values:
                raise self._error(f"subject '{table.label}': matrix.{key} is empty", "give at least one value")
        for combination in itertools.product(*table.matrix.values()):
            chosen = dict(zip(table.matrix, combination, strict=True))
            yield self._subject(table, self._label(table.label, chosen), chosen)

    def _subject(self, table: SubjectTable, label: str, chosen: Mapping[str, Option]) -> Subject:
        overrides = {key: chosen[key] for key in _OVERRIDES if key in chosen}
        try:  # a matrix holds values of any type: judge them as the keys that they stand for
            table = msgspec.convert({**msgspec.to_builtins(table), **overrides}, SubjectTable)
        except msgspec.ValidationError as error:
            raise self._error(f"subject '{label}': {_words(str(error))}", "correct that value of the matrix") from None
        grant, work = self.file.grant, self.file.payload
        words = payload.arguments(
            delay_ms=work.delay_ms if table.delay_ms is None else table.delay_ms,
            touch_mib=work.touch_mib if table.touch_mib is None else table.touch_mib,
        )
        options = {**table.options, **{key: value for key, value in chosen.items() if key not in _OVERRIDES}}
        self._check_options(label, table.runner, options)
        return Subject(
            label=label,
            runner=table.runner,
            options=options,
            argv=(payload.PATH, *words),
            memory_bytes=(grant.memory_mib if table.memory_mib is None else table.memory_mib) * MIB,
            cpus=grant.cpus if table.cpus is None else table.cpus,
        )

    def _label(self, label: str, chosen: Mapping[str, Option]) -> str:
        if "{" in label:
            try:
                label = label.format_map(chosen)
            except (KeyError, ValueError, IndexError, AttributeError):
                raise self._error(
                    f"the label '{label}' names what is not in its matrix", f"known: {', '.join(chosen) or 'nothing'}"
                ) from None
        else:
            label = "-".join([label, *(str(value) for value in chosen.values())])
        if not _LABEL.fullmatch(label):
            raise self._error(
                f"the label '{label}' cannot be used",
                "use 1 to 40 letters, digits and . _ / + -, beginning with one of the first two",
            )
        return label

    def _check_runner(self, table: SubjectTable) -> None:
        if table.runner not in runners.REGISTRY:
            hint = _near(table.runner, runners.REGISTRY)
            raise self._error(f"subject '{table.label}': there is no runner '{table.runner}'", hint)
        known = runners.load(table.runner).OPTIONS
        for key in (*table.options, *(key for key in table.matrix if key not in _OVERRIDES)):
            if key not in known:
                hint = _near(key, (*known, *_OVERRIDES)) or f"known: {', '.join(known) or 'none'}"
                raise self._error(f"subject '{table.label}': the runner {table.runner} has no option '{key}'", hint)

    def _check_options(self, label: str, runner: str, options: Mapping[str, Option]) -> None:
        """Judge the values by what the runner declares; whether its engine is there is not asked here."""
        declared = runners.load(runner).OPTIONS
        for key, value in options.items():
            at, option = f"subject '{label}': options.{key}", declared[key]
            if not isinstance(value, str):
                raise self._error(f"{at}: expected a text, got {value!r}", option.meaning)
            if option.choices and value not in option.choices:
                raise self._error(f"{at}: there is no '{value}'", f"one of: {', '.join(option.choices)}")
            if option.file and not Path(value).expanduser().is_file():
                raise self._error(f"{at}: there is no file {value}", f"correct the path, or leave {key} out")

    def _error(self, why: str, fix: str) -> UsageError:
        return UsageError(f"{self.path} is not a valid scenario", why, fix)


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise UsageError(f"{path} is a directory", "", "give one scenario file (*.toml)")
        with path.open("rb") as file:  # at most one byte more than allowed, whatever the file is
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {path}", error.strerror or str(error), "`tare list` names the scenarios"
        ) from None
    if len(data) > MOST_BYTES:
        raise UsageError(
            f"{path} is no scenario", f"it is larger than {MOST_BYTES // 1024} KiB", "give a scenario (*.toml)"
        )
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path} is no scenario", "it is not UTF-8 text", "give a scenario (*.toml)") from None


def _check_keys(path: Path, data: object, kind: Any, where: str) -> None:
    """Name the first unknown key anywhere in *data*, with the key it is nearest to."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is list and isinstance(data, list):
        for index, entry in enumerate(data, start=1):
            _check_keys(path, entry, get_args(kind)[0], f"{where}[{index}]")
    if not (isinstance(data, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in data.items():
        if key not in fields:
            table = f"the table [{where}]" if where else "the file"
            why = f"{table} has an unknown key '{key}'"
            raise UsageError(
                f"{path} is not a valid scenario", why, _near(key, fields) or f"known: {', '.join(fields)}"
            )
        _check_keys(path, value, fields[key], f"{where}.{key}" if where else key)


def _near(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else ""


def _words(message: str) -> str:
    """msgspec's message in TOML's words: ``Expected `int` - at `$.run.rounds` `` -> ``run.rounds: expected `int` ``."""
    text, _, at = message.partition(" - at ")
    place = at.strip("`").removeprefix("$").lstrip(".").replace("[...]", "[]")
    text = text.replace("Object missing required field", "missing key")
    return f"{place}: {text[0].lower()}{text[1:]}" if place else text
