"""Runs of which rows are gone, contradict each other, or hold what no run could have written: reported, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tare import reports
from tare.bench.errors import UsageError
from tare.bench.records import store
from tare.reports.analysis import build
from tare.reports.analysis.model import Report
from tare.reports.analysis.several import comparison
from tare.reports.page import render
from tests import warm
from tests.conftest import first
from tests.unit.reports import fixture as starts
from tests.unit.reports import ramps_fixture as ramps

pytestmark = pytest.mark.slow

Row = dict[str, Any]

NEEDED = [f"host_{name}_bytes" for name in ("total", "free", "available", "percpu_lists", "anon")]


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    subjects = [ramps.process(watched=True), ramps.container(watched=True, descends=True, busy=0.01)]
    return ramps.write(tmp_path / "ramp", subjects, rounds=2, probe="density")


def keep(path: Path, kept: Callable[[Row], bool]) -> int:
    """Remove rows of samples as a text editor would; return how many."""
    file = path / store.SAMPLES
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    left = [row for row in rows if kept(row)]
    file.write_text("".join(json.dumps(row) + "\n" for row in left), "utf-8")
    return len(rows) - len(left)


def rendered(path: Path) -> Report:
    """Everything that is made of a run, without the door that makes any failure bad input."""
    run = store.load(path)
    analysed = build.analyse(run)
    assert render.page(analysed)
    assert reports.render(analysed.report)
    return analysed.report


@pytest.mark.parametrize("metric", first(2, ["host_cached_bytes", *NEEDED, "host_deferred_splits_count"]))
@pytest.mark.parametrize("n", [0, 5, 50])
def test_a_reading_of_which_a_row_was_removed_is_left_out_and_said(ramp: Path, metric: str, n: int) -> None:
    gone = ("container", 2, n, "", metric)
    assert keep(ramp, lambda row: tuple(row[key] for key in ("subject", "round", "n", "stage", "metric")) != gone)
    report = rendered(ramp)
    (note,) = (note for note in report.notes if "counters of the host" in note)
    assert note.startswith("container: 1 reading lacks counters of the host")
    assert ("this ramp has no ledger" in note) == (n == 0)
    rounds = {(row.subject, row.n): row.rounds for row in report.analysis.ledger}
    lost = [1, 2, 5, 10, 20, 50] if n == 0 else [n]
    assert {key for key, known in rounds.items() if known == 1} == {("container", some) for some in lost}


@pytest.mark.parametrize("metric", first(1, NEEDED))
@pytest.mark.parametrize("stages", [("", "down", "after"), ("down",), ("after",)])
def test_a_counter_that_is_gone_altogether_leaves_what_does_not_need_it(
    ramp: Path, metric: str, stages: tuple[str, ...]
) -> None:
    assert keep(ramp, lambda row: row["metric"] != metric or row["stage"] not in stages)
    report = rendered(ramp)
    assert sum("lack counters of the host" in note for note in report.notes) >= 1
    assert bool(report.analysis.ledger) == ("" not in stages)
    assert {one.label: one.counts.ready for one in report.subjects} == {"process": 2, "container": 2}


@pytest.mark.parametrize("value", [-1e308, 1e308, -1.0])
def test_a_number_that_cannot_be_true_is_refused_by_its_line(tmp_path: Path, value: float) -> None:
    path = starts.write_run(tmp_path / "run")
    file = path / store.SAMPLES
    lines = file.read_text("utf-8").splitlines()
    lines[4] = json.dumps(json.loads(lines[4]) | {"value": value})
    file.write_text("\n".join(lines) + "\n", "utf-8")
    done = warm.tare("report", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "line 5 is damaged" in done.stderr
    assert "it could be" in done.stderr or "is negative" in done.stderr
    del lines[4]  # as the error tells
    file.write_text("\n".join(lines) + "\n", "utf-8")
    assert warm.tare("report", path).returncode == 0


@pytest.mark.parametrize("name", [store.SAMPLES, store.OUTCOMES])
@pytest.mark.parametrize("field", ["at_ns", "order", "n", "round", "reached", "lost"])
@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
def test_a_number_that_no_table_holds_is_refused_by_its_line(tmp_path: Path, name: str, field: str, value: int) -> None:
    path = starts.write_run(tmp_path / "run")
    lines = (path / name).read_text("utf-8").splitlines()
    row = json.loads(lines[0]) | {field: value}
    known = {store.SAMPLES: ("at_ns", "order", "n", "round"), store.OUTCOMES: ("order", "round", "reached", "lost")}
    (path / name).write_text("\n".join([json.dumps(row), *lines[1:]]) + "\n", "utf-8")
    if field in known[name]:
        with pytest.raises(UsageError, match="line 1 is damaged"):
            store.load(path)
    else:  # a field of another version
        rendered(path)


@pytest.mark.parametrize("key", ["run", "tables", "prices", "experiment"])
@pytest.mark.parametrize("value", [5, [3], None, "x", {"a": {}}])
def test_a_header_whose_scenario_is_none_is_refused_or_read(tmp_path: Path, key: str, value: object) -> None:
    path, other = (starts.write_run(tmp_path / name, rounds=2) for name in ("run", "other"))
    header = json.loads((path / store.HEADER).read_text("utf-8"))
    header["scenario"] = header.get("scenario", {}) | {key: value}
    (path / store.HEADER).write_text(json.dumps(header), "utf-8")
    right = {"experiment": str, "prices": list}.get(key, dict)
    if not isinstance(value, right) or value == [3]:
        with pytest.raises(UsageError, match="is damaged") as refused:
            store.load(path)
        assert str(path) in refused.value.what
        return
    mine, theirs = store.load(path), store.load(other)
    assert build.analyse(mine)
    for pair in ((mine, theirs), (theirs, mine)):
        if key == "experiment":
            with pytest.raises(UsageError, match="cannot be compared"):
                comparison.compare_runs(*pair)
        else:
            assert comparison.compare_runs(*pair)


def test_records_that_contradict_each_other_are_damage_and_no_fault_of_tare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = starts.write_run(tmp_path / "run")
    run = store.load(path)
    analysed = reports.analyse(run)

    def stumbles(*_: object) -> object:
        raise KeyError("host_anon_bytes")

    for made, words in (
        ("tare.reports.analysis.build.analyse", (reports.build, run)),
        ("tare.reports.page.render.page", (reports.html, analysed)),
        ("tare.reports.page.render.page", (reports.write, path)),
        ("tare.reports.analysis.several.comparison.compare_runs", (reports.compare_runs, run, run)),
    ):
        monkeypatch.setattr(made, stumbles)
        make, *given = words
        with pytest.raises(UsageError) as refused:
            make(*given)
        assert str(path) in refused.value.what
        assert "is damaged" in refused.value.what
        assert isinstance(refused.value.__cause__, KeyError)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), MemoryError(), UsageError("a size")])
def test_what_the_run_has_no_part_in_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    run = store.load(starts.write_run(tmp_path / "run"))

    def fails(*_: object) -> object:
        raise failure

    monkeypatch.setattr("tare.reports.analysis.build.analyse", fails)
    with pytest.raises(type(failure)) as told:
        reports.build(run)
    assert told.value is failure


def test_a_machine_without_memory_of_its_emulator_has_owners(tmp_path: Path) -> None:
    path = ramps.write(tmp_path / "run", [ramps.process(), ramps.vm()], rounds=1)
    assert keep(path, lambda row: row["metric"] not in ("pss_anon_bytes", "guest_ram_bytes"))
    assert "vm" in {stack.subject for stack in rendered(path).analysis.layers_memory}
