"""Predictions with known answers: noise of other processes, few readings, bends, memory that grows after ready."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tare import reports
from tare.bench.records import store
from tare.reports.sections.ramp.density.model import DensityRow
from tare.reports.sections.ramp.prediction import STILL_BYTES, Prediction, noise_bytes, predict, unseen
from tests.unit.reports import ramps_fixture as synthetic
from tests.unit.reports.ramps_fixture import KIB, MIB, Burden

COUNTS = (2, 5, 10, 20, 50, 100, 200, 500, 1000)


def line(readings: list[tuple[int, float]], reached: int) -> Prediction:
    found = predict(readings, reached)
    assert isinstance(found, Prediction), found
    return found


def density(path: Path, subject: str) -> DensityRow:
    found: DensityRow = next(row for row in reports.build(store.load(path)).analysis.density if row.subject == subject)
    return found


@pytest.mark.parametrize(
    ("margin", "noise", "counts", "widest"),
    [(100 * KIB, MIB, COUNTS, 0.2), (450 * KIB, MIB, COUNTS, 0.05), (184 * MIB, MIB, (2, 3, 5, 8, 12, 20, 45), 0.01)],
)
def test_the_interval_holds_what_is_read_in_95_of_100(
    margin: float, noise: float, counts: tuple[int, ...], widest: float
) -> None:
    held, widths = 0, []
    for seed in range(200):
        random = np.random.default_rng(seed)
        readings = [(n, 3 * MIB + margin * n + random.normal(0, noise)) for n in counts]
        n, real = readings[-1]
        found = line(readings, n)
        held += abs(found.at(n) - real) <= found.within(n)
        widths.append(found.within(n) / real)
    assert 0.9 <= held / 200 <= 0.99
    assert float(np.median(widths)) < widest


def test_a_few_that_happen_to_lie_on_a_line_are_not_known_better_than_settling_knows() -> None:
    found = line([(n, 140.0 * MIB * n) for n in (2, 3, 5, 14)], 14)
    assert found.reach == pytest.approx(1.96 * STILL_BYTES, rel=0.01)
    assert found.fits_least(14 * 140 * MIB) <= found.fits(14 * 140 * MIB) == 14 <= found.fits_most(14 * 140 * MIB)


def test_what_is_below_the_noise_is_too_small_to_be_seen() -> None:
    rough = [(2, 3.0 * MIB), (5, 0.5 * MIB), (10, 3.9 * MIB), (50, 5.0 * MIB)]
    said = predict(rough, 50)
    assert isinstance(said, str)
    assert "too small to be seen. From 2 to 10 alive" in said


@pytest.mark.parametrize(
    ("margin", "said"),
    [
        (100 * KIB, ""),
        (2 * KIB, "too small to be seen. From 2 to 50 alive"),
        (-100 * KIB, "the host had 4.69 MiB more free memory with 50 alive than with 2"),
    ],
)
def test_a_margin_that_cannot_be_told_from_nothing(margin: float, said: str) -> None:
    found = unseen([(float(n), MIB + margin * n) for n in (2, 5, 10, 20, 50)])
    assert found.startswith(said) if said else not found


def test_no_figure_where_one_round_cannot_see_the_margin(tmp_path: Path) -> None:
    """And one where it can, in the same report; with the reason where the figure would stand."""
    tiny = Burden(each={"payload": 1 * KIB})
    subjects = [synthetic.container("small", tiny, noise=3 * MIB), synthetic.container("large")]
    report = reports.build(store.load(synthetic.write(tmp_path / "run", subjects, rounds=1)))
    small, large = (next(f for f in one.figures if f.metric == "margin_bytes") for one in report.subjects)
    assert large.median is not None
    assert small.median is None
    assert small.why.startswith("no claim: too small to be seen. From 2 to 50 alive −1.28 MiB were taken")
    # Nor is it said by another section of the page.
    page = reports.write(tmp_path / "run").read_text("utf-8")
    counters = page[page.index('<section id="counters">') :].partition("</section>")[0]
    assert counters.count("no claim") == 1


def test_where_early_readings_bend_the_last_of_them_count() -> None:
    # 300 KiB each up to 40 alive, where room in the kernel's slabs is used up; 700 KiB from there on.
    readings = [(n, 300.0 * KIB * n + 400.0 * KIB * max(0, n - 40)) for n in COUNTS]
    found = line(readings, 1000)
    assert found.readings[0] >= 50
    assert found.at(1000) == pytest.approx(readings[-1][1], rel=0.02)


@pytest.mark.parametrize("growth", [0.0, 0.05, 0.1])
def test_machines_that_grow_after_ready_are_predicted_within_a_tenth(growth: float) -> None:
    """45 machines from 2, 3, 5 and 8: each has *growth* less when it is ready, and takes the rest within ten starts."""

    def used(n: int) -> float:
        return sum(184 * MIB * (1 - growth * math.exp(-age / 3)) for age in range(n))

    found = line([(n, used(n)) for n in (1, 2, 3, 5, 8, 12, 20, 30, 40, 45)], 45)
    assert found.readings == (2, 3, 5, 8)
    assert abs(used(45) / found.at(45) - 1) < 0.1
    assert abs(45 / found.fits(used(45)) - 1) < 0.1


def test_noise_is_found_whatever_the_shape() -> None:
    random = np.random.default_rng(3)
    curve = [(float(n), 1e6 * n**1.2 / 50 + random.normal(0, MIB)) for n in range(1, 200)]
    assert noise_bytes(curve) == pytest.approx(MIB, rel=0.2)
    assert noise_bytes([(1.0, 5e9), (2.0, 6e9)]) == STILL_BYTES  # two say nothing


def test_what_other_processes_take_is_no_part_of_the_prediction(tmp_path: Path) -> None:
    """On a busy host they take and give by tens of megabytes: more than a hundred small processes have in all."""
    counts = (1, 2, 5, 10, 20, 50, 100, 200, 400)
    busy = synthetic.process(counts=counts, noise=25.0 * MIB)
    found = density(synthetic.write(tmp_path / "run", [busy], rounds=1, probe="density"), "process")
    assert found.error_fraction == pytest.approx(0.0, abs=0.01)
    assert found.reached_bytes == pytest.approx(400 * 108 * KIB)
    assert abs(found.others_bytes) > MIB


def test_a_knee_must_pass_the_noise_too(tmp_path: Path) -> None:
    late = Burden(each={"payload": 500 * KIB}, late={"slab": 200 * KIB}, bend=250)
    counts = (2, 5, 10, 20, 50, 100, 200, 300, 400, 500)
    path = synthetic.write(
        tmp_path / "bent", [synthetic.container(burden=late, counts=counts)], rounds=1, probe="density"
    )
    assert density(path, "container").knee == 300
    straight = Burden(each={"payload": 500 * KIB})
    path = synthetic.write(
        tmp_path / "straight", [synthetic.container(burden=straight, counts=counts)], rounds=1, probe="density"
    )
    assert density(path, "container").knee is None
