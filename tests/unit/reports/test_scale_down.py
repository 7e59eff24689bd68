"""The scale-down of synthetic ramps, of which each removal's time and what does not come back are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tare import reports
from tare.bench.records import store
from tare.reports.analysis.model import Report
from tests.unit.reports import ramps_fixture as synthetic
from tests.unit.reports.ramps_fixture import KIB, MIB, Burden

pytestmark = pytest.mark.slow

LEFT = Burden(each={"payload": 44 * KIB, "slab": 56 * KIB}, left=10.0 * KIB)


def build(path: Path, *subjects: synthetic.Climber, rounds: int = 1) -> Report:
    synthetic.write(path, [synthetic.process(), *subjects], rounds=rounds, probe="density")
    return reports.build(store.load(path))


@pytest.mark.parametrize("rounds", [1, 3])
def test_each_number_left_has_its_time_and_what_is_still_gone(tmp_path: Path, rounds: int) -> None:
    report = build(tmp_path / "run", synthetic.container(burden=LEFT, descends=True), rounds=rounds)
    (found,) = report.analysis.descents
    assert (found.subject, found.rounds, found.reached) == ("container", rounds, 50)
    assert [point.n for point in found.points] == [50, 20, 10, 5, 2, 1, 0]
    assert [point.removed for point in found.points] == [0, 30, 10, 5, 3, 1, 1]
    assert found.seconds == pytest.approx(0.05)
    assert all(point.each_seconds == pytest.approx(0.001) for point in found.points[1:])
    up = [point.up_bytes for point in found.points]
    assert up == pytest.approx([100 * KIB * point.n for point in found.points])
    stays = [point.down_bytes - point.up_bytes for point in found.points]
    assert stays == pytest.approx([10 * KIB * (50 - point.n) for point in found.points])


def test_the_sentence_says_what_was_back_half_way_and_at_the_end(tmp_path: Path) -> None:
    (found,) = build(tmp_path / "run", synthetic.container(burden=LEFT, descends=True)).analysis.descents
    # With 20 of 50 left 2300 of 5000 KiB are gone; with none, 500.
    assert found.sentence == (
        "50 were removed in 50.0 ms, 1.00 ms each; with 20 left, 54.0 % of the memory taken was free again, "
        "and after the last, 90.0 %."
    )


def test_nothing_is_claimed_of_memory_whose_account_does_not_balance(tmp_path: Path) -> None:
    lost = Burden(each={"payload": 20 * MIB, "unaccounted": 3 * MIB})
    (found,) = build(tmp_path / "run", synthetic.container(burden=lost, descends=True)).analysis.descents
    assert not found.balanced
    assert found.sentence == "50 were removed in 50.0 ms, 1.00 ms each; no claim about their memory."


def test_a_run_that_removed_all_at_once_has_no_way_down_and_still_a_page(tmp_path: Path) -> None:
    report = build(tmp_path / "run", synthetic.container(burden=LEFT))
    assert report.analysis.descents == ()
    assert "Scale-down" not in reports.write(tmp_path / "run").read_text("utf-8")


def test_the_page_draws_it(tmp_path: Path) -> None:
    build(tmp_path / "run", synthetic.container(burden=LEFT, descends=True))
    page = reports.write(tmp_path / "run").read_text("utf-8")
    assert "Scale-down" in page
    for size in ("w", "n"):  # for a desk, and for a phone
        assert f"removals-{size}" in page
        assert f"descent-{size}" in page
