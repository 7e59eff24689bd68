"""Stalls, by given clock readings: what makes a measurement invalid, and what does not."""

from __future__ import annotations

import pytest

from tare.bench.readings import stalls
from tare.bench.readings.stalls import Clocks, Watch, judge

MS = 1_000_000
S = 1000 * MS
PROC_STAT = """cpu  32264 0 7495 137429 363 0 111 63 7 0
cpu0 16000 0 3700 68000 180 0 60 40 7 0
cpu1 16264 0 3795 69429 183 0 51 23 0 0
intr 4711 0 1
ctxt 123456
"""


def clocks(at: int, *, slept: int = 0, stolen: tuple[int, ...] = (), waited: int = 0) -> Clocks:
    return Clocks(monotonic=at, boottime=at + slept, stolen=stolen, waited=waited)


@pytest.mark.parametrize(
    ("after", "late", "said"),
    [
        (clocks(700 * MS), 0, ""),
        (
            clocks(10 * S),
            9_600 * MS,
            "the measuring process did not run for 9.60 s: it was stopped, frozen, or got no processor",
        ),
        (clocks(300 * MS), 99 * MS, ""),
        (clocks(300 * MS), 100 * MS, "did not run for 100 ms"),
        (clocks(700 * MS, slept=3600 * S), 0, "the machine was suspended for 3600 s"),
        (clocks(700 * MS, slept=99 * MS), 0, ""),
        (clocks(4 * S, stolen=(1 * S, 0)), 0, "a hypervisor took 1.00 s of a processor's 4.00 s"),
        (clocks(4 * S, stolen=(0, 3 * S)), 0, "a hypervisor took 3.00 s"),
        (clocks(4 * S, stolen=(900 * MS, 900 * MS)), 0, ""),  # below a quarter of each processor's time
        (clocks(120 * MS, stolen=(90 * MS, 0)), 0, ""),  # most of it, but less than a tenth of a second
        (clocks(4 * S, waited=2 * S), 0, "the measuring process waited 2.00 s of 4.00 s for a processor"),
        (clocks(4 * S, waited=900 * MS), 0, ""),
        (clocks(5 * MS, waited=4 * MS), 0, ""),
    ],
)
def test_what_the_clocks_say_between_two_readings(after: Clocks, late: int, said: str) -> None:
    found = judge(clocks(0, stolen=(0,) * len(after.stolen)), after, late)
    assert said in found
    assert bool(found) == bool(said)


def test_what_was_before_does_not_count() -> None:
    before = clocks(5 * S, slept=900 * S, stolen=(70 * S, 80 * S), waited=60 * S)
    after = clocks(6 * S, slept=900 * S, stolen=(70 * S, 80 * S), waited=60 * S)
    assert judge(before, after, 0) == ""


def test_all_causes_are_told() -> None:
    found = judge(clocks(0, stolen=(0,)), clocks(2 * S, slept=5 * S, stolen=(S,), waited=S), S)
    assert found.count("; ") == 3


def test_a_processor_that_came_or_went_meanwhile_is_left_out() -> None:
    assert judge(clocks(0, stolen=(0, 0)), clocks(4 * S, stolen=(0,)), 0) == ""
    assert "hypervisor" in judge(clocks(0, stolen=(0,)), clocks(4 * S, stolen=(2 * S, 9 * S)), 0)


def test_steal_is_read_of_each_processor() -> None:
    assert stalls.stolen_ns(PROC_STAT, 100) == (400 * MS, 230 * MS)
    assert stalls.stolen_ns(PROC_STAT, 1000) == (40 * MS, 23 * MS)


@pytest.mark.parametrize("text", ["", "cpu  1 2 3 4\ncpu0 1 2 3 4\n", "intr 1 2\n"])
def test_a_kernel_that_counts_no_steal_has_none(text: str) -> None:
    assert stalls.stolen_ns(text, 100) == ()


def test_the_wait_for_a_processor_is_the_second_figure() -> None:
    assert stalls.waited_ns("811239 38608 17\n") == 38608
    assert stalls.waited_ns("") == 0


@pytest.mark.parametrize(
    ("passed", "worked", "asked", "late"),
    [
        (stalls.PERIOD_NS, 0, 1, -5 * MS),
        (stalls.PERIOD_NS + 2 * S, 0, 1, 1995 * MS),
        (stalls.PERIOD_NS + 2 * S, 2 * S, 1, -5 * MS),  # this process worked
        (stalls.PERIOD_NS + 2 * S, 0, 400, 0),  # another thread held Python's lock
        (stalls.PERIOD_NS + 2 * S, 1 * S, 1, 995 * MS),
    ],
)
def test_late_is_what_neither_work_nor_waiting_for_the_lock_explains(
    passed: int, worked: int, asked: int, late: int
) -> None:
    assert stalls._late_ns((S, S, 10), (S + passed, S + worked, 10 + asked)) == late


def test_only_a_stall_after_the_beginning_counts() -> None:
    watch = Watch()
    begun = watch.begin()
    watch._late = [(begun.monotonic - 1, 5 * S), (begun.monotonic, 7 * S)]
    assert watch.since(begun) == ""
    watch._late += [(begun.monotonic + 1, 2 * S), (begun.monotonic + 2, S)]
    assert "did not run for 2.00 s" in watch.since(begun)


def test_the_real_clocks_do_not_part_by_being_read() -> None:
    for _ in range(1000):
        first, second = stalls._both(), stalls._both()
        assert abs((second[1] - second[0]) - (first[1] - first[0])) < stalls.LEAST_NS
