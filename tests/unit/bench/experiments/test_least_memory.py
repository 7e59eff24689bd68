"""Bisection finds the threshold, to the step, and tries both sides of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tare.bench.experiments.least_memory import Bounds, least

KIB = 1024


@given(threshold=st.integers(1, 256 * KIB * KIB), step=st.sampled_from([4 * KIB, 64 * KIB, 1024 * KIB]))
def test_the_threshold_is_found_to_the_step_and_both_sides_were_tried(threshold: int, step: int) -> None:
    tried: dict[int, bool] = {}

    def attempt(grant: int) -> str:
        tried[grant] = grant >= threshold
        return "" if tried[grant] else "killed"

    found = least(attempt, Bounds(low=0, high=256 << 20, step=step))
    value = int(found.values["least_memory_bytes"])
    assert threshold <= value < threshold + step
    assert tried[value]
    assert value == step or not tried[value - step]
    assert found.values["attempts_count"] == len(tried) <= 18


def test_what_is_never_ready_is_a_failed_trial_with_its_reason() -> None:
    found = least(lambda _: "no kernel", Bounds(low=0, high=64 << 20, step=1 << 20))
    assert (found.status, found.reason) == ("failed", "not ready even with 64 MiB: no kernel")
