"""Headers that an older tare wrote, as this one reads them; ``test_kept_runs.py`` holds the figures of whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from tare.bench import engine, experiments
from tare.bench.errors import UsageError
from tare.bench.experiments import ramp
from tare.bench.experiments.rules import StackTable
from tare.bench.host import workspace
from tare.bench.monitor import Silent
from tare.bench.records import store, upgrades
from tare.bench.records.header import SCHEMA_VERSION, RunHeader
from tare.bench.records.resolved import Subject
from tare.bench.records.rows import Stop
from tare.runners import layers
from tare.runners.payload import Payload
from tests.unit.reports import fixture as synthetic


def schema_3(path: Path, *subjects: synthetic.Subject) -> dict[str, Any]:
    """A run of *subjects* with a header as schema 3 had it: a subject's record says again what was asked of it."""
    file = synthetic.write_run(path, subjects, rounds=2) / store.HEADER
    header: dict[str, Any] = msgspec.json.decode(file.read_bytes())
    header["subjects"] = msgspec.to_builtins(store.load_header(path).subject_records())
    header["schema"] = 3
    file.write_bytes(msgspec.json.encode(header))
    return header


def schema_1(path: Path, *subjects: synthetic.Subject) -> dict[str, Any]:
    """A run of *subjects* with a header as schema 1 had it."""
    header = schema_3(path, *subjects)
    file = path / store.HEADER
    asked = header.pop("scenario")
    del header["precision"], asked["run"]["precision"], asked["run"]["max_rounds"]  # nobody asked for it then
    header |= {"schema": 1, "name": asked["name"], "question": asked["question"], "scenario_text": asked["text"]}
    header |= {"reference": asked["reference"], "pairs": asked["pairs"], **asked["run"]}
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
    assert [one.payload for one in read.subject_records()[-2:]] == [
        Payload(delay_ms=5),
        Payload(touch_mib=32, release=True),
    ]


def test_what_was_asked_of_a_subject_stands_in_the_scenario_alone(tmp_path: Path) -> None:
    subjects = [synthetic.subject("process"), synthetic.delayed("crun", 5), synthetic.subject("vm", options={"a": 1})]
    old = schema_3(tmp_path / "run", *subjects)
    read = store.load(tmp_path / "run").header
    assert read.schema == SCHEMA_VERSION
    assert msgspec.to_builtins(read.subject_records()) == old["subjects"]
    written = msgspec.to_builtins(read)
    assert {"label", "layers", "version", "manifest"} <= written["subjects"][1].keys()
    assert not {"runner", "options", "payload", "argv", "memory_bytes", "cpus"} & written["subjects"][1].keys()


def test_a_subject_that_the_scenario_does_not_have_is_damage(tmp_path: Path) -> None:
    old = schema_3(tmp_path / "run", synthetic.subject("process"))
    old["subjects"][0]["label"] = "stranger"
    (tmp_path / "run" / store.HEADER).write_bytes(msgspec.json.encode(old))
    with pytest.raises(UsageError, match="it has a subject 'stranger', and its scenario has not"):
        store.load(tmp_path / "run")


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
    upgraded = upgrades.header({"schema": 1, "scenario": {"subjects": [{**subject, "cpus": 1}]}}, 1)
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


def schema_2(path: Path, experiment: str, **scenario: Any) -> dict[str, Any]:
    """A run with a header and rows as schema 2 had them."""
    header = schema_3(path, synthetic.subject("process"))
    file = path / store.HEADER
    asked = header.pop("scenario")
    del header["precision"], asked["run"]["precision"], asked["run"]["max_rounds"]  # nobody asked for it then
    header |= {"schema": 2, "name": asked["name"], "question": asked["question"], "scenario_text": asked["text"]}
    header |= {"reference": asked["reference"], "pairs": asked["pairs"], **asked["run"]}
    header["scenario"] = {"probe": experiment, **scenario}
    file.write_bytes(msgspec.json.encode(header))
    return header


def test_the_scenario_stands_in_the_header_once(tmp_path: Path) -> None:
    stack = {"counts": [1, 2], "floor_percent": 20.0}
    subject = {"label": "process", "runner": "process", "options": {}, "payload": {}, "memory_bytes": 2**27, "cpus": 1}
    subjects = [{**subject, "counts": [1, 2], "most": 2, "reclaim_bytes": 0, "step_bytes": 65536}]
    old = schema_2(tmp_path / "run", "memory", least={}, stack=stack, prices=["own-host"], subjects=subjects)
    read = store.load(tmp_path / "run").header
    asked = read.scenario
    assert (asked.experiment, asked.text, asked.run.rounds) == ("memory", old["scenario_text"], 2)
    assert (asked.prices, asked.rootfs) == (("own-host",), None)
    assert asked.table(StackTable) == StackTable(counts=(1, 2), floor_percent=20.0)
    assert asked.subjects[0].keys(ramp.RampSubject) == ramp.RampSubject(counts=(1, 2), most=2)
    assert store.schema(tmp_path / "run") == 2
    assert experiments.plan(asked).noun == "ramp"


def test_rules_and_what_serves_all_were_texts(tmp_path: Path) -> None:
    schema_2(tmp_path / "run", "memory")
    outcomes, samples = tmp_path / "run" / store.OUTCOMES, tmp_path / "run" / store.SAMPLES
    outcomes.write_text(outcomes.read_text().replace('"stopped_by":null', '"stopped_by":"memory floor: 1 GiB: left"'))
    samples.write_text(samples.read_text().replace('"role":""', '"role":"dockerd (daemon)"', 1))
    read = store.load(tmp_path / "run")
    assert {outcome.stopped_by for outcome in read.outcomes} == {Stop(rule="memory floor", detail="1 GiB: left")}
    assert (read.samples[0].role, read.samples[0].serves) == ("dockerd", "daemon")
    assert (read.samples[1].role, read.samples[1].serves) == ("", "")


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("", None),
        ("limit: no room: x", Stop(rule="limit", detail="no room: x")),
        ("moon phase: full", Stop(rule="limit", detail="moon phase: full")),
    ],
)
def test_a_rule_is_read_from_its_text(text: str, stop: Stop | None) -> None:
    assert upgrades.stop(text) == stop


def test_a_run_of_an_older_schema_does_not_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema_2(tmp_path / "run", "startup")
    monkeypatch.setattr(workspace, "base", lambda: tmp_path)  # whatever else is measured here
    with pytest.raises(UsageError, match="an older tare began it"):
        engine.resume(tmp_path / "run", tmp_path, Silent())
