"""Numbers that do not count are in no figure, whichever they are; and a report can be made without them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tare import reports
from tare.bench.records import store
from tare.bench.records.rows import Outcome, Sample
from tare.reports.analysis.model import Report
from tests.conftest import first
from tests.unit.reports import fixture as starts
from tests.unit.reports import ramps_fixture as ramps

pytestmark = pytest.mark.slow

WHY = "the measuring process did not run for 9.60 s: it was stopped, frozen, or got no processor"


def spoil(path: Path, spoilt: Callable[[Sample], bool]) -> int:
    """Mark samples of a run as invalid, with values that would show in any figure; return how many."""
    file = path / store.SAMPLES
    rows = [msgspec.json.decode(line, type=Sample) for line in file.read_bytes().splitlines()]
    hit = [spoilt(row) for row in rows]
    rows = [
        msgspec.structs.replace(row, value=row.value * 1000, invalid=WHY) if bad else row
        for row, bad in zip(rows, hit, strict=True)
    ]
    file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return sum(hit)


def end(path: Path, trial: str, status: str) -> None:
    file = path / store.OUTCOMES
    rows = [msgspec.json.decode(line, type=Outcome) for line in file.read_bytes().splitlines()]
    rows = [msgspec.structs.replace(row, status=status, reason=WHY) if row.trial == trial else row for row in rows]
    file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def medians(report: Report) -> dict[tuple[str, str], float | None]:
    return {(one.label, figure.metric): figure.median for one in report.subjects for figure in one.figures}


def test_an_invalid_trial_is_in_no_figure_and_no_failure_of_its_subject(tmp_path: Path) -> None:
    path = starts.write_run(tmp_path / "run", [starts.subject("process"), starts.subject("vm")])
    fine = medians(reports.build(store.load(path)))
    spoil(path, lambda row: row.trial == "r3-process")
    end(path, "r3-process", "invalid")
    run = store.load(path)
    report = reports.build(run)
    process = next(one for one in report.subjects if one.label == "process")
    assert (process.counts.planned, process.counts.started, process.counts.ready) == (10, 9, 9)
    assert (process.counts.failed, process.counts.invalid) == (0, 1)
    assert {figure.n for figure in process.figures} == {9}
    assert medians(report) == pytest.approx(fine, rel=0.1)
    (failure,) = report.failures
    assert (failure.status, failure.reason) == ("invalid", WHY)
    assert any(f"samples do not count, and are left out: {WHY}" in note for note in report.notes)
    assert f"invalid: {WHY}" in reports.html(reports.analyse(run))


def test_an_attempt_that_was_run_again_is_replaced_whole(tmp_path: Path) -> None:
    path = starts.write_run(tmp_path / "run", [starts.subject("process")])
    before = reports.build(store.load(path))
    rows = [row for row in store.load(path).samples if row.trial == "r3-process"]
    spoilt = [msgspec.structs.replace(row, value=row.value * 1000, invalid=WHY) for row in rows]
    file = path / store.SAMPLES
    file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in spoilt) + file.read_bytes())
    assert reports.build(store.load(path)) == before


def test_a_subject_all_of_whose_trials_are_invalid_says_why_it_has_no_figure(tmp_path: Path) -> None:
    path = starts.write_run(tmp_path / "run", [starts.subject("process"), starts.subject("vm")], rounds=3, warmup=0)
    spoil(path, lambda row: row.subject == "vm")
    for number in (1, 2, 3):
        end(path, f"r{number}-vm", "invalid")
    report = reports.build(store.load(path))
    vm = next(one for one in report.subjects if one.label == "vm")
    assert {figure.why for figure in vm.figures} == {
        "no figure: 3 trials invalid because the measuring process did not run"
    }


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    subjects = [ramps.process(watched=True), ramps.container(watched=True, descends=True, busy=0.01)]
    return ramps.write(tmp_path / "ramp", subjects, rounds=3, probe="density")


def render(path: Path) -> Report:
    """Everything that is made of a run, so that nothing in it stumbles."""
    run = store.load(path)
    report = reports.build(run)
    assert reports.html(reports.analyse(run))
    assert reports.render(report)
    return report


def test_starts_that_do_not_count_move_no_figure_of_a_ramp(ramp: Path) -> None:
    fine = medians(render(ramp))
    assert spoil(ramp, lambda row: row.metric == "ready_seconds" and row.n % 7 == 0)
    assert medians(render(ramp)) == pytest.approx(fine, rel=0.1)


def test_a_removal_that_does_not_count_leaves_its_round_out_of_the_way_down(ramp: Path) -> None:
    timed = ("removal_seconds", "teardown_seconds")
    assert spoil(ramp, lambda row: row.round == 2 and row.metric in timed)
    (found,) = render(ramp).analysis.descents
    assert found.rounds == 2
    assert found.seconds == pytest.approx(0.05)
    assert spoil(ramp, lambda row: row.metric in timed)
    assert render(ramp).analysis.descents == ()


@pytest.mark.parametrize("n", [1, 5, 50])
@pytest.mark.parametrize("rounds", first(1, [(2,), (1, 2, 3)]))
def test_readings_that_do_not_count_are_left_out(ramp: Path, n: int, rounds: tuple[int, ...]) -> None:
    fine = medians(render(ramp))
    spoilt = spoil(
        ramp,
        lambda row: row.n == n and row.round in rounds and not row.stage and row.metric not in ("ready_seconds",),
    )
    assert spoilt
    for key, value in medians(render(ramp)).items():
        if value is not None and key[1] != "first_bytes":
            assert value == pytest.approx(fine[key], rel=0.2)


@pytest.mark.parametrize("seed", first(4, range(12)))
def test_a_report_can_be_made_whatever_does_not_count(ramp: Path, seed: int) -> None:
    rng = random.Random(seed)
    share = rng.choice([0.02, 0.2, 0.7])
    chosen: dict[tuple[str, int, str, str], bool] = {}

    def spoilt(row: Sample) -> bool:
        """Steps as the engine knows them: a start, a reading, a removal. Without a ground there is no ramp."""
        if (row.stage and row.metric not in ("removal_seconds", "teardown_seconds")) or row.n == 0:
            return False
        step = "start" if row.metric == "ready_seconds" else "reading"
        if row.metric.startswith("inside_"):
            return False
        return chosen.setdefault((row.trial, row.n, row.stage, step), rng.random() < share)

    spoil(ramp, spoilt)
    render(ramp)
