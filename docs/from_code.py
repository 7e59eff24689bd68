"""The reference, made from the code: commands, keys of scenarios, options of runners, metrics, records.

``conf.py`` writes it into ``docs/reference/made/`` each time the site is built, and pages beside that include it. To
read one part without a site: ``python docs/from_code.py scenarios``. What is missing a sentence is an error.

A sentence stands where the thing is: the help of a command, the docstring of a msgspec type (a line ``field: sentence``
for each field), ``Option.meaning``, ``Metric.meaning``.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import click
import msgspec
from msgspec import Meta

from tare import command, runners
from tare.bench import experiments
from tare.bench.records import header, readiness, resolved, rows
from tare.bench.records.metrics import METRICS, Metric
from tare.bench.scenario import file, workload_tables
from tare.bench.scenario.design import Table
from tare.runners.image import sources
from tare.runners.payload import Payload

MADE = Path(__file__).parent / "reference" / "made"
#: What stands in the files of a run, outermost first.
RECORDS: tuple[type, ...] = (
    header.RunHeader, resolved.Scenario, resolved.Schedule, resolved.Subject, Payload, resolved.Workload,
    *get_args(readiness.Ready), header.ProbedSubject, header.ImageRecord, rows.Trial,
    header.Host, header.Finding, header.Leak, header.AttemptResolution, header.Precision, header.Look,
    rows.Sample, rows.Outcome, rows.Stop,
    rows.Meanwhile, rows.Other,
)  # fmt: skip
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", type(None): "null"}


class MissingError(LookupError):
    """Something that a user meets has no sentence, or a sentence is about something that is not there."""


# ---- sentences -------------------------------------------------------------------------------------------------------


def about(kind: type) -> tuple[str, dict[str, str]]:
    """What the docstring of *kind* says of it, and of each of its fields. Raises MissingError."""
    said: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        said |= _fields_of(one)
    names = [field.name for field in fields(kind)]
    if missing := [name for name in names if not said.get(name)]:
        raise MissingError(f"{kind.__qualname__}: no line `{missing[0]}: ...` in its docstring")
    if unknown := [name for name in _fields_of(kind) if name not in names]:
        raise MissingError(f"{kind.__qualname__}: the docstring has `{unknown[0]}: ...`, and there is no such field")
    head = inspect.cleandoc(kind.__doc__ or "").split("\n\n")[:-1] or [inspect.cleandoc(kind.__doc__ or "")]
    return " ".join(" ".join(head).split()), said


def _fields_of(kind: type) -> dict[str, str]:
    last = inspect.cleandoc(kind.__dict__.get("__doc__") or "").rpartition("\n\n")[2]
    found = re.findall(r"^(\w+): (.*(?:\n +.*)*)", last, re.MULTILINE)
    return {name: " ".join(sentence.split()) for name, sentence in found}


def fields(kind: type) -> Sequence[Any]:
    """The fields of a type of msgspec, or of a dataclass, each with its name and its default."""
    found: Sequence[Any] = msgspec.inspect.type_info(kind).fields  # type: ignore[attr-defined]
    return found


# ---- words for values ------------------------------------------------------------------------------------------------


def values(kind: Any) -> str:
    """What may stand for *kind*, in words: ``whole number, 1 to 100``, ``"warm"`` or ``"cold"``."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        bounds = [one for one in arguments[1:] if isinstance(one, Meta)]
        return ", ".join([values(arguments[0]), *filter(None, map(_bounds, bounds))])
    if origin is Literal:
        return " or ".join(f"`{_written(one)}`" for one in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(values(one) for one in arguments if one is not type(None))
    if origin in (list, tuple):
        if origin is tuple and ... not in arguments:
            return f"{len(arguments)} of: {values(arguments[0])}"
        inner = [one for one in arguments if one is not ...]
        return f"list of: {values(inner[0])}"
    if origin is dict:
        return f"names, each with: {values(arguments[1])}"
    if kind in RECORDS:
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return "table"
    return _WORDS.get(kind, "anything")


def _bounds(meta: Meta) -> str:
    if meta.min_length is not None:
        return f"{meta.min_length} to {meta.max_length} of them" if meta.max_length else f"at least {meta.min_length}"
    low = f"{meta.ge}" if meta.ge is not None else f"above {meta.gt}" if meta.gt is not None else ""
    high = "" if meta.le is None else f"{meta.le}"
    if meta.le is not None and meta.le >= 2**62:
        return f"from {low}" if low == "0" else ""
    return f"{low} to {high}" if low and high else ""


def _written(value: object) -> str:
    """*value* as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return f"[{', '.join(map(_written, value))}]" if isinstance(value, list | tuple) else f"{value}"


def _default(field: Any) -> str:
    if field.required:
        return "required"
    default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    if default is None or default in ("", (), [], {}) or isinstance(default, msgspec.Struct | Payload):
        return ""
    return f"`{_written(default)}`"


def markdown(sentence: str) -> str:
    """A sentence of a docstring as Markdown, in a cell of a table."""
    return re.sub(r":\w+:`([^`]+)`", r"`\1`", sentence).replace("``", "`").replace("|", "\\|")


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    cells = [[cell or " " for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *cells]) + "\n"


def _rows_of(kind: type) -> Iterator[tuple[str, str, str, str]]:
    _, said = about(kind)
    hints = get_type_hints(kind, include_extras=True)
    settings = getattr(kind, "__struct_config__", None)
    if settings is not None and settings.tag is not None:  # of several types that may stand there, this one
        yield f"`{settings.tag_field}`", f'`"{settings.tag}"`', "required", "which of them it is"
    for field in fields(kind):
        yield f"`{field.name}`", values(hints[field.name]), _default(field), markdown(said[field.name])


# ---- parts -----------------------------------------------------------------------------------------------------------


def commands() -> str:
    """Every verb with its arguments and options."""
    parts = []
    for name, verb in _verbs():
        text = inspect.cleandoc(verb.help or "")
        if not text:
            raise MissingError(f"tare {name} has no help")
        words, _, example = text.replace("\b\n", "").partition("Example:")
        context = click.Context(verb, info_name=f"tare {name}", help_option_names=["-h", "--help"])
        parts.append(f"## tare {name}\n\n{words.strip()}\n\n```text\n{verb.get_usage(context)[7:]}\n```\n")
        parts.append(table(("option", "meaning"), _options_of(name, verb, context)))
        if example.strip():
            parts.append(f"Example:\n\n```text\n{inspect.cleandoc(example)}\n```\n")
    return "\n".join(parts)


def _verbs() -> Iterator[tuple[str, click.Command]]:
    """All verbs by name; after a group of them, those of the group."""
    for name, verb in sorted(command.cli.commands.items()):
        yield name, verb
        if isinstance(verb, click.Group):
            yield from ((f"{name} {inner}", one) for inner, one in sorted(verb.commands.items()))


def _options_of(name: str, verb: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in verb.get_params(context):
        if isinstance(parameter, click.Option):
            record = parameter.get_help_record(context)
            if not record or not record[1]:
                raise MissingError(f"tare {name} {parameter.opts[-1]} has no help")
            yield f"`{record[0]}`", markdown(" ".join(record[1].split()))


def scenarios() -> str:
    """The tables of a scenario file, with those of every experiment."""
    designs = {name: experiments.load(name) for name in experiments.REGISTRY}
    parts = []
    plain: list[tuple[str, type[msgspec.Struct]]] = [
        ("The file", file.ScenarioFile),
        ("`[run]`", file.RunTable),
        ("`[grant]`", file.GrantTable),
        ("`[workload]`", workload_tables.WorkloadTable),
        ("`[workload]`, its `ready`", workload_tables.ReadyTable),
        ("`[payload]`", file.PayloadTable),
        ("`[[subjects]]`", file.SubjectTable),
    ]
    for title, kind in plain:
        parts.append(_keys(title, about(kind)[0], kind))
    own: dict[type[Table], list[str]] = {}
    for name, design in designs.items():
        if design.table:
            own.setdefault(design.table_type, []).append(name)
    for kind, names in own.items():
        users = " and ".join(f"`{name}`" for name in names)
        one = designs[names[0]]
        parts.append(_keys(f"`[{one.table}]`", f"{about(kind)[0]} For the experiment {users}.", kind))
        if fields(one.keys_type):
            keys = ", ".join(f"`{field.name}`" for field in fields(one.keys_type))
            about(one.keys_type)
            parts.append(f"A table `[[subjects]]` may have {keys}, too, for that subject alone.\n")
    parts.append("### Experiments\n\n" + table(("experiment", "what is done to a subject", "metrics"), _experiments()))
    return "\n".join(parts)


def _keys(title: str, words: str, kind: type) -> str:
    words = words.partition("``: ")[2] if words.startswith("``[") else words
    return f"### {title}\n\n{markdown(words[:1].upper() + words[1:])}\n\n" + table(
        ("key", "value", "default", "meaning"), _rows_of(kind)
    )


def _experiments() -> Iterator[tuple[str, str, str]]:
    for name in experiments.REGISTRY:
        one = experiments.load(name)
        words = inspect.cleandoc(type(one).__doc__ or "").split("\n\n")[0]
        if not words:
            raise MissingError(f"the experiment {name} has no docstring")
        yield f"`{name}`", markdown(" ".join(words.split())), ", ".join(f"`{metric.name}`" for metric in one.metrics)


def images() -> str:
    """The sources of images, and the shapes."""
    return table(("image", "what it is"), ((f"`{one.form}`", one.meaning) for one in sources.SOURCES.values()))


def options() -> str:
    """The options of every runner; runners with the same options share their lines."""
    same: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for name in runners.REGISTRY:
        for option, is_ in runners.load(name).OPTIONS.items():
            if not is_.meaning:
                raise MissingError(f"the option {option} of {name} has no meaning")
            same.setdefault((option, is_.meaning, is_.choices), []).append(name)
    lines = [
        (
            ", ".join(f"`{name}`" for name in names),
            f"`{option}`",
            ", ".join(f"`{one}`" for one in choices),
            markdown(says),
        )
        for (option, says, choices), names in same.items()
    ]
    return table(("runner", "option", "values", "meaning"), lines)


def metrics() -> str:
    """Every metric of the registry, and the experiments that yield it."""
    yields: dict[str, list[str]] = {}
    for name in experiments.REGISTRY:
        for metric in experiments.load(name).metrics:
            yields.setdefault(metric.name, []).append(name)
    return table(
        ("metric", "in a report", "meaning", "experiments"), (_metric(one, yields) for one in METRICS.values())
    )


def _metric(metric: Metric, yields: dict[str, list[str]]) -> tuple[str, str, str, str]:
    if not metric.meaning:
        raise MissingError(f"the metric {metric.name} has no meaning")
    return f"`{metric.name}`", metric.title, markdown(metric.meaning), ", ".join(yields.get(metric.name, ()))


def added() -> list[type]:
    """What experiments add to a run's record: their tables, and what each subject of theirs has of its own."""
    known = [experiments.load(name) for name in experiments.REGISTRY]
    types = [kind for one in known for kind in (one.table_type if one.table else None, one.own_type) if kind]
    return list(dict.fromkeys(types))


def records() -> str:
    """The types of ``run.json``, ``samples.jsonl`` and ``outcomes.jsonl``, with their fields."""
    parts = [f"These files have schema {header.SCHEMA_VERSION}.\n"]
    for kind in [*RECORDS, *added()]:
        heading = f"### {kind.__name__}\n\n{markdown(about(kind)[0])}\n\n"
        parts.append(heading + table(("field", "value", "default", "meaning"), _rows_of(kind)))
    return "\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands, "scenarios": scenarios, "images": images, "options": options, "metrics": metrics,
    "records": records,
}  # fmt: skip


def write() -> None:
    """Make all parts anew."""
    MADE.mkdir(exist_ok=True)
    for name, part in PARTS.items():
        (MADE / f"{name}.md").write_text(part(), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in PARTS:
        raise SystemExit(f"usage: {sys.argv[0]} {'|'.join(PARTS)}")
    sys.stdout.write(PARTS[sys.argv[1]]())
