"""An experiment is one module and one line: a fifth one, of which no package knows, runs and is reported."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from tare import reports
from tare.bench import engine, experiments
from tare.bench.host import run_cgroup, workspace
from tare.bench.monitor import Silent
from tare.bench.records import store
from tare.reports.analysis import noise
from tests import fifth


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The one line; and a run that takes nothing of the host but a child process."""

    @contextmanager
    def nothing(name: str) -> Iterator[None]:
        yield None

    monkeypatch.setattr(workspace, "base", lambda: tmp_path)
    monkeypatch.setattr(run_cgroup, "opened", nothing)
    # The tests beside this one keep the host busy; what becomes of figures then is a test of its own.
    monkeypatch.setattr(noise, "refuse", lambda *_, **__: None)
    with fifth.registered():
        yield


def test_it_is_planned_by_its_name_with_its_own_table(tmp_path: Path) -> None:
    file = tmp_path / "end.toml"
    file.write_text(fifth.SCENARIO)
    planned = experiments.plan(experiments.scenario(file))
    assert planned.arithmetic() == "1 subject x 3 rounds = 3 ends, at most 3 starts"
    assert planned.scenario.table(fifth.EndTable).patience_s == 5
    file.write_text(fifth.SCENARIO.replace("patience_s = 5", "patience_s = 0"))
    with pytest.raises(Exception, match=r"end\.patience_s: expected `float` > 0"):
        experiments.scenario(file)


def test_it_runs_and_stands_in_the_page_the_terminal_and_the_json(tmp_path: Path) -> None:
    file = tmp_path / "end.toml"
    file.write_text(fifth.SCENARIO)
    result = engine.run(experiments.plan(experiments.scenario(file)), tmp_path / "runs", tmp_path / "cache", Silent())
    assert result.failed == 0
    loaded = store.load(result.path)
    assert [sample.metric for sample in loaded.samples] == ["ended_seconds"] * 3
    assert loaded.header.scenario.tables == {"end": {"patience_s": 5.0}}
    report = reports.build(loaded)
    data = json.loads(msgspec.json.encode(reports.data(report)))
    assert (data["experiment"], data["probe"]) == ("end", "end")
    (figure,) = data["subjects"][0]["figures"]
    assert (figure["metric"], figure["n"], figure["unit"]) == ("ended_seconds", 3, "seconds")
    assert "process ends after" in report.answer[0].lead
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(reports.render(report))
    assert isinstance(console.file, io.StringIO)
    assert "ended" in console.file.getvalue()
    page = reports.write(result.path).read_text(encoding="utf-8")
    assert fifth.ENDED.meaning in page
    assert "process ends after" in page
