"""Lines whose two numbers are known."""

from __future__ import annotations

import random

import pytest

from tare.bench.stats.fit import fit, robust


def line(a: float, b: float, seed: int, spread: float = 0.0, bend: float = 0.0) -> list[tuple[float, float]]:
    rng = random.Random(seed)
    return [(n, a + b * n + bend * n * n + rng.gauss(0, spread)) for n in (1, 2, 5, 10, 20, 50)]


def test_a_known_line_is_found_with_both_of_its_numbers() -> None:
    found = fit([line(100.0, 7.0, seed, 2.0) for seed in range(8)])
    assert found.b_low is not None
    assert found.b_high is not None
    assert found.a_low is not None
    assert found.a_high is not None
    assert found.b_low <= 7.0 <= found.b_high
    assert found.b == pytest.approx(7.0, rel=0.02)
    assert found.a_low <= 100.0 <= found.a_high
    assert found.straight
    assert found.rounds == 8


def test_what_the_first_instance_brings_stays_out_of_the_slope() -> None:
    points = [(n, y + (500.0 if n == 1 else 0.0)) for n, y in line(0.0, 3.0, 1)]
    assert fit([points]).b == pytest.approx(3.0)


def test_one_wild_reading_does_not_move_the_line() -> None:
    rounds = [line(10.0, 4.0, seed, 0.5) for seed in range(8)]
    rounds[3][4] = (20, 9e9)
    assert fit(rounds).b == pytest.approx(4.0, rel=0.05)


def test_a_curve_is_not_called_a_line() -> None:
    curved = fit([line(10.0, 4.0, seed, 0.5, bend=0.1) for seed in range(8)])
    assert not curved.straight
    assert curved.bend > 0


def test_two_rounds_have_no_interval_and_two_points_no_line() -> None:
    assert fit([line(1.0, 2.0, 1), line(1.0, 2.0, 2)]).b_low is None
    with pytest.raises(ValueError, match="three numbers"):
        fit([[(1, 1.0), (2, 2.0), (5, 3.0)]])
    with pytest.raises(ValueError, match="no data"):
        fit([])


@pytest.mark.parametrize("count", [400, 401, 5000])
def test_a_line_through_very_many_points_is_found_by_some_of_their_pairs(count: int) -> None:
    rng = random.Random(3)
    points = [(float(n), 100.0 + 7.0 * n + rng.gauss(0, 20)) for n in rng.sample(range(count), count)]
    # One reading in ten went wrong.
    points[::10] = [(n, y + 10_000) for n, y in points[::10]]
    assert robust(points).b == pytest.approx(7.0, rel=0.01)
