"""The format of a scenario file: its tables, and reading one without believing anything about it.

An error names the file, the table and the key, says what would have been right, and offers the near miss.
"""

from __future__ import annotations

import difflib
import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from tare.bench.errors import UsageError
from tare.bench.records import inputs

MOST_BYTES = 256 * 1024
#: Of names that are known, so many are told; of one that is not, so much is compared.
_MOST_NAMED, _LONGEST = 24, 80
_BOUNDS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}

Count = Annotated[int, Meta(ge=1, le=10_000)]
Warmups = Annotated[int, Meta(ge=0, le=100)]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Mebibytes = Annotated[int, Meta(ge=4, le=1 << 20)]
Touched = Annotated[int, Meta(ge=0, le=1 << 20)]
Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000)]
Busy = Annotated[int, Meta(ge=0, le=100)]
Cpus = Annotated[int, Meta(ge=1, le=1024)]
Release = bool | Literal["lazily"]
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
    """``[payload]``: what PID 1 of every subject does. ``rootfs = "payload"`` is the built-in tree with it alone.

    It waits ``delay_ms``, touches ``touch_mib`` of memory, gives that back if ``release``, and is ready then. From then
    on it uses ``busy_percent`` of one processor, in periods of 100 ms. ``release = "lazily"`` leaves it to the kernel
    when to take the memory (MADV_FREE of madvise(2)).
    """

    rootfs: str = "payload"
    delay_ms: Milliseconds = 0
    touch_mib: Touched = 0
    release: Release = False
    busy_percent: Busy = 0


class StackTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[stack]``: for the probes that keep many instances alive at once; when to read, and when to stop.

    ``counts`` are the numbers alive at which everything is read. The ascent ends at ``most`` instances (the largest of
    ``counts`` if not given), or before that by the first rule that holds: less than ``floor_percent`` of the host's
    memory available; ``budget_mib`` used; the p95 of the last 20 starts above ``latency_s``; more than
    ``error_percent`` of the starts lost; full memory pressure above ``pressure_percent`` (PSI, 10 s); any swap-in; less
    than ``cpu_floor_percent`` of the host's processor time idle in the last window. 0 turns a rule off, but for the
    floor of memory. ``at_once`` instances are started together, from the second on. Before each reading the host is
    watched for ``window_s`` while the instances do as they are told; 0 leaves that out. ``ksm`` turns samepage merging
    on for each ascent, and off again (:mod:`bench.host.ksm`). The host asks each instance for ``reclaim_mib`` of its
    memory once it is ready.
    """

    counts: tuple[Annotated[int, Meta(ge=1, le=100_000)], ...] = (1, 2, 5, 10, 20)
    most: Annotated[int, Meta(ge=0, le=100_000)] = 0
    floor_percent: Annotated[float, Meta(ge=5, le=95)] = 15.0
    cpu_floor_percent: Annotated[float, Meta(ge=0, le=95)] = 0.0
    budget_mib: Annotated[int, Meta(ge=0, le=1 << 30)] = 0
    latency_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    error_percent: Annotated[float, Meta(ge=0, le=100)] = 5.0
    pressure_percent: Annotated[float, Meta(ge=0, le=100)] = 20.0
    at_once: Annotated[int, Meta(ge=1, le=64)] = 1
    window_s: Annotated[float, Meta(ge=0, le=60)] = 1.0
    ksm: bool = False
    reclaim_mib: Touched = 0


class LeastTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[least]``: for the probe ``least-memory``; between which grants to look, and how exactly."""

    low_kib: Annotated[int, Meta(ge=0, le=1 << 30)] = 0
    high_mib: Mebibytes = 256
    step_kib: Annotated[int, Meta(ge=4, le=1 << 20)] = 64


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
    release: Release | None = None
    busy_percent: Busy | None = None
    counts: tuple[Annotated[int, Meta(ge=1, le=100_000)], ...] | None = None
    most: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    reclaim_mib: Touched | None = None
    step_kib: Annotated[int, Meta(ge=4, le=1 << 20)] | None = None
    matrix: dict[str, list[Option]] = {}


class ScenarioFile(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole file. ``schema`` is the version of this format."""

    schema: Literal[1]
    question: str
    probe: Literal["startup", "memory", "density", "least-memory"] = "startup"
    reference: str = "process"
    pairs: list[tuple[str, str]] = []
    prices: list[str] = []
    run: RunTable = RunTable()
    grant: GrantTable = GrantTable()
    payload: PayloadTable = PayloadTable()
    stack: StackTable = StackTable()
    least: LeastTable = LeastTable()
    subjects: Annotated[list[SubjectTable], Meta(min_length=1, max_length=200)]


def parse(path: Path, flags: Mapping[str, object]) -> tuple[str, ScenarioFile]:
    """The text of *path*, and the same well-typed, with *flags* in place of keys of ``[run]``. Raises UsageError."""
    check_flags(flags)
    text = inputs.text(path, most=MOST_BYTES, fix="give a scenario (*.toml); `tare list` names those that are shipped")
    with inputs.parsing(f"{path} is not valid TOML", "correct that line"):
        data = tomllib.loads(text)
    with inputs.parsing(f"{path} is not a valid scenario", "correct it"):
        check_keys(path, data, ScenarioFile, "")
        if flags and isinstance(data.get("run", {}), dict):
            data["run"] = {**data.get("run", {}), **flags}
        try:
            return text, msgspec.convert(data, ScenarioFile)
        except msgspec.ValidationError as error:
            fix = _one_of(str(error)) or "correct that key"
            raise UsageError(f"{path} is not a valid scenario", words(str(error)), fix) from None


def check_flags(flags: Mapping[str, object]) -> None:
    """Judge *flags* by the keys of ``[run]`` that they replace, so that none is taken for a fault of the file."""
    for name, value in flags.items():
        try:
            msgspec.convert({name: value}, RunTable)
        except msgspec.ValidationError as error:
            found = re.search("(>=|<=|>|<) ([0-9]+)", str(error))
            why = f"it must be {_BOUNDS[found[1]]} {found[2]}" if found else words(str(error))
            flag = name.removesuffix("_s").replace("_", "-")
            raise UsageError(f"--{flag} {value} cannot be used", why, "give another value, or none") from None


def check_keys(path: Path, data: object, kind: Any, where: str) -> None:
    """Name the first unknown key anywhere in *data*, with the key it is nearest to."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is list and isinstance(data, list):
        for index, entry in enumerate(data, start=1):
            check_keys(path, entry, get_args(kind)[0], f"{where}[{index}]")
    if not (isinstance(data, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in data.items():
        if key not in fields:
            table = f"the table [{where}]" if where else "the file"
            why = f"{table} has an unknown key '{key}'"
            raise UsageError(f"{path} is not a valid scenario", why, near(key, fields))
        check_keys(path, value, fields[key], f"{where}.{key}" if where else key)


def near(word: str, known: Iterable[str]) -> str:
    """A question that offers the nearest of *known*, if one is near, and all that there are, or the first of many."""
    names = list(known)
    close = difflib.get_close_matches(word[:_LONGEST], names, n=1, cutoff=0.5)
    question = f"did you mean '{close[0]}'? " if close else ""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"{question}known: {', '.join(names[:_MOST_NAMED]) or 'none'}{more}"


def words(message: str) -> str:
    """msgspec's message in TOML's words: ``Expected `int` - at `$.run.rounds` `` -> ``run.rounds: expected `int` ``."""
    text, _, at = message.partition(" - at ")
    place = at.strip("`").removeprefix("$").lstrip(".").replace("[...]", "[]")
    text = text.replace("Object missing required field", "missing key")
    return f"{place}: {text[0].lower()}{text[1:]}" if place else text


def _one_of(message: str) -> str:
    """The words that may stand where msgspec met another: ``known: startup, memory, ...``; empty for other mistakes."""
    found = re.match(r"Invalid enum value (.*) - at `\$\.?([^`]*)`", message)
    if found is None:
        return ""
    kind: Any = ScenarioFile
    for part in re.findall(r"\w+|\[\.\.\.\]", found[2]):
        kind = next(_inner(kind), None) if part == "[...]" else _fields(kind).get(part)
    choices = [str(choice) for one in _flat(kind) for choice in get_args(one) if get_origin(one) is Literal]
    return near(found[1].strip("'"), choices) if choices else ""


def _fields(kind: Any) -> dict[str, Any]:
    """The keys of the table among what *kind* may be."""
    tables = (one for one in _flat(kind) if isinstance(one, type) and issubclass(one, msgspec.Struct))
    return {field.name: field.type for table in tables for field in msgspec.structs.fields(table)}


def _inner(kind: Any) -> Iterator[Any]:
    """What the list among what *kind* may be holds."""
    return (get_args(one)[0] for one in _flat(kind) if get_origin(one) in (list, tuple))


def _flat(kind: Any) -> Iterator[Any]:
    """The alternatives of a union, without what only annotates them."""
    if get_origin(kind) is Annotated:
        yield from _flat(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        yield from itertools.chain.from_iterable(map(_flat, get_args(kind)))
    else:
        yield kind
