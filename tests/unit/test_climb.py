"""An ascent over fake instances: what is read where, what is counted, and that all come down again."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import climb as climbing
from bench.climb import Mountain, climb
from bench.interrupts import Interrupts
from bench.reading import Weighing
from bench.scenario_file import StackTable
from bench.start import Contract
from runners.base import Mark, RunnerError

CONTRACT = Contract(ready="ready", timeout_s=5.0)


class Fleet:
    """Launches pipes that say what the test wants, and remembers who came and went."""

    def __init__(self, *, bad: frozenset[int] = frozenset(), full_at: int = 0) -> None:
        self.bad = bad
        self.full_at = full_at
        self.started: list[str] = []
        self.alive: set[str] = set()

    @contextmanager
    def launch(self, name: str, mark: Mark) -> Iterator[Fake]:
        self.started.append(name)
        if self.full_at and len(self.started) >= self.full_at:
            raise RunnerError("no room", "x") from OSError(errno.EMFILE, "Too many open files")
        reader, writer = os.pipe2(os.O_NONBLOCK)
        self.alive.add(name)
        try:
            os.write(writer, b"tare first\n" if len(self.started) in self.bad else b"tare ready\n")
            if len(self.started) in self.bad:
                os.close(writer)
                writer = -1
            yield Fake(reader)
        finally:
            self.alive.discard(name)
            os.close(reader)
            if writer >= 0:
                os.close(writer)


class Fake:
    cgroup: Path | None = None

    def __init__(self, console: int) -> None:
        self.console = console

    def pids(self) -> frozenset[int]:
        return frozenset((os.getpid(),))

    def explain(self) -> str:
        return "it fell"


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(climbing, "settle", lambda: True)


def up(fleet: Fleet, *, most: int = 5, counts: tuple[int, ...] = (1, 3), rules: StackTable | None = None) -> Weighing:
    mountain = Mountain(
        launch=fleet.launch,
        memory_bytes=1 << 20,
        resident_pids=frozenset((os.getpid(),)),
        counts=counts,
        most=most,
        rules=rules or StackTable(floor_percent=5, pressure_percent=0),
    )
    names = (f"x-{number}" for number in iter(range(1, 10**9)))
    with Interrupts() as interrupts:
        return climb(mountain, names, CONTRACT, interrupts=interrupts, alive=lambda n: None)


def test_everything_is_read_at_the_counts_and_at_the_top_and_after() -> None:
    fleet = Fleet()
    found = up(fleet)
    assert (found.status, found.reached, found.lost, found.stopped_by) == ("ok", 5, 0, "count: 5")
    host = [(reading.n, reading.stage) for reading in found.readings if "host_free_bytes" in reading.values]
    assert host == [(0, ""), (1, ""), (3, ""), (5, ""), (5, "after")]
    starts = [reading.n for reading in found.readings if "ready_seconds" in reading.values]
    assert starts == [1, 2, 3, 4, 5]
    roles = {reading.role for reading in found.readings if reading.n == 3 and "pss_bytes" in reading.values}
    name = Path("/proc/self/comm").read_text().strip()
    assert roles == {name, f"{name} (resident)"}
    assert fleet.alive == set()


def test_an_instance_that_is_lost_is_counted_removed_and_the_ascent_goes_on() -> None:
    fleet = Fleet(bad=frozenset((2,)))
    found = up(fleet)
    assert (found.reached, found.lost, len(fleet.started)) == (5, 1, 6)
    assert "tare first" in found.console


def test_too_many_lost_end_it() -> None:
    found = up(Fleet(bad=frozenset(range(2, 100))))
    assert (found.reached, found.lost) == (1, 3)
    assert "error rate: 3 of 4 starts lost" in found.stopped_by


def test_a_limit_of_the_host_is_a_rule_and_no_failure() -> None:
    found = up(Fleet(full_at=4))
    assert (found.status, found.reached) == ("ok", 3)
    assert "limit: no room" in found.stopped_by


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

    mountain = Mountain(
        launch=breaks,
        memory_bytes=1,
        resident_pids=frozenset(),
        counts=(1,),
        most=5,
        rules=StackTable(floor_percent=5, pressure_percent=0),
    )
    with Interrupts() as interrupts:
        found = climb(mountain, iter(map(str, range(99))), CONTRACT, interrupts=interrupts, alive=lambda n: None)
    assert (found.status, found.reason) == ("failed", "broken: altogether")
    assert fleet.alive == set()


def test_pressure_and_swap_are_read_from_what_the_kernel_says() -> None:
    text = "some avg10=1.00 avg60=0 avg300=0 total=5\nfull avg10=12.34 avg60=0.00 avg300=0.00 total=7\n"
    assert climbing._full_pressure_percent(text) == 12.34
    assert climbing._full_pressure_percent("") == 0.0
    assert climbing._swapped_in("nr_free_pages 1\npswpin 42\npswpout 1\n") == 42
