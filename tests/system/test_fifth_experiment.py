"""The fifth experiment on a process and in a container, as a run of the whole instrument."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tare import reports
from tare.bench import engine, experiments
from tare.bench.monitor import Silent
from tare.bench.records import metrics, store
from tare.runners.image.cache import cache_dir
from tests import fifth

CONTAINER = '[[subjects]]\nlabel = "container"\nrunner = "container"\n'


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with fifth.registered():
        yield


def test_it_runs_on_a_process_and_in_a_container_and_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "end.toml"
    file.write_text(fifth.SCENARIO + CONTAINER)
    result = engine.run(experiments.plan(experiments.scenario(file)), tmp_path / "runs", cache_dir(), Silent())
    del metrics.METRICS[fifth.ENDED.name]  # as in a process that only reads
    assert (result.failed, result.header.leaks) == (0, ())
    report = reports.build(store.load(result.path))
    subjects = json.loads(msgspec.json.encode(reports.data(report)))["subjects"]
    assert [(one["label"], one["figures"][0]["n"]) for one in subjects] == [("process", 3), ("container", 3)]
    assert fifth.ENDED.meaning in reports.write(result.path).read_text(encoding="utf-8")
