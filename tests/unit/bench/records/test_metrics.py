"""The registry of metrics, and how values are shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.bench.records.metrics import METRICS, digits, show


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
        (12345.0, "ratio", "1234500 %"),
        (1e-12, "ratio", "< 0.000001 %"),
        (0.9996, "seconds", "1.00 s"),
        (0.9994, "seconds", "999 ms"),
        (0.0009996, "seconds", "1.00 ms"),
        (0.0009995, "seconds", "1.00 ms"),
        (999500 / 1e9, "seconds", "1.00 ms"),
        (0.00099949, "seconds", "999 µs"),
        (0.9995, "seconds", "1.00 s"),
        (9.995e-7, "seconds", "1.00 µs"),
        (-0.0009995, "seconds", "-1.00 ms"),
        (999.5, "seconds", "1000 s"),
        (0.009995, "seconds", "10.0 ms"),
        (0.09995, "seconds", "100 ms"),
        (0.009995, "ratio", "1.00 %"),
        (0.9995 * 2**20, "bytes", "1.00 MiB"),
        (0.9995 * 2**30, "bytes", "1.00 GiB"),
        (1023.5 * 1024, "bytes", "1.00 MiB"),
        (999.5, "count", "1000"),
        (9.996e-7, "seconds", "1.00 µs"),
        (0.009996, "seconds", "10.0 ms"),
        (1e-10, "seconds", "0.100 ns"),
        (1e-19, "seconds", "< 0.000001 ns"),
        (-1e-19, "seconds", "> -0.000001 ns"),
        (86400.0, "seconds", "86400 s"),
        (1023.0, "bytes", "1023 B"),
        (1023.4 * 1024, "bytes", "1023 KiB"),
        (1023.7 * 1024, "bytes", "1.00 MiB"),
        (1023.9 * 2.0**20, "bytes", "1.00 GiB"),
        (-1023.9 * 2.0**20, "bytes", "-1.00 GiB"),
        (4096 * 2.0**30, "bytes", "4096 GiB"),
        (1e9, "count", "1000000000"),
        (2.5, "count", "2.50"),
        (float("inf"), "seconds", "inf s"),
        (float("nan"), "bytes", "nan B"),
    ],
)
def test_three_digits_and_a_scaled_unit(value: float, unit: str, text: str) -> None:
    assert show(value, unit) == text


@given(st.floats(), st.sampled_from(["seconds", "bytes", "ratio", "count"]))
def test_any_value_can_be_shown_without_powers_of_ten(value: float, unit: str) -> None:
    text = show(value, unit)
    assert text
    assert not re.search(r"\de[+-]?\d", text)


@given(st.floats(1e-5, 1e15), st.sampled_from([("seconds", 1000), ("bytes", 1024)]))
def test_the_unit_is_the_one_that_the_rounded_number_needs(value: float, scale: tuple[str, int]) -> None:
    """Never ``1000 ms`` or ``1024 KiB``, and the number told is the number, to three digits."""
    unit, step = scale
    number, suffix = show(value, unit).split()
    if suffix not in ("s", "GiB"):
        assert float(number) < step
    factor = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10, "B": 1.0}[suffix]
    assert float(number) * factor == pytest.approx(value, rel=0.00501)
    assert len(number.replace(".", "").lstrip("0")) >= 3


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


@given(st.integers(1, 10**9 - 1), st.sampled_from([1, -1]))
def test_a_whole_number_of_nanoseconds_is_never_a_thousand_of_a_unit(ns: int, sign: int) -> None:
    number, suffix = show(sign * ns / 1e9, "seconds").split()
    assert abs(float(number)) < 1000
    assert len(number.strip("-0.").replace(".", "")) <= 3
    assert suffix == "s" or abs(float(number)) >= 1


@pytest.mark.parametrize("place", range(-9, 0))
@pytest.mark.parametrize(("first", "shown"), [("9995", 1000), ("9994", 999), ("1005", 100), ("1245", 124)])
def test_the_digits_are_those_of_the_number_as_it_is_written(first: str, shown: int, place: int) -> None:
    """Whether binary lies above or below a half, the same digits are shown at every place of the point."""
    assert digits(float(f"{first}e{place}")).replace(".", "").strip("0") == str(shown).strip("0")
