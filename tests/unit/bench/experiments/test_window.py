"""The window before a reading: what processor time the run is said to have used in it, and when none is said."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tare.bench.experiments.readout import Meter, watch
from tare.bench.host.interrupts import Interrupts
from tare.bench.records.metrics import METRICS
from tests.unit.still import Still


class Fake(Still):
    console = -1

    def __init__(self, cgroup: Path | None) -> None:
        self.cgroup = cgroup

    def pids(self) -> frozenset[int]:
        return frozenset((os.getpid(),))

    def explain(self) -> str:
        return ""


def watched(meter: Meter | None, *instances: Fake, window_s: float = 0.01) -> dict[str, float]:
    with Interrupts() as interrupts:
        return watch(window_s, interrupts, instances, meter)


def counting(values: Iterator[int | Exception], asked: list[Path | None] | None = None) -> Meter:
    """A meter whose readings are *values*, and which notes the cgroups that it was made for."""

    def meter(cgroups: Iterable[Path | None]) -> Callable[[], int]:
        (asked if asked is not None else []).extend(cgroups)

        def read() -> int:
            value = next(values)
            if isinstance(value, Exception):
                raise value
            return value

        return read

    return meter


def test_the_processor_time_of_the_window_is_the_difference_of_two_readings_of_one_meter() -> None:
    asked: list[Path | None] = []
    found = watched(counting(iter((5_000_000_000, 5_250_000_000)), asked), Fake(Path("/a")), Fake(None))
    assert found["window_cpu_seconds"] == 0.25
    assert asked == [Path("/a"), None]
    assert all(METRICS[name].implausible(value) == "" for name, value in found.items())


def test_nothing_is_said_where_nobody_counts() -> None:
    assert "window_cpu_seconds" not in watched(None)
    assert "window_seconds" in watched(None)


@pytest.mark.parametrize("values", [(FileNotFoundError(), 7), (7, FileNotFoundError())])
def test_nothing_is_said_where_an_instances_cgroup_went_meanwhile(values: tuple[int | Exception, ...]) -> None:
    found = watched(counting(iter(values)), Fake(Path("/gone")))
    assert "window_cpu_seconds" not in found
    assert found["window_seconds"] >= 0.01


def test_no_window_asks_no_meter() -> None:
    assert watched(counting(iter(())), window_s=0) == {}
