"""Every rule that ends a ramp, forced; and that nothing else ends it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.bench.experiments.rules import WINDOW, Seen, StackTable, reason

GIB = float(1 << 30)
RULES = StackTable(
    floor_percent=20, cpu_floor_percent=10, budget_mib=4096, latency_s=2.0, error_percent=5, pressure_percent=10
)


def seen(**changes: object) -> Seen:
    values: dict[str, object] = {
        "alive": 10,
        "available_bytes": 20 * GIB,
        "total_bytes": 24 * GIB,
        "used_bytes": 1 * GIB,
        "latencies_s": [0.5] * WINDOW,
    }
    return Seen(**(values | changes))  # type: ignore[arg-type]


def test_nothing_ends_a_quiet_ramp() -> None:
    assert reason(RULES, 100, seen()) is None


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"alive": 100}, "count: 100"),
        ({"available_bytes": 4.7 * GIB}, "memory floor: 4.70 GiB available, the floor is 4.80 GiB"),
        ({"used_bytes": 4.1 * GIB}, "memory budget: 4.10 GiB of 4096 MiB used"),
        ({"idle_percent": 8.0}, "processor floor: 8 % of processor time idle, the floor is 10 %"),
        ({"idle_percent": 0.0, "alive": 0}, "processor floor: 0 % of processor time idle, the floor is 10 %"),
        ({"latencies_s": [0.5] * 18 + [9.0, 9.0]}, "start latency: p95 of the last 20 starts is 9.00 s"),
        ({"lost": 3}, "error rate: 3 of 13 starts failed"),
        ({"pressure_percent": 10.5}, "memory pressure: full 10.5 %"),
        ({"swapped_in": 1}, "swap-in: 1 pages"),
        ({"limit": "Too many open files"}, "limit: Too many open files"),
    ],
)
def test_each_rule_ends_it_and_says_so(changes: dict[str, object], named: str) -> None:
    assert named in str(reason(RULES, 100, seen(**changes)))


def test_the_floor_must_hold_after_the_next_instance_too() -> None:
    """One virtual machine of 2 GiB may not be started with 1 GiB to spare."""
    found = reason(RULES, 100, seen(alive=1, used_bytes=2 * GIB, available_bytes=5.8 * GIB))
    assert found is not None
    assert found.rule == "memory floor"


@pytest.mark.parametrize(
    ("rules", "changes"),
    [
        ({"budget_mib": 0}, {"used_bytes": 15 * GIB}),
        ({"latency_s": 0}, {"latencies_s": [99.0] * WINDOW}),
        ({"pressure_percent": 0}, {"pressure_percent": 99.0}),
        ({"cpu_floor_percent": 0}, {"idle_percent": 0.0}),
    ],
)
def test_zero_turns_a_rule_off(rules: dict[str, float], changes: dict[str, object]) -> None:
    table = StackTable(floor_percent=5, **rules)  # type: ignore[arg-type]
    assert reason(table, 100, seen(**changes)) is None


@pytest.mark.parametrize("idle", [None, 10.0, 100.0])
def test_the_processor_floor_is_silent_before_a_window_and_where_enough_is_idle(idle: float | None) -> None:
    assert reason(RULES, 100, seen(idle_percent=idle)) is None


def test_two_lost_of_three_are_no_rate_yet_and_few_starts_no_percentile() -> None:
    assert reason(RULES, 100, seen(alive=1, lost=2, used_bytes=1e8)) is None
    assert reason(RULES, 100, seen(latencies_s=[99.0] * (WINDOW - 1))) is None


@given(
    alive=st.integers(0, 10_000),
    available=st.floats(0, 24 * GIB),
    used=st.floats(-GIB, 24 * GIB),
    percent=st.floats(5, 95),
)
def test_no_ramp_goes_on_below_its_floor(alive: int, available: float, used: float, percent: float) -> None:
    state = seen(alive=alive, available_bytes=available, used_bytes=used)
    if not reason(StackTable(floor_percent=percent), 1 << 30, state):
        assert available >= percent / 100 * state.total_bytes
