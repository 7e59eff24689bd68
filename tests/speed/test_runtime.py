"""Start, exec, removal of the same container by each runtime: ``nox -s bench -- runtime``.

All are started in turn, shuffled within each round, so that what the machine does meanwhile meets all of them alike.
pytest-benchmark runs its tests one after another; so the first test takes all readings, and each test reports its own
through a timer that plays them back.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.conftest import require
from tests.speed import arena

#: The floor first: the others say how many times it they take.
SUBJECTS = ("floor", "process", "container", "container-cold", "crun", "runc", "bwrap")
NEEDS = {"crun": "crun", "runc": "runc", "bwrap": "bwrap"}
ROUNDS = 60
WARM_UP = 3


class Playback:
    """A clock whose pairs of readings are as far apart as the durations it was given."""

    def __init__(self) -> None:
        self._readings: Iterator[float] = iter(())

    def load(self, durations_s: list[float]) -> None:
        """The next readings: for each duration one of 0 and one of the duration."""
        self._readings = itertools.chain.from_iterable((0.0, each) for each in durations_s)

    def __call__(self) -> float:
        return next(self._readings)


PLAYBACK = Playback()


@pytest.fixture(scope="module")
def weighed(request: pytest.FixtureRequest) -> dict[str, list[float] | str]:
    """Seconds of each start with removal, by subject; or why it cannot run. One round unless timings are wanted."""
    require("root", os.geteuid() == 0, "this is not root")
    timed = request.config.getoption("--benchmark-enable") or request.config.getoption("--benchmark-only")
    found: dict[str, list[float] | str] = {}
    with ExitStack() as stack:
        try:
            place = stack.enter_context(arena.opened())
        except LookupError as error:
            require("cgroups", False, str(error))
            raise
        entered: dict[str, arena.Contestant] = {}
        for name in SUBJECTS:
            try:
                entered[name] = place.enter(name)
            except LookupError as error:
                found[name] = str(error)
        durations: dict[str, list[float]] = {name: [] for name in entered}
        shuffled = random.Random(1)
        for number in range(-WARM_UP, ROUNDS) if timed else range(1):
            for name in shuffled.sample(sorted(entered), len(entered)):
                began_ns = time.monotonic_ns()
                entered[name].start(f"b{number}")
                entered[name].stop(f"b{number}")
                if number >= 0:
                    durations[name].append((time.monotonic_ns() - began_ns) / 1e9)
    return {**found, **durations}


@pytest.mark.benchmark(timer=PLAYBACK)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_start_exec_removal(benchmark: BenchmarkFixture, weighed: dict[str, list[float] | str], subject: str) -> None:
    durations = weighed[subject]
    if isinstance(durations, str):
        require(NEEDS.get(subject, "root"), False, durations)
        raise LookupError(durations)
    # In brackets, pytest-benchmark shows multiples of a group's least: of the floor, without the bare process.
    benchmark.group = "a bare process" if subject == "process" else "start, exec, removal of a container; interleaved"
    for other in ("floor", "crun"):
        reference = weighed[other]
        if isinstance(reference, list):
            ratio = statistics.median(a / b for a, b in zip(durations, reference, strict=True))
            benchmark.extra_info[f"times {other}"] = round(ratio, 2)
    benchmark.extra_info["load"] = round(os.getloadavg()[0], 2)
    PLAYBACK.load(durations)
    benchmark.pedantic(lambda: None, rounds=len(durations))  # type: ignore[no-untyped-call]
    assert all(each > 0 for each in durations)
