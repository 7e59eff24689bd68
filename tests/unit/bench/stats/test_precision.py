"""Rounds until intervals are narrow: the width without numpy, the rule, and that it does not make up differences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tare.bench.stats import compare, medians, precision, verdict, width
from tare.bench.stats.medians import Floats
from tare.bench.stats.precision import Goal
from tests.conftest import first

#: What equal subjects may look like: (random, rounds, subjects) -> values, all columns of one distribution.
SHAPES: dict[str, Callable[[np.random.Generator, int, int], Floats]] = {
    "lognormal": lambda random, n, arms: np.exp(random.normal(0, 0.15, (n, arms))),
    "wide": lambda random, n, arms: np.exp(random.normal(0, 0.4, (n, arms))),
    "two modes": lambda random, n, arms: (
        np.where(random.random((n, arms)) < 0.7, 1.0, 1.5) * np.exp(random.normal(0, 0.04, (n, arms)))
    ),
    "halves": lambda random, n, arms: (
        np.where(random.random((n, arms)) < 0.5, 1.0, 1.3) * np.exp(random.normal(0, 0.03, (n, arms)))
    ),
    "drifting": lambda random, n, arms: (
        np.exp(np.cumsum(random.normal(0, 0.05, n)))[:, None] * np.exp(random.normal(0, 0.08, (n, arms)))
    ),
    "long tail": lambda random, n, arms: 1 + 0.3 * random.pareto(2.5, (n, arms)),
}
WANTED = 0.05


@pytest.mark.parametrize("n", [3, 4, 5, 8, 9, 20, 40, 41, 100, 299])
def test_the_width_is_that_of_the_interval_in_the_report(n: int) -> None:
    values = np.random.default_rng(n).lognormal(0, 0.3, n)
    drawn, known = medians.interval(values), width.interval(values.tolist())
    assert known is not None
    assert drawn[0] is not None
    ranks = np.searchsorted(np.sort(values), np.asarray((*drawn, *known), dtype=np.float64))
    # One is drawn 9999 times, the other counted: they may part by a place.
    assert abs(ranks[0] - ranks[2]) <= 1
    assert abs(ranks[1] - ranks[3]) <= 1


def test_of_many_rounds_the_width_is_that_of_the_places() -> None:
    values = np.random.default_rng(1).lognormal(0, 0.3, 1001)
    assert width.interval(values.tolist()) == pytest.approx(medians.interval(values))


def test_a_width_is_a_part_of_the_median() -> None:
    assert width.half_width([10.0] * 8) == 0.0
    assert width.half_width([9.0, 10.0, 11.0]) == pytest.approx(0.1)
    assert width.half_width([-9.0, -10.0, -11.0]) == pytest.approx(0.1)
    assert width.half_width([-1.0, 0.0, 1.0]) == math.inf
    assert width.half_width([0.0, 0.0, 0.0]) == 0.0
    assert width.half_width([1.0, 2.0]) is None


def test_half_widths_of_too_few_are_without_end() -> None:
    assert precision.half_widths({"a": [1.0], "b": [2.0] * 8}) == {"a": math.inf, "b": 0.0}


@pytest.mark.parametrize(
    ("rounds", "widest", "then"),
    [
        (8, 0.05, 8),  # narrow enough
        (8, 0.051, 10),  # nearly: a quarter more, at least
        (8, 0.06, 12),  # 8 * 1.44
        (8, 0.2, 16),  # not more than twice
        (8, math.inf, 16),
        (30, 0.2, 40),  # the cap
        (40, 0.2, 40),
    ],
)
def test_when_to_look_again(rounds: int, widest: float, then: int) -> None:
    assert precision.following(Goal(wanted=0.05, most=40), rounds, widest) == then


def rounds_taken(values: Floats, goal: Goal, least: int) -> int:
    """After how many of the rounds in *values* the rule ends."""
    done = least
    while True:
        half = precision.half_widths({str(arm): values[:done, arm].tolist() for arm in range(values.shape[1])})
        following = precision.following(goal, done, max(half.values()))
        if following == done:
            return done
        done = following


def false_verdicts(shape: str, runs: int, *, least: int = 12, most: int = 60, arms: int = 3) -> tuple[int, int, int]:
    """Of *runs* of equal subjects: verdicts of a difference, p at or below the level, and all comparisons."""
    random = np.random.default_rng(20260101)
    called = unlikely = made = 0
    for _ in range(runs):
        values = SHAPES[shape](random, most, arms)
        seen = values[: rounds_taken(values, Goal(wanted=WANTED, most=most), least)]
        for arm in range(1, arms):
            found = compare.verdict_on(seen[:, arm], seen[:, 0])
            called += found.verdict in ("lower", "higher")
            unlikely += found.p is not None and found.p <= verdict.ALPHA
            made += 1
    return called, unlikely, made


def most_by_chance(made: int) -> float:
    """More events of the level than this are seen in one of a thousand tries."""
    return made * verdict.ALPHA + 3.1 * math.sqrt(made * verdict.ALPHA * (1 - verdict.ALPHA))


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_subjects_are_not_called_different(shape: str) -> None:
    called, unlikely, made = false_verdicts(shape, 100)
    assert called <= unlikely <= most_by_chance(made)


@pytest.mark.proof
@pytest.mark.parametrize("shape", SHAPES)
def test_of_two_thousand_runs_of_equal_subjects_false_verdicts_stay_at_the_level(shape: str) -> None:
    called, unlikely, made = false_verdicts(shape, 2000)
    assert unlikely <= most_by_chance(made)
    assert called <= verdict.ALPHA * made


@pytest.mark.slow
@pytest.mark.parametrize("shape", first(1, SHAPES))
def test_more_subjects_and_an_earlier_first_look_are_no_danger(shape: str) -> None:
    called, unlikely, made = false_verdicts(shape, 500, least=8, most=40, arms=5)
    assert called <= unlikely <= most_by_chance(made)


def test_a_rule_that_ends_when_subjects_differ_most_would_be_seen() -> None:
    """The control: looking after each round at the difference itself calls equal subjects different."""
    random = np.random.default_rng(1)
    called = 0
    for _ in range(300):
        values = SHAPES["lognormal"](random, 60, 2)
        called += any(
            (compare.verdict_on(values[:n, 1], values[:n, 0]).p or 1.0) <= verdict.ALPHA for n in range(12, 61)
        )
    assert called > most_by_chance(300)


def test_real_differences_are_found_and_the_interval_is_as_narrow_as_wanted() -> None:
    random = np.random.default_rng(1)
    values = SHAPES["lognormal"](random, 200, 2) * [1.0, 1.3]
    taken = rounds_taken(values, Goal(wanted=WANTED, most=200), 12)
    assert 12 < taken < 200
    assert compare.verdict_on(values[:taken, 1], values[:taken, 0]).verdict == "higher"
    assert all((width.half_width(values[:taken, arm].tolist()) or 1.0) <= WANTED for arm in range(2))
