"""Ramps of instances that work: the processors end them, and the readings say what the instances used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare.bench.records import store
from tare.bench.records.store import Run
from tare.runners.container.cgroup import cgroups
from tests import cli
from tests.conftest import require

#: Half of a processor each: whatever the number of processors, two or three of them for each one end the ramp.
SCENARIO = """
schema = 1
question = "How many that work?"
experiment = "density"
reference = "process"
[run]
rounds = 1
warmup = 0
timeout_s = 60
[payload]
busy_percent = 50
[stack]
counts = [{counts}]
floor_percent = 10
cpu_floor_percent = 25
window_s = 1
[[subjects]]
label = "process"
runner = "process"
[[subjects]]
label = "container"
runner = "container"
[[subjects]]
label = "vm"
runner = "vm"
counts = [1, 2]
most = 2
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    require("root", os.geteuid() == 0, "this is not root")
    require("cgroups", not cgroups.usable(), cgroups.usable())
    place = tmp_path_factory.mktemp("busy")
    file = place / "busy.toml"
    file.write_text(SCENARIO.format(counts=", ".join(map(str, counts()))))
    done = cli.tare("run", file, "--results", place / "runs", timeout_s=300)
    assert done.returncode == 0, done.stderr
    return store.load(Path(done.stdout.strip()))


def counts() -> list[int]:
    """Some that fit, and some that ask for more than all processors."""
    processors = os.cpu_count() or 1
    return sorted({1, 2, processors, 2 * processors, 3 * processors, 4 * processors})


def values(run: Run, subject: str, metric: str) -> dict[int, float]:
    """The values by their numbers of instances, of the scale-up."""
    rows = (one for one in run.samples if not one.role and not one.stage)
    return {one.n: one.value for one in rows if (one.subject, one.metric) == (subject, metric)}


@pytest.mark.parametrize("subject", ["process", "container"])
def test_the_processors_end_it_and_the_run_says_so(run: Run, subject: str) -> None:
    (outcome,) = [one for one in run.outcomes if one.subject == subject]
    assert outcome.status == "ok"
    assert outcome.stopped_by
    assert outcome.stopped_by.rule == "processor floor"
    assert outcome.stopped_by.detail.endswith("the floor is 25 %")
    assert outcome.reached in {0, *counts()}  # none where others keep the host busy
    assert values(run, subject, "host_busy_ratio")[outcome.reached] > 0.75


@pytest.mark.parametrize("subject", ["process", "container", "vm"])
def test_the_processor_time_of_a_window_grows_with_those_that_work(run: Run, subject: str) -> None:
    (outcome,) = [one for one in run.outcomes if one.subject == subject]
    if outcome.status == "skipped":
        require("qemu", False, outcome.reason)
    used, window = values(run, subject, "window_cpu_seconds"), values(run, subject, "window_seconds")
    assert sorted(used) == sorted(window)
    assert used[0] < 0.1, "the harness sleeps"
    if subject == "vm":
        # A virtual machine is counted once, wherever libvirt put it, and uses more than its payload.
        assert 0.25 < used[1] / window[1] < 0.95
    elif outcome.reached > 1:
        assert 0.25 < used[1] / window[1] < 0.75
        assert list(used.values()) == sorted(used.values())
        assert used[outcome.reached] > 1.5 * used[1]


@pytest.mark.parametrize("subject", ["process", "container"])
def test_the_way_down_is_read_where_the_way_up_was(run: Run, subject: str) -> None:
    (outcome,) = [one for one in run.outcomes if one.subject == subject]
    mine = [one for one in run.samples if one.subject == subject and not one.role]
    up = {one.n for one in mine if (one.stage, one.metric) == ("", "host_free_bytes")}
    down = [one.n for one in mine if (one.stage, one.metric) == ("down", "host_free_bytes")]
    assert down == sorted(up - {0, outcome.reached}, reverse=True)
    removals = [one.value for one in mine if one.metric == "removal_seconds"]
    (teardown,) = [one.value for one in mine if one.metric == "teardown_seconds"]
    assert len(removals) == len(down) + 1
    assert sum(removals) == pytest.approx(teardown)
