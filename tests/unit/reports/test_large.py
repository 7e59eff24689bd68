"""Runs of many rounds: figures keep a bounded number of marks, and their extremes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tare import reports
from tare.bench.records import store
from tare.reports.charts import marks
from tare.reports.sections.ramp.density.verification import MOST_RAMPS
from tare.reports.sections.ramp.ramps import MOST_COUNTS
from tests.unit.reports import fixture as synthetic
from tests.unit.reports import ramps_fixture as ramps

#: Marks, axes, rings and labels of one figure.
MOST_ELEMENTS = 2 * marks.MOST


def figures(page: str) -> list[str]:
    return re.findall("<svg.*?</svg>", page, re.DOTALL)


@pytest.mark.parametrize("rounds", [12, 700])
def test_no_figure_of_starts_has_more_marks_than_some_hundred(tmp_path: Path, rounds: int) -> None:
    analysed = reports.analyse(store.load(synthetic.write_run(tmp_path / "run", rounds=rounds)))
    page = reports.html(analysed)
    assert all(len(re.findall("<use|<path", figure)) <= MOST_ELEMENTS for figure in figures(page))
    many = "A dot for each start would be too many"
    assert (many in page) == (rounds == 700)
    assert ("One dot is one start" in page) == (rounds == 12)


def test_no_figure_of_a_ramp_has_more_marks_than_some_hundred(tmp_path: Path) -> None:
    path = ramps.write(tmp_path / "run", [ramps.process(), ramps.container()], rounds=150)
    page = reports.html(reports.analyse(store.load(path)))
    assert all(len(re.findall("<use|<path", figure)) <= MOST_ELEMENTS for figure in figures(page))


def test_a_shape_is_highest_where_values_are_most_frequent() -> None:
    values = np.random.default_rng(1).lognormal(0.0, 0.1, 10_000)
    found = marks.density(values)
    fullest = int(np.argmax(found.height))
    assert found.edges[fullest] == pytest.approx(1.0, rel=0.1)
    assert (found.edges[0], found.edges[-1]) == pytest.approx((np.min(values), np.max(values)))
    assert np.max(marks.density(np.full(5, 3.0)).height) == 1.0


def test_the_farthest_values_stay_marks_of_their_own() -> None:
    values = np.random.default_rng(2).permutation(np.arange(1.0, 1001.0))
    kept = sorted(values[marks.ends(values)])
    assert kept == [*range(1, marks.ENDS + 1), *range(1001 - marks.ENDS, 1001)]


def test_bins_reach_from_their_least_to_their_largest_value() -> None:
    x = np.arange(1000.0)
    y = np.ones(1000)
    y[777] = 9.0
    found = marks.binned(x, y, rows=3)
    assert len(found.at) <= marks.MOST // 9
    assert (np.max(found.most), np.min(found.least), set(found.middle)) == (9.0, 1.0, {1.0})
    few = marks.binned(np.repeat([1.0, 2.0, 5.0], 500), np.ones(1500), rows=4)
    assert few.at.tolist() == [1.0, 2.0, 5.0]


def test_only_some_of_very_many_failures_are_shown_one_by_one(tmp_path: Path) -> None:
    from dataclasses import replace

    broken = replace(synthetic.subject("crun"), failed_rounds=dict.fromkeys(range(1, 251), "no"))
    run = store.load(synthetic.write_run(tmp_path / "run", [synthetic.subject("process"), broken], rounds=250))
    page = reports.html(reports.analyse(run))
    assert page.count("The end of <code>logs/") == 200
    assert "And 50 more" in page


def test_a_ramp_of_very_many_counts_has_a_bounded_report_that_says_so(tmp_path: Path) -> None:
    counts = range(1, 401)
    burden = ramps.Burden(each={"payload": 44 * ramps.KIB, "slab": 300 * ramps.KIB})
    many = ramps.container(burden=burden, counts=counts, watched=True, descends=True, noise=64 * ramps.KIB)
    analysed = reports.analyse(store.load(ramps.write(tmp_path / "run", [many], probe="density", rounds=3)))
    found = analysed.report.analysis
    read = [row.n for row in found.ledger]
    assert (read[0], read[-1], len(read) <= MOST_COUNTS + 2) == (1, 400, True)
    assert all(len(curve.points) <= MOST_COUNTS + 1 for curve in found.curves)
    assert len(found.margins) < MOST_COUNTS
    # Nothing is lost: every start and every removal is in one of the points.
    ready = next(curve for curve in found.curves if curve.metric == "ready_seconds")
    assert sum(point.readings for point in ready.points) == 3 * 400
    down = found.descents[0].points
    assert sum(point.removed for point in down) == 400
    assert sum(point.removal_seconds or 0.0 for point in down) == pytest.approx(0.4)
    # The lines rest on all counts.
    line = next(line for line in found.fits if line.counter == "host_change")
    assert (len(line.numbers), line.b) == (400, pytest.approx(344 * ramps.KIB, rel=0.01))
    page = reports.html(analysed)
    assert "from 79 readings at 2 to 80; memory would" in page
    assert "was read at 401 counts. Tables and curves show 60 of them" in page
    assert all(len(re.findall("<use|<path", figure)) <= MOST_ELEMENTS for figure in figures(page))


def test_the_farthest_residual_keeps_its_row_among_very_many(tmp_path: Path) -> None:
    path = ramps.write(tmp_path / "run", [ramps.container(counts=range(1, 201))], rounds=1)
    samples = path / "samples.jsonl"
    lines = samples.read_bytes().splitlines(keepends=True)
    place = next(at for at, line in enumerate(lines) if b'"host_anon_bytes"' in line and b'"n":78' in line)
    lines[place] = re.sub(rb'"value":[0-9.e+]+', b'"value":0.0', lines[place])
    samples.write_bytes(b"".join(lines))
    rows = reports.build(store.load(path)).analysis.ledger
    assert max(rows, key=lambda row: abs(row.residual_bytes)).n == 78


def test_very_many_ramps_of_a_subject_are_predicted_for_some_and_the_ends_are_among_them(tmp_path: Path) -> None:
    path = ramps.write(tmp_path / "run", [ramps.container()], probe="density", rounds=120)
    outcomes = path / "outcomes.jsonl"
    lines = outcomes.read_bytes().splitlines(keepends=True)
    lines[76] = lines[76].replace(b'"reached":50', b'"reached":20')
    outcomes.write_bytes(b"".join(lines))
    analysed = reports.analyse(store.load(path))
    rows = analysed.report.analysis.density
    assert len(rows) <= MOST_RAMPS
    assert (rows[0].round, rows[-1].round) == (1, 120)
    assert [row.round for row in rows if row.reached == 20] == [77]
    assert f"container: 120 ramps ended. The predictions of {MOST_RAMPS} of them are shown" in reports.html(analysed)


@pytest.mark.parametrize("counts", [(1, 2, 5, 10, 100, 1000), (2, 3, 4, 5000)])
def test_the_last_of_few_counts_may_be_many_times_the_one_before(tmp_path: Path, counts: tuple[int, ...]) -> None:
    path = ramps.write(tmp_path / "run", [ramps.process(counts=counts)], probe="density", rounds=3)
    (found,) = reports.build(store.load(path)).analysis.constancy
    assert (found.split, found.end) == counts[-2:]
