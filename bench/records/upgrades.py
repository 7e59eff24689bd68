"""What an older tare wrote, made into that of today: a run that was recorded once stays readable.

For headers, a step for each schema that was left behind, from its number to the next. What a step does not find as it
was written is left alone: the header is judged afterwards, as every header is. Rows changed with schema 3: the rule
that ended a ramp was a text (``count: 5``), and what a program does for all instances was part of its name
(``python (resident)``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, get_args

import msgspec

from tare.bench.records.rows import Outcome, Rule, Sample, Serves, Stop
from tare.runners import layers

Raw = dict[str, Any]

#: The first schema whose rows are those of today.
ROWS_SCHEMA = 3
#: Until schema 2: experiment -> its table; every scenario had all of them, and its subjects all their keys.
_TABLES = {"memory": "stack", "density": "stack", "least-memory": "least"}
_OWN = ("counts", "most", "reclaim_bytes", "step_bytes")
_RUN = ("rounds", "warmup", "seed", "cache", "ready", "timeout_s")
_SUBJECT = ("label", "runner", "memory_bytes", "cpus", "options", "payload", "workload")
#: What the payload was told by a word ``KEY=NUMBER``, and the field of :class:`runners.payload.Payload` that says it.
_NUMBERS = {
    "delay-ms": "delay_ms",
    "touch-mib": "touch_mib",
    "busy-percent": "busy_percent",
    "out-kib": "out_kib",
    "err-kib": "err_kib",
}
_WORDS: Mapping[str, Raw] = {
    "then=release": {"release": True},
    "then=release-lazily": {"release": "lazily"},
    "then=flood": {"floods": True},
    "tell=memory": {"tell": "memory"},
    "input=empty": {"reads": True},
}


def header(old: Raw, schema: int) -> Raw:
    """``run.json`` that was written with *schema*, as this tare would have written it."""
    for step in _STEPS[max(schema, 1) - 1 :]:
        old = step(old)
    return old


def _from_1(header: Raw) -> Raw:
    """Subjects had a ``kind``, one of four, and what the payload was told stood in their argv alone."""
    for subject in _tables(header.get("subjects")):
        kind = subject.pop("kind", None)
        if isinstance(kind, str):
            subject["layers"] = layers.of_kind(kind)
        subject["payload"] = payload(subject.get("argv"))
    scenario = header.get("scenario")
    for subject in _tables(scenario.get("subjects") if isinstance(scenario, dict) else None):
        subject["payload"] = payload(subject.pop("argv", None))
    return {**header, "schema": 2}


def _from_2(header: Raw) -> Raw:
    """The scenario stood there twice: as a table of any keys, and its keys beside it."""
    found = header.get("scenario")
    scenario: Raw = found if isinstance(found, dict) else {}
    experiment = scenario.get("probe", "startup")
    tables = sorted({*_TABLES.values()} & scenario.keys(), key=lambda table: table != _TABLES.get(experiment))
    moved = {key: key for key in ("name", "question", "reference", "pairs")} | {"text": "scenario_text"}
    gone = {*moved.values(), *_RUN}
    asked: Raw = {
        **{new: header[old] for new, old in moved.items() if old in header},
        **{key: scenario[key] for key in ("prices", "rootfs") if key in scenario},
        "experiment": experiment,
        "run": {key: header[key] for key in _RUN if key in header},
        "tables": {table: scenario[table] for table in tables},
        "subjects": _subjects(header.get("subjects"), scenario.get("subjects")),
    }
    return {**{key: value for key, value in header.items() if key not in gone}, "scenario": asked, "schema": 3}


def _from_3(header: Raw) -> Raw:
    """What was asked of a subject stood in the record of what was found of it, too."""
    asked = {*_SUBJECT, "argv"} - {"label"}
    subjects = header.get("subjects")
    if isinstance(subjects, list):
        found = [
            {key: value for key, value in one.items() if key not in asked} if isinstance(one, dict) else one
            for one in subjects
        ]
        header = {**header, "subjects": found}
    return {**header, "schema": 4}


def _subjects(records: object, asked: object) -> list[Raw]:
    """The subjects of a scenario; the first runs kept them, or some of them, as records of what was run alone."""
    known = {str(record.get("label")): record for record in _tables(records)}
    merged = [{**known.get(str(one.get("label")), {}), **one} for one in _tables(asked)]
    whole = {str(one["label"]): one for one in merged if one.keys() >= {*_SUBJECT[:4]}}
    return [
        {**{key: one[key] for key in _SUBJECT if key in one}, "own": {key: one[key] for key in _OWN if key in one}}
        for one in {**known, **whole}.values()
    ]


def payload(argv: object) -> Raw:
    """What a payload was told with *argv*, as the fields of :class:`runners.payload.Payload`."""
    found: Raw = {}
    for word in argv if isinstance(argv, list) else ():
        if not isinstance(word, str):
            continue
        key, _, value = word.partition("=")
        if key in _NUMBERS and value.isascii() and value.isdigit():
            found[_NUMBERS[key]] = int(value)
        elif word.startswith("then=exit:") and word[10:].isascii() and word[10:].isdigit():
            found["exit_code"] = int(word[10:])
        else:
            found |= _WORDS.get(word, {})
    return found


def _tables(found: object) -> Iterator[Raw]:
    entries: Iterable[object] = found if isinstance(found, list) else ()
    return (entry for entry in entries if isinstance(entry, dict))


def outcome(line: bytes) -> Outcome:
    """A row of ``outcomes.jsonl`` of an older schema. Raises msgspec.ValidationError for what is none."""
    row = msgspec.json.decode(line, type=dict[str, Any])
    if isinstance(row.get("stopped_by"), str):
        row["stopped_by"] = msgspec.to_builtins(stop(row["stopped_by"]))
    return msgspec.convert(row, Outcome)


def stop(text: str) -> Stop | None:
    """The rule that ended a ramp, told as ``rule: figures``; None for an empty text."""
    rule, _, detail = text.partition(": ")
    if not text:
        return None
    known = {name: name for name in get_args(Rule)}
    return Stop(rule=known[rule], detail=detail) if rule in known else Stop(rule="limit", detail=text)


def sample(row: Sample) -> Sample:
    """A row of ``samples.jsonl`` of an older schema."""
    for serves in filter(None, get_args(Serves)):
        if row.role.endswith(f" ({serves})"):
            return msgspec.structs.replace(row, role=row.role.removesuffix(f" ({serves})"), serves=serves)
    return row


_STEPS: tuple[Callable[[Raw], Raw], ...] = (_from_1, _from_2, _from_3)
