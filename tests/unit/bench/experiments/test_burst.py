"""A burst: several instances are started together, and one that does not get ready is counted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tare.bench import experiments
from tare.bench.experiments.start import Contract
from tare.bench.experiments.startup import StartupSubject, burst
from tare.bench.experiments.trial import TrialResult
from tare.bench.host.interrupts import Interrupts
from tare.bench.records.readiness import Mark
from tare.runners.base import Mark as Stamp
from tare.runners.base import RunnerError
from tare.runners.launch import drain
from tests.unit.still import Still


class Fake(Still):
    cgroup: Path | None = None

    def __init__(self, console: int) -> None:
        self.console = console

    def pids(self) -> frozenset[int]:
        return frozenset((os.getpid(),))

    def explain(self) -> str:
        return "it fell"


class Host:
    """Starts instances, of which those in *mute* end without a word, and notes which are alive."""

    def __init__(self, *mute: str, stays: str = "") -> None:
        self.mute = mute
        self.stays = stays
        self.alive: set[str] = set()
        self.most = 0

    @contextmanager
    def launch(self, name: str, mark: Stamp) -> Iterator[Fake]:
        reader, writer = os.pipe2(os.O_NONBLOCK)
        self.alive.add(name)
        self.most = max(self.most, len(self.alive))
        try:
            mark("created")
            if name not in self.mute:
                os.write(writer, b"tare first\ntare ready\n")
            os.close(writer)
            yield Fake(reader)
        finally:
            self.alive.remove(name)
            drain.close(reader)
            if name == self.stays:
                raise RunnerError(f"{name} does not end", "its first process is 7")


def started(host: Host, count: int) -> TrialResult:
    names = [f"x-{number}" for number in range(count)]
    with Interrupts() as interrupts:
        contract = Contract(ready=Mark(), timeout_s=5.0)
        return burst(host.launch, names, contract, interrupts=interrupts, cpu_ns=lambda *_: 7)


def test_all_are_alive_at_once_and_all_are_removed() -> None:
    host = Host()
    found = started(host, 8)
    assert found.status == "ok"
    assert (host.most, host.alive) == (8, set())
    values = found.values
    assert 0 < values["ready_seconds"] <= values["slowest_seconds"]
    assert values["pss_bytes"] > 0
    assert values["cpu_seconds"] == 0.0


def test_one_that_does_not_get_ready_fails_the_burst_and_is_counted() -> None:
    host = Host("x-2", "x-5")
    found = started(host, 8)
    assert (found.status, found.lost, host.alive) == ("failed", 2, set())
    assert found.reason.startswith("2 of 8 did not get ready; the first: it ended before it was ready: no 'ready'")
    assert found.readings == ()


def test_one_that_cannot_be_removed_fails_the_burst_and_not_the_run() -> None:
    for mute, before in (((), ""), (("x-1",), "1 of 8 did not get ready; the first: it ended")):
        host = Host(*mute, stays="x-3")
        found = started(host, 8)
        assert (found.status, host.alive, found.readings) == ("failed", set(), ())
        assert found.reason.startswith(before), "why the start failed comes first"
        assert found.reason.endswith("x-3 does not end: its first process is 7")


def test_a_subject_says_how_many_or_the_table_does(tmp_path: Path) -> None:
    file = tmp_path / "burst.toml"
    file.write_text("""
schema = 1
question = "How do starts at once behave?"
[run]
rounds = 1
warmup = 0
[startup]
at_once = 2
[[subjects]]
label = "process"
runner = "process"
[[subjects]]
label = "container-{at_once}"
runner = "container"
matrix = { at_once = [1, 8, 32] }
""")
    found = experiments.scenario(file)
    asked = {one.label: one.keys(StartupSubject).at_once for one in found.subjects}
    assert asked == {"process": 2, "container-1": 1, "container-8": 8, "container-32": 32}
    assert sum(experiments.plan(found).efforts[label].starts for label in asked) == 43
