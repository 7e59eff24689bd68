"""Headers that an older tare wrote, as this one reads them; ``test_kept_runs.py`` holds the figures of whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tare.bench.errors import UsageError
from tare.bench.records import store, upgrades
from tare.bench.records.rows import SCHEMA_VERSION, RunHeader
from tare.bench.scenario.resolve import Subject
from tare.runners import layers
from tare.runners.payload import Payload
from tests.unit import reports_fixture as synthetic


def schema_1(path: Path, *subjects: synthetic.Subject) -> dict[str, Any]:
    """A run of *subjects* with a header as schema 1 had it."""
    file = synthetic.write_run(path, subjects, rounds=2) / store.HEADER
    header: dict[str, Any] = msgspec.json.decode(file.read_bytes())
    header["schema"] = 1
    for subject in header["subjects"]:
        subject["kind"] = layers.kind(subject["runner"], tuple(subject.pop("layers")))
        del subject["payload"]
    file.write_bytes(msgspec.json.encode(header))
    return header


def test_kinds_became_layers_and_words_what_they_say(tmp_path: Path) -> None:
    subjects = [synthetic.subject("process"), synthetic.subject("crun"), synthetic.subject("vm"), synthetic.null()]
    subjects.append(synthetic.delayed("container", 5))
    subjects.append(synthetic.subject("container", payload=Payload(touch_mib=32, release=True)))
    old = schema_1(tmp_path / "run", *subjects)
    assert [one["kind"] for one in old["subjects"]] == ["process", "container", "vm", "null", "container", "container"]
    read = store.load(tmp_path / "run").header
    assert isinstance(read, RunHeader)
    assert read.schema == SCHEMA_VERSION
    assert [one.layers for one in read.subjects] == [(), ("container",), ("vm",), (), ("container",), ("container",)]
    assert [one.payload for one in read.subjects[-2:]] == [
        Payload(delay_ms=5),
        Payload(touch_mib=32, release=True),
    ]


@pytest.mark.parametrize(
    "told",
    [
        Payload(),
        Payload(delay_ms=5, touch_mib=3, release="lazily", tell="memory", busy_percent=7),
        Payload(out_kib=1, err_kib=2, reads=True, floods=True, exit_code=3),
    ],
)
def test_what_a_payload_was_told_is_read_from_its_words(told: Payload) -> None:
    assert msgspec.convert(upgrades.payload(list(told.argv)), Payload) == told


def test_a_resolved_scenario_is_upgraded_too() -> None:
    subject = {"label": "a", "runner": "vm", "options": {}, "argv": ["/payload", "delay-ms=5"], "memory_bytes": 1}
    upgraded = upgrades.upgraded({"schema": 1, "scenario": {"subjects": [{**subject, "cpus": 1}]}}, 1)
    (read,) = msgspec.convert(upgraded["scenario"]["subjects"], list[Subject])
    assert read.argv == ("/payload", "delay-ms=5", "then=pause")


@pytest.mark.parametrize(
    "damage", ['"subjects": 5', '"subjects": [5, {"argv": 7, "kind": []}]', '"scenario": [], "subjects": []']
)
def test_a_damaged_header_of_an_old_run_is_refused_and_no_more(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "run"
    path.mkdir()
    (path / store.HEADER).write_text(f'{{"schema": 1, {damage}}}', encoding="utf-8")
    with pytest.raises(UsageError, match="damaged"):
        store.load(path)
