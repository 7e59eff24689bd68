"""One heap of values or several, on data whose answers are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from tare.bench.stats.modes import LEVEL, Mode, modes

Draw = Callable[[np.random.Generator, int], "np.ndarray[tuple[int], np.dtype[np.float64]]"]

ONE_MODE: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(10.0, 0.5, n),
    "lognormal": lambda rng, n: rng.lognormal(0.0, 0.5, n),
    "long-tailed lognormal": lambda rng, n: rng.lognormal(0.0, 1.5, n),
    "uniform": lambda rng, n: rng.uniform(1.0, 2.0, n),
    "exponential": lambda rng, n: 1.0 + rng.exponential(1.0, n),
    "its mirror": lambda rng, n: 40.0 - rng.exponential(1.0, n),
    "triangular": lambda rng, n: rng.triangular(1.0, 1.2, 5.0, n),
    "normal, counted in steps": lambda rng, n: np.round(rng.normal(20.0, 1.5, n)),
}


def heaps(rng: np.random.Generator, *of: tuple[float, int], spread: float = 0.05) -> list[float]:
    """So many values about each place, lognormal, in any order."""
    values = np.concatenate([place * rng.lognormal(0.0, spread, count) for place, count in of])
    return list(map(float, rng.permutation(values)))


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 10, 13, 20, 33, 100, 300, 1000])
@pytest.mark.parametrize("shape", ONE_MODE)
def test_of_samples_with_one_mode_one_in_a_hundred_at_most_is_said_to_have_two(shape: str, n: int) -> None:
    samples = 400 if n <= 100 else 100
    rng = np.random.default_rng([n, len(shape)])
    said = sum(bool(modes(ONE_MODE[shape](rng, n).tolist())) for _ in range(samples))
    # Expected: LEVEL at most. Above this bound a binomial count lies once in some thousand times.
    assert said <= LEVEL * samples + 3.3 * (LEVEL * samples) ** 0.5


@pytest.mark.parametrize("n", [8, 10, 12, 20, 50, 200, 1000])
def test_two_equal_heaps_are_found_with_their_values_and_shares(n: int) -> None:
    rng = np.random.default_rng(n)
    found = [modes(heaps(rng, (0.004, n // 2), (0.040, n - n // 2))) for _ in range(50)]
    assert sum(len(one) == 2 for one in found) >= 48
    low, high = next(one for one in found if len(one) == 2)
    assert [low.value, high.value] == pytest.approx([0.004, 0.040], rel=0.1)
    assert (low.share, high.share) == (0.5, 0.5)


@pytest.mark.parametrize(("many", "few"), [(0.004, 0.040), (0.040, 0.004)])
@pytest.mark.parametrize("n", [25, 50, 100, 400, 1000])
def test_a_heap_of_a_fifth_is_found(n: int, many: float, few: float) -> None:
    rng = np.random.default_rng(n)
    found = [modes(heaps(rng, (many, n - n // 5), (few, n // 5))) for _ in range(50)]
    assert sum(len(one) == 2 for one in found) >= 48
    small = min(found[0], key=lambda one: one.share)
    assert [small.value, small.share] == pytest.approx([few, 0.2], rel=0.1)


def test_heaps_that_overlap_are_found_once_there_are_enough_values() -> None:
    rng = np.random.default_rng(5)
    found = modes([*rng.normal(10.0, 1.0, 1000), *rng.normal(15.0, 1.0, 1000)])
    assert [round(one.value) for one in found] == [10, 15]


def test_equal_values_in_two_heaps_are_two_modes() -> None:
    assert modes([0.004] * 6 + [0.040] * 4) == (Mode(value=0.004, share=0.6), Mode(value=0.040, share=0.4))


def test_three_heaps_are_three_modes() -> None:
    rng = np.random.default_rng(1)
    found = modes(heaps(rng, (1.0, 20), (10.0, 20), (100.0, 20)))
    assert [round(one.value, -1) for one in found] == [0.0, 10.0, 100.0]
    assert [one.value for one in modes([4.0] * 6 + [40.0] * 5 + [400.0] * 5)] == [4.0, 40.0, 400.0]


def test_the_order_does_not_matter() -> None:
    values = [4.0, 4.1, 4.2, 3.9, 40.0, 41.0, 39.0, 40.5]
    assert all(modes(order) == modes(values) != () for order in itertools.islice(itertools.permutations(values), 50))


def test_a_few_far_values_are_outliers_and_no_mode() -> None:
    rng = np.random.default_rng(2)
    assert modes(heaps(rng, (4.0, 18), (40.0, 2))) == ()
    assert modes(heaps(rng, (4.0, 95), (40.0, 5))) == ()
    assert modes([0.004] * 7 + [5.0]) == ()


def test_an_outlier_does_not_hide_two_modes() -> None:
    rng = np.random.default_rng(3)
    assert len(modes([*heaps(rng, (4.0, 12), (40.0, 12)), 5000.0])) == 2


def test_what_would_be_no_difference_between_subjects_is_none_between_modes() -> None:
    assert modes([100.0] * 10 + [104.0] * 10) == ()
    assert len(modes([100.0] * 10 + [106.0] * 10)) == 2
    assert len(modes([100.0] * 10 + [106.0] * 10, resolution=2.0)) == 2
    assert modes([100.0] * 10 + [106.0] * 10, resolution=2.1) == ()


@pytest.mark.parametrize("n", [1, 2, 7])
def test_of_fewer_than_eight_values_nothing_is_said(n: int) -> None:
    assert modes([4.0] * (n // 2) + [40.0] * (n - n // 2)) == ()


def test_equal_values_are_one_heap() -> None:
    assert modes([5.0] * 30) == ()
    assert modes([0.0] * 30) == ()


def test_thousands_of_values_are_judged_by_a_part_and_counted_in_full() -> None:
    rng = np.random.default_rng(4)
    found = modes(heaps(rng, (4.0, 9000), (40.0, 3000)))
    assert [one.share for one in found] == [0.75, 0.25]
    assert modes(rng.exponential(1.0, 12000).tolist()) == ()


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(ValueError, match="no data"):
        modes([])
