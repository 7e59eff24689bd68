"""A ramp over fake instances: what is read where, what is counted, and that all come down again."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tare.bench.errors import Interrupted
from tare.bench.experiments import scaling
from tare.bench.experiments.rules import StackTable
from tare.bench.experiments.scaling import Ramp, scale
from tare.bench.experiments.start import Contract
from tare.bench.experiments.trial import TrialResult
from tare.bench.host.interrupts import Interrupts, TrialTimeout
from tare.bench.readings.stalls import MOST_REPEATS, Clocks, Watch
from tare.bench.records.metrics import METRICS
from tare.bench.records.readiness import Mark as ByMark
from tare.runners.base import Mark, RunnerError
from tare.runners.launch import drain
from tests.unit.still import Still

CONTRACT = Contract(ready=ByMark(), timeout_s=5.0)


class Fleet:
    """Launches pipes that say what the test wants, and remembers who came and went."""

    def __init__(
        self,
        *,
        bad: frozenset[int] = frozenset(),
        full_at: int = 0,
        broken_at: int = 0,
        defect_at: int = 0,
        told: bytes = b"",
        stuck: frozenset[str] = frozenset(),
    ) -> None:
        self.bad = bad
        self.stuck = stuck
        self.told = told
        self.full_at = full_at
        self.broken_at = broken_at
        self.defect_at = defect_at
        self._lock = threading.Lock()
        self._coming = 0
        #: The most that came at the same time, and that were there.
        self.together = self.most = 0
        self.started: list[str] = []
        self.alive: set[str] = set()
        #: How much memory each was asked for; the third refuses.
        self.asked: list[int] = []

    @contextmanager
    def launch(self, name: str, mark: Mark) -> Iterator[Fake]:
        with self._lock:
            self.started.append(name)
            number = len(self.started)
            self._coming += 1
            self.together = max(self.together, self._coming)
        # Long enough for the rest of a batch to come: threads that start one after another would not be seen together.
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.02)
        with self._lock:
            self._coming -= 1
        if self.full_at and number >= self.full_at:
            raise RunnerError("no room", "x") from OSError(errno.EMFILE, "Too many open files")
        if number == self.defect_at:
            raise ZeroDivisionError
        if number == self.broken_at:
            raise RunnerError("broken", "x")
        reader, writer = os.pipe2(os.O_NONBLOCK)
        self.alive.add(name)
        self.most = max(self.most, len(self.alive))
        try:
            os.write(writer, b"tare first\n" if number in self.bad else self.told + b"tare ready\n")
            if number in self.bad:
                os.close(writer)
                writer = -1
            yield Fake(reader, self.asked)
        finally:
            self.alive.discard(name)
            drain.close(reader)
            if writer >= 0:
                os.close(writer)
        if name in self.stuck:
            raise RunnerError(name, "is stuck")


class Fake(Still):
    cgroup: Path | None = None

    def __init__(self, console: int, asked: list[int]) -> None:
        self.console = console
        self.asked = asked

    def pids(self) -> frozenset[int]:
        return frozenset((os.getpid(),))

    def explain(self) -> str:
        return "it fell"

    def reclaim(self, size_bytes: int) -> None:
        self.asked.append(size_bytes)
        if len(self.asked) == 3:
            raise RunnerError("the third", "gives nothing")


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "settle", lambda moved, check, pause_s=0.0: True)


class Steady(Watch):
    """Sees no stall: on a busy host there are some."""

    def since(self, begun: Clocks) -> str:
        return ""


def up(
    fleet: Fleet,
    *,
    most: int = 5,
    counts: tuple[int, ...] = (1, 3),
    rules: StackTable | None = None,
    unsettled: int = 0,
    descends: bool = False,
    reclaim_bytes: int = 0,
    watch: Watch | None = None,
) -> TrialResult:
    ramp = Ramp(
        launch=fleet.launch,
        memory_bytes=1 << 20,
        resident_pids=frozenset((os.getpid(),)),
        daemon_pids=frozenset((os.getpid(),)),
        counts=counts,
        most=most,
        rules=rules or StackTable(floor_percent=5, pressure_percent=0, window_s=0),
        unsettled=unsettled,
        descends=descends,
        reclaim_bytes=reclaim_bytes,
        watch=watch or Steady(),
    )
    names = (f"x-{number}" for number in iter(range(1, 10**9)))
    with Interrupts() as interrupts:
        return scale(ramp, names, CONTRACT, interrupts=interrupts, alive=lambda n: None)


def test_everything_is_read_at_the_counts_and_at_the_top_and_after() -> None:
    fleet = Fleet()
    found = up(fleet)
    assert (found.status, found.reached, found.lost, str(found.stopped_by)) == ("ok", 5, 0, "count: 5")
    host = [(reading.n, reading.stage) for reading in found.readings if "host_free_bytes" in reading.values]
    assert host == [(0, ""), (1, ""), (3, ""), (5, ""), (5, "after")]
    starts = [reading.n for reading in found.readings if "ready_seconds" in reading.values]
    assert starts == [1, 2, 3, 4, 5]
    roles = {
        (reading.role, reading.serves) for reading in found.readings if reading.n == 3 and "pss_bytes" in reading.values
    }
    name = Path("/proc/self/comm").read_text().strip()
    assert roles == {(name, ""), (name, "resident"), (name, "daemon")}
    assert fleet.alive == set()


def test_the_way_down_is_read_at_the_numbers_of_the_way_up_with_so_many_left(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()
    left: list[int] = []

    def settle(moved: int, check: Callable[[], None], *, pause_s: float = 0.0) -> bool:
        left.append(len(fleet.alive))
        return True

    monkeypatch.setattr(scaling, "settle", settle)
    found = up(fleet, most=9, counts=(1, 4, 8), descends=True)
    down = [reading for reading in found.readings if reading.stage == "down"]
    assert [reading.n for reading in down] == [8, 4, 1]
    assert left[-4:] == [8, 4, 1, 0]
    took = [reading.values["removal_seconds"] for reading in down]
    after = found.readings[-1]
    assert after.stage == "after"
    assert after.values["teardown_seconds"] == pytest.approx(sum(took) + after.values["removal_seconds"])
    assert fleet.alive == set()


def test_a_signal_on_the_way_down_ends_the_reading_and_not_the_removal(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()

    def settle(moved: int, check: Callable[[], None], *, pause_s: float = 0.0) -> bool:
        if len(fleet.alive) == 4 and len(fleet.started) == 9:
            raise Interrupted("a signal", "", "")
        return True

    monkeypatch.setattr(scaling, "settle", settle)
    found = up(fleet, most=9, counts=(1, 4, 8), descends=True)
    assert found.status == "ok"
    assert [reading.n for reading in found.readings if reading.stage == "down"] == [8]
    last, after = found.readings[-2:]
    known = last.values["removal_seconds"] + after.values["removal_seconds"]
    assert after.values["teardown_seconds"] == pytest.approx(known)
    assert fleet.alive == set()


@pytest.mark.parametrize("descends", [False, True])
def test_removals_that_fail_hold_up_no_other_and_the_first_is_told(descends: bool) -> None:
    fleet = Fleet(stuck=frozenset(("x-9", "x-2")))
    found = up(fleet, most=9, counts=(1, 4, 8), descends=descends)
    assert (found.status, found.reason, found.readings) == ("failed", "x-9: is stuck", ())
    assert fleet.alive == set()


@pytest.mark.parametrize("at_once", [2, 3, 64])
def test_batches_stop_at_each_number_that_is_read(at_once: int) -> None:
    fleet = Fleet()
    rules = StackTable(floor_percent=5, pressure_percent=0, window_s=0, at_once=at_once)
    found = up(fleet, most=9, counts=(1, 4, 8), rules=rules)
    assert (found.status, found.reached, str(found.stopped_by)) == ("ok", 9, "count: 9")
    host = [(reading.n, reading.stage) for reading in found.readings if "host_free_bytes" in reading.values]
    assert host == [(0, ""), (1, ""), (4, ""), (8, ""), (9, ""), (9, "after")]
    assert [reading.n for reading in found.readings if "ready_seconds" in reading.values] == list(range(1, 10))
    assert fleet.most == min(9, 1 + 3 + 4 + 1)
    assert fleet.together == min(at_once, 4)
    assert fleet.alive == set()


def test_what_is_lost_in_a_batch_is_counted_and_the_others_live() -> None:
    fleet = Fleet(bad=frozenset((3, 4)))
    rules = StackTable(floor_percent=5, pressure_percent=0, window_s=0, at_once=3, error_percent=90)
    found = up(fleet, most=6, counts=(1, 6), rules=rules)
    assert (found.reached, found.lost, str(found.stopped_by)) == (6, 2, "count: 6")
    assert fleet.alive == set()


def test_a_limit_met_in_a_batch_ends_the_ascent_with_those_that_came() -> None:
    fleet = Fleet(full_at=4)
    rules = StackTable(floor_percent=5, pressure_percent=0, window_s=0, at_once=4)
    found = up(fleet, most=9, counts=(1, 9), rules=rules)
    assert (found.status, str(found.stopped_by)) == ("ok", "limit: no room: x")
    assert found.reached == 3
    assert fleet.alive == set()


def test_an_error_in_a_batch_fails_the_ascent_and_all_come_down() -> None:
    fleet = Fleet(broken_at=3)
    rules = StackTable(floor_percent=5, pressure_percent=0, window_s=0, at_once=4)
    found = up(fleet, most=9, counts=(1, 9), rules=rules)
    assert (found.status, found.reason) == ("failed", "broken: x")
    assert len(fleet.started) == 5, "the first, and one batch"
    assert fleet.alive == set()


def test_a_defect_in_a_batch_leaves_nothing_running() -> None:
    fleet = Fleet(defect_at=3)
    rules = StackTable(floor_percent=5, pressure_percent=0, window_s=0, at_once=4)
    with pytest.raises(ZeroDivisionError):
        up(fleet, most=9, counts=(1, 9), rules=rules)
    assert len(fleet.started) == 5
    assert fleet.alive == set()


def test_the_cost_of_each_reading_is_read_too() -> None:
    found = up(Fleet())
    costs = [(one.n, one.role) for one in found.readings if {"sampling_seconds", "sampling_bytes"} <= set(one.values)]
    assert costs == [(0, ""), (1, ""), (3, ""), (5, "")]
    assert all(one.values["sampling_seconds"] > 0 for one in found.readings if "sampling_seconds" in one.values)
    assert not [one for one in found.readings if "window_seconds" in one.values]


def test_the_idle_host_is_watched_before_each_reading() -> None:
    found = up(Fleet(), rules=StackTable(floor_percent=5, pressure_percent=0, window_s=0.02))
    windows = [one for one in found.readings if "window_seconds" in one.values]
    assert [(one.n, one.role) for one in windows] == [(0, ""), (1, ""), (3, ""), (5, "")]
    assert all(one.values["window_seconds"] >= 0.02 for one in windows)
    assert all(METRICS[name].implausible(value) == "" for one in windows for name, value in one.values.items())


@pytest.mark.parametrize(("busy", "reached"), [({0: 0.1, 1: 0.5, 3: 0.93}, 3), ({0: 0.95}, 0)])
def test_processors_that_do_not_idle_end_it_at_the_reading_that_saw_it(
    monkeypatch: pytest.MonkeyPatch, busy: dict[int, float], reached: int
) -> None:
    fleet = Fleet()
    monkeypatch.setattr(scaling, "watch", lambda *told: {"host_busy_ratio": busy[len(fleet.alive)]})
    found = up(fleet, rules=StackTable(floor_percent=5, pressure_percent=0, cpu_floor_percent=10))
    assert (found.status, found.reached) == ("ok", reached)
    assert str(found.stopped_by).startswith("processor floor: ")


def test_a_signal_ends_the_window_and_all_come_down(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()
    rules = StackTable(floor_percent=5, pressure_percent=0, window_s=60)
    sleep, woken = time.sleep, []

    def sleeps(seconds: float) -> None:
        woken.append(len(fleet.alive))
        if len(woken) == 3:
            os.kill(os.getpid(), signal.SIGINT)
            sleep(seconds)

    monkeypatch.setattr("tare.bench.experiments.readout.time.sleep", sleeps)
    with pytest.raises(Interrupted):
        up(fleet, rules=rules)
    assert woken == [0, 1, 3]
    assert fleet.alive == set()


def test_what_instances_see_inside_is_kept_at_the_counts() -> None:
    found = up(Fleet(told=b"tare inside MemTotal 100\ntare inside MemFree 60\n"))
    seen = {one.n: one.values for one in found.readings if "inside_total_bytes" in one.values}
    assert sorted(seen) == [1, 3]
    assert seen[3]["inside_free_bytes"] == 60 * 1024
    assert "ready_seconds" in seen[3]
    assert found.warnings == ()


def test_an_instance_that_cannot_look_says_so_once_and_the_ascent_goes_on() -> None:
    found = up(Fleet(told=b"tare inside: cannot read /proc/meminfo: No such file\n"))
    assert (found.status, found.reached) == ("ok", 5)
    assert found.warnings == ("the payload could not read its memory: cannot read /proc/meminfo: No such file",)


def test_an_instance_that_is_lost_is_counted_removed_and_the_ascent_goes_on() -> None:
    fleet = Fleet(bad=frozenset((2,)))
    found = up(fleet)
    assert (found.reached, found.lost, len(fleet.started)) == (5, 1, 6)
    assert "tare first" in found.console


def test_too_many_lost_end_it() -> None:
    found = up(Fleet(bad=frozenset(range(2, 100))))
    assert (found.reached, found.lost) == (1, 3)
    assert "error rate: 3 of 4 starts failed" in str(found.stopped_by)


def test_a_limit_of_the_host_is_a_rule_and_no_failure() -> None:
    found = up(Fleet(full_at=4))
    assert (found.status, found.reached) == ("ok", 3)
    assert "limit: no room" in str(found.stopped_by)


def test_nothing_alive_at_all_is_a_failed_trial_with_the_reason() -> None:
    found = up(Fleet(bad=frozenset(range(1, 100))))
    assert (found.status, found.reached, found.readings) == ("failed", 0, ())
    assert "it fell" in found.reason


def test_a_runner_that_breaks_fails_the_trial_and_leaves_nothing() -> None:
    fleet = Fleet()

    @contextmanager
    def breaks(name: str, mark: Mark) -> Iterator[Fake]:
        if len(fleet.started) == 2:
            raise RunnerError("broken", "altogether")
        with fleet.launch(name, mark) as instance:
            yield instance

    ramp = Ramp(
        launch=breaks,
        memory_bytes=1,
        resident_pids=frozenset(),
        counts=(1,),
        most=5,
        rules=StackTable(floor_percent=5, pressure_percent=0, window_s=0),
    )
    with Interrupts() as interrupts:
        found = scale(ramp, iter(map(str, range(99))), CONTRACT, interrupts=interrupts, alive=lambda n: None)
    assert (found.status, found.reason) == ("failed", "broken: altogether")
    assert fleet.alive == set()


def test_pressure_and_swap_are_read_from_what_the_kernel_says() -> None:
    text = "some avg10=1.00 avg60=0 avg300=0 total=5\nfull avg10=12.34 avg60=0.00 avg300=0.00 total=7\n"
    assert scaling._full_pressure_percent(text) == 12.34
    assert scaling._full_pressure_percent("") == 0.0
    assert scaling._swapped_in("nr_free_pages 1\npswpin 42\npswpout 1\n") == 42


def test_merging_is_on_from_before_the_ground_until_all_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet, seen = Fleet(), []

    @contextmanager
    def merging() -> Iterator[None]:
        seen.append(("on", len(fleet.started)))
        yield
        seen.append(("off", len(fleet.alive)))

    monkeypatch.setattr("tare.bench.host.ksm.merging", merging)
    monkeypatch.setattr("tare.bench.host.ksm.settle", lambda interrupts: len(fleet.alive) != 3)
    found = up(fleet, rules=StackTable(floor_percent=5, pressure_percent=0, window_s=0, ksm=True))
    assert seen == [("on", 0), ("off", 0)]
    assert found.warnings == ("samepage merging did not settle at 3",)
    seen.clear()
    up(Fleet())
    assert seen == []


def waiting(monkeypatch: pytest.MonkeyPatch, *, settles: bool) -> list[int]:
    """For how many instances each wait was, in a list that fills."""
    waits: list[int] = []

    def settle(moved: int, check: Callable[[], None], *, pause_s: float = 0.0) -> bool:
        waits.append(moved)
        return settles

    monkeypatch.setattr(scaling, "settle", settle)
    return waits


def test_the_wait_grows_with_what_was_started_since_the_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = waiting(monkeypatch, settles=True)
    found = up(Fleet(bad=frozenset((2,))), counts=(1, 3))
    assert waits == [0, 1, 3, 2, 6]  # ground, 1, 3 (one of them lost), 5, and all six removed
    assert found.unsettled == 0


def test_what_did_not_settle_is_said_and_left_to_the_next_ground(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = waiting(monkeypatch, settles=False)
    found = up(Fleet(), most=1, counts=(1,), unsettled=4000)
    assert waits == [4000, 1, 1]
    assert found.warnings == (
        "memory did not settle at 0",
        "memory did not settle at 1",
        "memory did not settle after the removal",
    )
    assert found.unsettled == 1


def test_a_failed_ascent_leaves_its_unrest_to_the_next_ground() -> None:
    assert up(Fleet(bad=frozenset((2,)), full_at=3), counts=(9,)).unsettled == 0

    class Broken(Fleet):
        @contextmanager
        def launch(self, name: str, mark: Mark) -> Iterator[Fake]:
            if len(self.started) == 2:
                raise RunnerError("broken", "altogether")
            with super().launch(name, mark) as instance:
                yield instance

    found = up(Broken())
    assert (found.status, found.unsettled) == ("failed", 2)


def test_a_signal_after_the_removal_ends_the_wait_and_keeps_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()

    def settle(moved: int, check: Callable[[], None], *, pause_s: float = 0.0) -> bool:
        if not fleet.alive and fleet.started:
            os.kill(os.getpid(), signal.SIGINT)
        check()
        return True

    monkeypatch.setattr(scaling, "settle", settle)
    found = up(fleet)
    assert (found.status, found.reached, found.unsettled) == ("ok", 5, 5)


def test_each_instance_is_asked_for_memory_once_it_is_ready_or_none_is() -> None:
    fleet, unasked = Fleet(), Fleet()
    assert up(fleet, most=2, counts=(1, 2), reclaim_bytes=4096).status == "ok"
    assert up(unasked, most=2, counts=(1, 2)).status == "ok"
    assert (fleet.asked, unasked.asked) == ([4096, 4096], [])


def test_one_that_cannot_be_asked_ends_the_ascent_and_stays_no_longer() -> None:
    fleet = Fleet()
    found = up(fleet, most=5, counts=(1, 5), reclaim_bytes=4096)
    assert (found.status, found.reason) == ("failed", "the third: gives nothing")
    assert fleet.alive == set()


def test_a_signal_while_one_of_a_batch_is_asked_leaves_none_of_them_running(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Fake, size_bytes: int) -> None:
        self.asked.append(size_bytes)
        if len(self.asked) == 2:  # the first of the batch: three more were started with it
            raise Interrupted("a signal", "", "")

    monkeypatch.setattr(Fake, "reclaim", interrupted)
    fleet = Fleet()
    rules = StackTable(floor_percent=5, pressure_percent=0, window_s=0, at_once=4)
    with pytest.raises(Interrupted):
        up(fleet, most=5, counts=(1, 5), rules=rules, reclaim_bytes=4096)
    assert (fleet.most, fleet.alive) == (5, set())


class Scripted(Watch):
    """Says that this process stalled at the steps with these numbers: each reading, start and removal is a step."""

    def __init__(self, *stalled: int) -> None:
        super().__init__()
        self._stalled = stalled
        self._step = -1

    def since(self, begun: Clocks) -> str:
        self._step += 1
        return "it was stopped" if self._step in self._stalled else ""


def counted(found: TrialResult, metric: str) -> list[tuple[int, bool]]:
    """At which numbers *metric* was read, and whether that counts."""
    return [(one.n, not one.invalid) for one in found.readings if metric in one.values]


def test_a_start_in_a_stall_is_not_timed_and_its_view_from_inside_remains() -> None:
    fleet = Fleet(told=b"tare inside MemTotal 100\n")
    found = up(fleet, watch=Scripted(1, 3))  # the first two starts: the ground is step 0, the reading at 1 step 2
    assert (found.status, found.reached, found.lost, len(fleet.started)) == ("ok", 5, 0, 5)
    starts = counted(found, "ready_seconds")
    assert starts == [(1, False), (2, False), (3, True), (4, True), (5, True)]
    assert counted(found, "inside_total_bytes") == [(1, True), (3, True)]
    said = "the start after {} does not count: it was stopped"
    assert found.warnings == (said.format(0), said.format(1))


def test_a_start_that_was_lost_in_a_stall_is_not_counted_and_another_comes() -> None:
    fleet = Fleet(bad=frozenset((2,)))
    found = up(fleet, watch=Scripted(3))
    assert (found.status, found.reached, found.lost, len(fleet.started)) == ("ok", 5, 0, 6)
    assert fleet.alive == set()


def test_losses_in_stalls_are_excused_only_so_often() -> None:
    found = up(Fleet(bad=frozenset(range(2, 100))), watch=Scripted(*range(3, 100)))
    assert (found.reached, found.lost) == (1, 3)
    assert "error rate: 3 of 4 starts failed" in str(found.stopped_by)


def test_the_latency_rule_does_not_look_at_what_stalled() -> None:
    rules = StackTable(floor_percent=5, pressure_percent=0, window_s=0, latency_s=1e-9)
    assert str(up(Fleet(), most=30, counts=(1,), rules=rules).stopped_by).startswith("start latency")
    spoilt = up(Fleet(), most=30, counts=(1,), rules=rules, watch=Scripted(*range(3, 33)))
    assert str(spoilt.stopped_by) == "count: 30"


def test_a_reading_in_a_stall_is_kept_and_taken_again() -> None:
    found = up(Fleet(), watch=Scripted(2, 3))
    assert counted(found, "host_free_bytes") == [
        (0, True), (1, False), (1, False), (1, True), (3, True), (5, True), (5, True),
    ]  # fmt: skip
    assert {one.invalid for one in found.readings if one.n == 1 and one.role} == {"it was stopped", ""}
    assert found.warnings == ("a reading at 1 does not count: it was stopped",) * 2


def test_a_reading_that_always_stalls_is_given_up_and_the_ascent_goes_on() -> None:
    found = up(Fleet(), watch=Scripted(*range(2, 3 + MOST_REPEATS)))
    assert (found.status, found.reached) == ("ok", 5)
    assert counted(found, "host_free_bytes")[1:-3] == [(1, False)] * (1 + MOST_REPEATS)


def alarmed(monkeypatch: pytest.MonkeyPatch, fleet: Fleet, times: int) -> None:
    """The alarm of the window goes off so many times with one alive."""
    left = [times]

    def watch(*told: object) -> dict[str, float]:
        if len(fleet.alive) == 1 and left[0]:
            left[0] -= 1
            raise TrialTimeout
        return {}

    monkeypatch.setattr(scaling, "watch", watch)


def test_a_window_in_which_it_was_stopped_for_minutes_is_watched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()
    alarmed(monkeypatch, fleet, MOST_REPEATS)
    found = up(fleet)
    assert (found.status, found.reached) == ("ok", 5)
    assert found.warnings == ("a reading at 1 does not count: it took too long",) * MOST_REPEATS
    assert counted(found, "host_free_bytes")[:3] == [(0, True), (1, True), (3, True)]


def test_an_ascent_whose_window_never_ends_is_invalid_and_all_come_down(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet()
    alarmed(monkeypatch, fleet, 1 + MOST_REPEATS)
    found = up(fleet)
    assert found.status == "invalid"
    assert "it took too long" in found.reason
    assert fleet.alive == set()


def test_without_a_ground_the_whole_ascent_is_invalid() -> None:
    fleet = Fleet()
    found = up(fleet, watch=Scripted(*range(1 + MOST_REPEATS)))
    assert (found.status, fleet.started) == ("invalid", [])
    assert "a reading at 0 does not count: it was stopped" in found.reason
    assert up(Fleet(), watch=Scripted(*range(MOST_REPEATS))).status == "ok"


def test_a_removal_in_a_stall_is_not_timed_and_its_memory_counts() -> None:
    # Ground, start, reading at 1, start, reading at 2, start and reading at 3; then down to 2, to 1, to nothing.
    found = up(Fleet(), most=3, counts=(1, 2, 3), descends=True, watch=Scripted(7))
    assert counted(found, "removal_seconds") == [(2, False), (1, True), (3, False)]
    assert counted(found, "teardown_seconds") == [(3, False)], "it is the time of all removals"
    assert all(valid for _, valid in counted(found, "host_free_bytes"))
    fine = up(Fleet(), most=3, counts=(1, 2, 3), descends=True)
    assert counted(fine, "removal_seconds") == [(2, True), (1, True), (3, True)]
