"""The JSON Schema of run directories: ``python -m tare.bench.schema > results/schema.json``.

It is made from the types of :mod:`bench.records`, and from those that each registered experiment has for its own table
and for what it adds to a subject.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any

import msgspec

from tare.bench import experiments
from tare.bench.records.header import SCHEMA_VERSION, RunHeader
from tare.bench.records.rows import Outcome, Sample

_TEMPLATE = "#/$defs/{name}"


def generate() -> dict[str, Any]:
    """One document: ``run.json`` is a RunHeader, each line of samples.jsonl a Sample, of outcomes.jsonl an Outcome.

    An installed package's experiment is in it, too; what is committed is made where there is none.
    """
    known = [experiments.load(name) for name in experiments.REGISTRY]
    tables = {one.table: one.table_type for one in known if one.table}
    own = dict.fromkeys(one.own_type for one in known if one.own_type is not None)
    (header, sample, outcome, *added), definitions = msgspec.json.schema_components(
        [RunHeader, Sample, Outcome, *tables.values(), *own], ref_template=_TEMPLATE
    )
    # Another tare may know a table that this one does not.
    named = dict(zip(tables, added, strict=False))
    scenario = definitions["Scenario"]["properties"]
    scenario["tables"] = {**scenario["tables"], "properties": named}
    subject = definitions["Subject"]["properties"]
    subject["own"] = {**subject["own"], "anyOf": [*added[len(tables) :], {"maxProperties": 0}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tare run directory",
        "version": SCHEMA_VERSION,
        "files": {"run.json": header, "samples.jsonl": sample, "outcomes.jsonl": outcome},
        "$defs": {name: _dedented(one) for name, one in definitions.items()},
    }


def _dedented(definition: dict[str, Any]) -> dict[str, Any]:
    """Python 3.13 dedents docstrings, 3.11 does not: the schema may not depend on it."""
    return {**definition, "description": inspect.cleandoc(definition["description"])}


def text() -> str:
    """The document as it is committed."""
    return msgspec.json.format(msgspec.json.encode(generate(), order="sorted"), indent=1).decode() + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
