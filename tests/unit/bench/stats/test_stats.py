"""Statistics on data whose answers are known."""

from __future__ import annotations

import random

import numpy as np
import pytest
import scipy.stats

from tare.bench.stats import compare, estimate, medians, ranks, verdict
from tare.bench.stats.medians import Floats


def normal(seed: int, n: int, mean: float = 10.0, spread: float = 0.5) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(mean, spread) for _ in range(n)]


def test_estimate_of_known_numbers() -> None:
    found = estimate.estimate([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (found.median, found.n, found.p99) == (3.0, 5, None)
    assert found.low is not None
    assert found.high is not None
    assert 1.0 <= found.low <= 3.0 <= found.high <= 100.0


def test_no_interval_from_two_values_and_p99_only_from_300() -> None:
    assert estimate.estimate([1.0, 2.0]).low is None
    assert estimate.estimate(normal(1, 299)).p99 is None
    assert estimate.estimate(normal(1, 300)).p99 is not None


def test_the_interval_covers_the_true_median_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        found = estimate.estimate(normal(seed, 20))
        hits += found.low <= 10.0 <= found.high  # type: ignore[operator]
    assert 180 <= hits <= 199  # 95 %: 190 expected


def test_equal_values_give_that_value_as_interval() -> None:
    found = estimate.estimate([5.0] * 8)
    assert (found.low, found.median, found.high) == (5.0, 5.0, 5.0)


def test_the_same_data_give_the_same_interval() -> None:
    assert estimate.estimate(normal(3, 12)) == estimate.estimate(normal(3, 12))


def test_a_a_is_silent() -> None:
    """100 pairs without a difference: at ALPHA = 0.01, with the least change on top, hardly one may speak."""
    verdicts = [compare.compare(normal(seed, 12), normal(seed + 1000, 12)).verdict for seed in range(100)]
    assert verdicts.count("no difference shown") >= 98


def test_twenty_percent_is_found_in_either_direction() -> None:
    for seed in range(20):
        slow, fast = normal(seed, 12, 12.0), normal(seed + 500, 12, 10.0)
        assert compare.compare(slow, fast).verdict == "higher"
        assert compare.compare(fast, slow).verdict == "lower"
        found = compare.compare(slow, fast)
        assert found.low is not None
        assert found.high is not None
        assert 1.0 < found.low <= found.ratio <= found.high < 1.4


def test_pairing_finds_what_a_drift_hides() -> None:
    drift = [10.0 * 1.2**round_ for round_ in range(12)]
    noise = normal(1, 12, 1.0, 0.005)
    slower = [value * 1.1 * factor for value, factor in zip(drift, noise, strict=True)]
    assert compare.compare(slower, drift).verdict == "higher"
    assert compare.compare(slower, drift, paired=False).verdict == "no difference shown"


def test_a_difference_below_five_percent_is_none_however_sure() -> None:
    found = compare.compare([10.4] * 12, [10.0] * 12)
    assert found.p is not None
    assert found.p <= verdict.ALPHA
    assert found.verdict == "no difference shown"


def test_a_difference_below_three_resolutions_is_none() -> None:
    assert compare.compare([12.0] * 12, [10.0] * 12, resolution=0.5).verdict == "higher"
    assert compare.compare([12.0] * 12, [10.0] * 12, resolution=1.0).verdict == "no difference shown"


def test_seven_rounds_cannot_give_a_verdict_and_eight_can() -> None:
    seven = compare.compare([2.0] * 7, [1.0] * 7)
    assert (seven.verdict, seven.p) == ("not enough rounds", None)
    eight = compare.compare([2.0] * 8, [1.0] * 8)
    assert (eight.verdict, eight.p) == ("higher", 2 / 2**8)
    assert verdict.LEAST_ROUNDS == 8


def test_one_outlier_does_not_make_a_verdict() -> None:
    reference = normal(5, 12)
    subject = [*normal(6, 11), 500.0]
    assert compare.compare(subject, reference).verdict == "no difference shown"


@pytest.mark.parametrize(("rounds", "paired"), [(20, True), (10, False)])
def test_one_outlier_does_not_hide_a_difference(rounds: int, paired: bool) -> None:
    reference = [*normal(5, rounds - 1), 34.0]
    subject = normal(6, rounds, 13.0)
    assert compare.compare(subject, reference, paired=paired).verdict == "higher"


def test_outliers_are_flagged_and_all_values_kept() -> None:
    values = [10.0, 10.1, 9.9, 10.05, 9.95, 30.0]
    assert estimate.outliers(values) == (False, False, False, False, False, True)


@pytest.mark.parametrize(
    ("values", "far"),
    [
        ([0.004] * 7 + [5.0], 1),
        ([0.004] * 6 + [0.0041, 5.0], 1),  # six of eight deviations are nothing
        ([0.004, 5.0] + [0.004] * 20, 1),
        ([5.0] * 9 + [0.001], 1),  # far below
        ([0.004] * 20 + [5.0] * 4, 4),  # 24 / (1.253314 * 4) = 4.8
        ([0.004] * 10 + [5.0] * 4, 0),  # 14 / (1.253314 * 4) = 2.8: too many to be far
        ([1.0, 1.0, 1.0, 9.0], 0),  # 4 / 1.253314 = 3.2
        ([7.0] * 8, 0),
        ([7.0], 0),
    ],
)
def test_where_half_of_the_values_are_equal_the_mean_deviation_is_the_scale(values: list[float], far: int) -> None:
    flagged = estimate.outliers(values)
    middle = sorted(values)[len(values) // 2]
    assert sum(flagged) == far
    assert all(value != middle for value, flag in zip(values, flagged, strict=True) if flag)


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf")]])
def test_what_is_no_data_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no data|not finite"):
        estimate.estimate(values)


def test_comparisons_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="paired comparison of 2 with 1"):
        compare.compare([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="positive"):
        compare.compare([0.0] * 8, [1.0] * 8)


@pytest.mark.parametrize("n", [3, 4, 5, 8, 12, 13, 30, 101, 300])
def test_the_interval_of_a_median_is_what_scipy_draws(n: int) -> None:
    data = np.random.default_rng(n).lognormal(0.0, 0.1, n)
    drawn = scipy.stats.bootstrap((data,), np.median, method="percentile", rng=np.random.default_rng(20260101))
    low, high = medians.interval(data)
    assert (low, high) == pytest.approx(tuple(drawn.confidence_interval), rel=1e-9)


@pytest.mark.parametrize("n", [medians.MOST_DRAWN + 1, medians.MOST_DRAWN + 2, 1000])
def test_the_interval_of_many_rounds_is_a_pair_of_order_statistics(n: int) -> None:
    data = np.random.default_rng(n).lognormal(0.0, 0.1, n)
    drawn = scipy.stats.bootstrap((data,), np.median, method="percentile", rng=np.random.default_rng(1))
    low, high = medians.interval(data)
    # Of 9999 draws the ends scatter, too: by less than a twentieth of the interval's width.
    assert (low, high) == pytest.approx(tuple(drawn.confidence_interval), abs=np.ptp(drawn.confidence_interval) / 20)
    assert (low, high) == pytest.approx(tuple(drawn.confidence_interval), rel=1e-3)


def ratios(n: int, own: float, shared: float) -> tuple[Floats, Floats]:
    """Round medians of two subjects that share a part of their noise."""
    rng = np.random.default_rng(n)
    common = rng.lognormal(0.0, shared, n)
    return 2 * common * rng.lognormal(0.0, own, n), common * rng.lognormal(0.0, own, n)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("n", [3, 8, 12, 40])
def test_the_interval_of_a_ratio_of_few_rounds_is_what_scipy_draws(n: int, paired: bool) -> None:
    left, right = ratios(n, 0.1, 0.3)
    drawn = scipy.stats.bootstrap(
        (left, right),
        lambda one, other, axis=-1: np.median(one, axis=axis) / np.median(other, axis=axis),
        paired=paired,
        method="percentile",
        rng=np.random.default_rng(20260101),
    )
    found = compare.compare(left.tolist(), right.tolist(), paired=paired)
    assert (found.low, found.high) == pytest.approx(tuple(drawn.confidence_interval), rel=1e-9)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("own", "shared"), [(0.03, 0.0), (0.1, 0.3), (0.3, 0.0), (0.02, 0.1)])
def test_where_drawing_ends_both_ways_give_the_same_interval(paired: bool, own: float, shared: float) -> None:
    left, right = ratios(medians.MOST_DRAWN, own, shared)
    ends = []
    for draw in (medians._drawn, medians._asymptotic):
        drawn = draw((left, right), 9999, paired=paired)
        ends.append(medians.percentiles(drawn[:, 0] / drawn[:, 1]))
    assert ends[1] == pytest.approx(ends[0], abs=0.1 * (ends[0][1] - ends[0][0]))


def test_the_interval_of_very_many_rounds_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        common = rng.lognormal(0.0, 0.1, 1000)
        left, right = (common * rng.lognormal(0.0, 0.05, 1000) for _ in range(2))
        found = compare.compare(left, right)
        hits += found.low <= 1.0 <= found.high  # type: ignore[operator]
    assert 180 <= hits <= 199  # 95 %: 190 expected


@pytest.mark.parametrize("n", [8, 10, 12, 13])
def test_p_of_few_rounds_is_what_all_arrangements_give(n: int) -> None:
    rng = np.random.default_rng(n)
    # Rounded: some are equal, and some pairs do not differ.
    left, right = np.round(rng.lognormal(0.1, 0.1, n), 1), np.round(rng.lognormal(0.0, 0.1, n), 1)
    differences = np.log(left / right)
    signed = scipy.stats.rankdata(np.abs(differences)) * np.sign(differences)
    exact = scipy.stats.permutation_test(
        (signed, np.zeros(n)),
        lambda one, other: one.mean() - other.mean(),
        permutation_type="samples",
        n_resamples=2**n,
    )
    assert ranks.signed(differences) == pytest.approx(exact.pvalue)


@pytest.mark.parametrize("n", [8, 20, 50, 51, 400])
def test_p_is_wilcoxons(n: int) -> None:
    rng = np.random.default_rng(n)
    differences = rng.normal(2.0 / n**0.5, 1.0, n)
    method = "exact" if n <= ranks.MOST_EXACT else "approx"
    assert ranks.signed(differences) == pytest.approx(scipy.stats.wilcoxon(differences, method=method).pvalue)
    left, right = rng.normal(2.0 / n**0.5, 1.0, n), rng.normal(0.0, 1.0, n)
    method = "exact" if 2 * n <= ranks.MOST_EXACT else "asymptotic"
    whitney = scipy.stats.mannwhitneyu(left, right, method=method, use_continuity=False)
    assert ranks.summed(left, right) == pytest.approx(whitney.pvalue)


def test_where_counting_ends_both_ways_give_the_same_p(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    tied = np.round(rng.normal(0.3, 1.0, ranks.MOST_EXACT), 1)
    left, right = tied[: tied.size // 2] + 0.5, tied[tied.size // 2 :]
    exact = ranks.signed(tied), ranks.summed(left, right)
    monkeypatch.setattr(ranks, "MOST_EXACT", 1)
    assert (ranks.signed(tied), ranks.summed(left, right)) == pytest.approx(exact, rel=0.1)


def test_no_difference_at_all_is_p_of_one() -> None:
    assert ranks.signed(np.zeros(12)) == 1.0
    assert ranks.summed(np.ones(30), np.ones(30)) == 1.0
