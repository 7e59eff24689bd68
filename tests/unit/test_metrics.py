"""The registry of metrics, and how values are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.metrics import METRICS, show


def test_names_bear_their_unit_as_suffix() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name
        assert name.endswith(f"_{metric.unit}")
        assert metric.meaning


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0, "seconds", "0 s"),
        (0.0, "bytes", "0 B"),
        (1.2345, "seconds", "1.23 s"),
        (0.004567, "seconds", "4.57 ms"),
        (0.0000999, "seconds", "99.9 µs"),
        (123.4, "seconds", "123 s"),
        (1536.0, "bytes", "1.50 KiB"),
        (208 * 2.0**20, "bytes", "208 MiB"),
        (-0.002, "seconds", "-2.00 ms"),
        (-8192.0, "bytes", "-8.00 KiB"),
        (0.0, "ratio", "0 %"),
        (0.01234, "ratio", "1.23 %"),
        (1.0, "ratio", "100 %"),
    ],
)
def test_three_digits_and_a_scaled_unit(value: float, unit: str, text: str) -> None:
    assert show(value, unit) == text


@given(st.floats(1e-9, 1e6), st.sampled_from(["seconds", "bytes", "ratio", "count"]))
def test_any_value_can_be_shown(value: float, unit: str) -> None:
    assert show(value, unit)


def test_what_cannot_be_true_is_said() -> None:
    ready = METRICS["ready_seconds"]
    assert ready.implausible(1.0) == ""
    assert "negative" in ready.implausible(-1e-9)
    assert "more than" in ready.implausible(1e9)
    assert "nan" in ready.implausible(float("nan"))


def test_a_change_may_be_negative_and_a_share_not_above_one() -> None:
    taken, busy = METRICS["sampling_bytes"], METRICS["host_busy_ratio"]
    assert taken.implausible(-4096.0) == ""
    assert "more than" in taken.implausible(-1e15)
    assert busy.implausible(1.0) == ""
    assert "more than the 100 %" in busy.implausible(1.2)
