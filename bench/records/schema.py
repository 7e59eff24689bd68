"""The JSON Schema of run directories, made from :mod:`bench.records`: ``python -m tare.bench.records.schema``."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import msgspec

from tare.bench.records.rows import SCHEMA_VERSION, Outcome, RunHeader, Sample


def generate() -> dict[str, Any]:
    """One document: ``run.json`` is a RunHeader, each line of samples.jsonl a Sample, of outcomes.jsonl an Outcome."""
    (header, sample, outcome), definitions = msgspec.json.schema_components(
        [RunHeader, Sample, Outcome], ref_template="#/$defs/{name}"
    )
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
