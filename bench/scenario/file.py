"""The format of a scenario file: its tables, and reading one without believing anything about it.

An error names the file, the table and the key, says what would have been right, and offers the near miss.
"""

from __future__ import annotations

import difflib
import itertools
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta

from tare.bench.errors import UsageError
from tare.bench.records import inputs
from tare.bench.records.resolved import Option, Timing
from tare.bench.scenario.design import Designs, Table
from tare.bench.scenario.workload_tables import WorkloadTable

MOST_BYTES = 256 * 1024
#: Of names that are known, so many are told; of one that is not, so much is compared.
_MOST_NAMED, _LONGEST = 24, 80
_BOUNDS = {">=": "at least", "<=": "at most", ">": "above", "<": "below"}

Mebibytes = Annotated[int, Meta(ge=4, le=1 << 20)]
Touched = Annotated[int, Meta(ge=0, le=1 << 20)]
Milliseconds = Annotated[int, Meta(ge=0, le=3_600_000)]
Busy = Annotated[int, Meta(ge=0, le=100)]
Cpus = Annotated[int, Meta(ge=1, le=1024)]
Release = bool | Literal["lazily"]
MOST_SUBJECTS = 200
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?) ?%")
#: What precision may be asked for: less takes more rounds than there may be, more says nothing.
_PRECISIONS = 0.1, 50.0
#: Options that have another name than the key that they replace.
_FLAGS = {"precision": "until-precise"}


def fraction(percent: str) -> float:
    """``5%`` -> 0.05; 0 for an empty text. Raises ValueError for what is no percentage, or none to be asked for."""
    if not percent:
        return 0.0
    found = _PERCENT.fullmatch(percent.strip())
    least, most = _PRECISIONS
    if found is None or not least <= float(found[1]) <= most:
        raise ValueError(f'precision must be a percentage from {least:g}% to {most:g}%, such as "5%"')
    return float(found[1]) / 100


class RunTable(Timing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[run]``: how often, in which order, from which state, and when a start is over.

    ready: the payload's mark that ends a start: ``ready``, or ``first`` (the first instruction of PID 1)
    precision: add rounds until half of the 95 % interval of every subject's figure is at most this part of its median,
        such as ``"5%"``; ``rounds`` is then the least number, and at least 8; empty: no rounds are added
    """

    ready: Literal["ready", "first"] = "ready"
    precision: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for a precision that is none."""
        fraction(self.precision)


class GrantTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[grant]``: what every subject is given.

    memory_mib: memory of each instance
    cpus: processors of each instance
    """

    memory_mib: Mebibytes = 128
    cpus: Cpus = 1


class PayloadTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[payload]``: what the first process of every subject does, in this order.

    rootfs: the root filesystem: a directory, or ``payload``, the built-in one that holds only the payload
    delay_ms: wait this long before getting ready
    touch_mib: write to this much memory before getting ready
    release: free that memory before getting ready: ``true`` unmaps it; ``"lazily"`` lets the kernel decide when to take
        it (MADV_FREE)
    busy_percent: once ready, use this share of one processor, in periods of 100 ms; 0: only wait
    """

    rootfs: str = "payload"
    delay_ms: Milliseconds = 0
    touch_mib: Touched = 0
    release: Release = False
    busy_percent: Busy = 0


class SubjectTable(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[subjects]]``: a label, a runner, its options; any key of grant or payload again, for this subject only.

    An experiment may add keys of its own.

    label: the name of the subject in the plan, the records and the report
    runner: the runner that starts it
    options: options of the runner
    memory_mib: as in ``[grant]``, for this subject alone
    cpus: as in ``[grant]``, for this subject alone
    delay_ms: as in ``[payload]``, for this subject alone
    touch_mib: as in ``[payload]``, for this subject alone
    release: as in ``[payload]``, for this subject alone
    busy_percent: as in ``[payload]``, for this subject alone
    workload: as the table ``[workload]``, for this subject alone
    workloads: names of tables ``[workloads.NAME]``: this subject runs these alone
    matrix: ``memory_mib``, ``cpus``, ``delay_ms``, ``touch_mib``, ``busy_percent``, a key of the experiment, or an
        option, each with a list of values: one subject is made for each combination
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
    workload: WorkloadTable | None = None
    workloads: list[str] = []
    matrix: dict[str, list[Option]] = {}


class ScenarioFile(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The question, what is done, and what is compared; an experiment may have a table of its own.

    schema: the version of this format: 1
    question: the question that the report answers
    experiment: what is done to each subject in a trial
    reference: the label that the others are compared with
    pairs: further pairs of labels to compare
    prices: the names of the price books (``scenarios/prices/``) that the report of a ramp uses; none: all
    run: the table ``[run]``
    grant: the table ``[grant]``
    payload: the table ``[payload]``
    workload: the table ``[workload]``, which takes the place of the payload
    workloads: tables ``[workloads.NAME]``, several of the kind: every subject is measured with each of them, as
        ``NAME/LABEL``, and compared with the reference of the same workload
    subjects: the tables ``[[subjects]]``: what is compared
    """

    schema: Literal[1]
    question: str
    experiment: str = "startup"
    reference: str = "process"
    pairs: list[tuple[str, str]] = []
    prices: list[str] = []
    run: RunTable = RunTable()
    grant: GrantTable = GrantTable()
    payload: PayloadTable = PayloadTable()
    workload: WorkloadTable | None = None
    workloads: dict[str, WorkloadTable] = {}
    subjects: Annotated[list[SubjectTable], Meta(min_length=1, max_length=MOST_SUBJECTS)]


def format_of(designs: Designs) -> type[ScenarioFile]:
    """A ScenarioFile in which each of *designs* may be the experiment, and have its own table and keys."""
    settings: dict[str, Any] = {"frozen": True, "kw_only": True, "forbid_unknown_fields": True}
    keys = {field.name: field.type for one in designs.values() for field in msgspec.structs.fields(one.keys_type)}
    tables = {one.table: one.table_type for one in designs.values() if one.table}
    subject = msgspec.defstruct(
        "SubjectTable", [(name, kind, None) for name, kind in keys.items()], bases=(SubjectTable,), **settings
    )
    made = msgspec.defstruct(
        "ScenarioFile",
        [
            ("experiment", Literal[tuple(designs)], "startup"),
            *((name, kind, kind()) for name, kind in tables.items()),
            ("subjects", Annotated[list[subject], Meta(min_length=1, max_length=MOST_SUBJECTS)]),  # type: ignore[valid-type]
        ],
        bases=(ScenarioFile,),
        **settings,
    )
    return cast(type[ScenarioFile], made)


def parse(
    path: Path, flags: Mapping[str, object], designs: Designs, note: Callable[[str], object]
) -> tuple[str, ScenarioFile]:
    """The text of *path*, and the same well-typed, with *flags* in place of keys of ``[run]``. Raises UsageError.

    *note* is told what is still understood, and has another name today.
    """
    check_flags(flags)
    text = inputs.text(
        path, most=MOST_BYTES, fix="give a scenario (*.toml); `tare list` names those that come with tare"
    )
    with inputs.parsing(f"{path} is not valid TOML", "correct that line"):
        data = tomllib.loads(text)
    with inputs.parsing(f"{path} is not a valid scenario", "correct it"):
        _rename(path, data, note)
        kind = format_of(designs)
        check_keys(path, data, kind, "")
        if flags and isinstance(data.get("run", {}), dict):
            data["run"] = {**data.get("run", {}), **flags}
        try:
            return text, msgspec.convert(data, kind)
        except msgspec.ValidationError as error:
            fix = _one_of(str(error), kind) or "correct that key"
            raise UsageError(f"{path} is not a valid scenario", words(str(error)), fix) from None


def _rename(path: Path, data: dict[str, Any], note: Callable[[str], object]) -> None:
    """``probe`` is the old name of ``experiment``."""
    if "probe" not in data:
        return
    if "experiment" in data:
        why = "it has both 'experiment' and its old name 'probe'"
        raise UsageError(f"{path} is not a valid scenario", why, "leave 'probe' out")
    data["experiment"] = data.pop("probe")
    note(f"{path}: 'probe' is the old name of 'experiment'; it still works; please write 'experiment'")


def check_flags(flags: Mapping[str, object]) -> None:
    """Judge *flags* by the keys of ``[run]`` that they replace, so that none is taken for a fault of the file."""
    for name, value in flags.items():
        try:
            msgspec.convert({name: value}, RunTable)
        except msgspec.ValidationError as error:
            found = re.search("(>=|<=|>|<) ([0-9]+)", str(error))
            why = f"it must be {_BOUNDS[found[1]]} {found[2]}" if found else words(str(error))
            why = why.removeprefix("precision must be ")
            flag = _FLAGS.get(name, name).removesuffix("_s").replace("_", "-")
            raise UsageError(
                f"--{flag} {value} cannot be used", why, "give another value, or leave the option out"
            ) from None


def check_keys(path: Path, data: object, kind: Any, where: str) -> None:
    """Name the first unknown key anywhere in *data*, with the key it is nearest to."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if isinstance(data, dict):  # of what it may be, the table
        tables = (one for one in _flat(kind) if isinstance(one, type) and issubclass(one, msgspec.Struct))
        kind = next(tables, kind)
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


def _one_of(message: str, kind: Any) -> str:
    """The words that may stand where msgspec met another: ``known: startup, memory, ...``; empty for other mistakes."""
    found = re.match(r"Invalid enum value (.*) - at `\$\.?([^`]*)`", message)
    if found is None:
        return ""
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
