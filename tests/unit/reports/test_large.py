"""Runs of many rounds: figures keep a bounded number of marks, and their extremes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tare import reports
from tare.bench.records import store
from tare.reports.charts import marks
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
    assert (found.edges[0], found.edges[-1]) == pytest.approx((values.min(), values.max()))
    assert marks.density(np.full(5, 3.0)).height.max() == 1.0


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
    assert (found.most.max(), found.least.min(), set(found.middle)) == (9.0, 1.0, {1.0})
    few = marks.binned(np.repeat([1.0, 2.0, 5.0], 500), np.ones(1500), rows=4)
    assert few.at.tolist() == [1.0, 2.0, 5.0]


def test_only_some_of_very_many_failures_are_shown_one_by_one(tmp_path: Path) -> None:
    from dataclasses import replace

    broken = replace(synthetic.subject("crun"), failed_rounds=dict.fromkeys(range(1, 251), "no"))
    run = store.load(synthetic.write_run(tmp_path / "run", [synthetic.subject("process"), broken], rounds=250))
    page = reports.html(reports.analyse(run))
    assert page.count("The end of <code>logs/") == 200
    assert "And 50 more" in page
