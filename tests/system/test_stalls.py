"""The measuring process really stopped, frozen, starved: what was timed meanwhile does not count, and is run again."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tare.bench.readings import stalls
from tare.bench.records import store
from tare.bench.records.rows import Outcome, Sample
from tare.runners.container.cgroup import cgroups
from tests import cli
from tests.conftest import require, wait_until

STARTS = """
schema = 1
question = "Does a stop of the measuring process show?"
reference = "slow"
[run]
rounds = {rounds}
warmup = 0
timeout_s = {timeout_s}
[[subjects]]
label = "slow"
runner = "process"
delay_ms = {delay_ms}
"""
RAMP = """
schema = 1
question = "Which steps of a ramp does a stop spoil?"
experiment = "density"
reference = "slow"
[run]
rounds = 1
warmup = 0
timeout_s = 30
[stack]
counts = [1, 2, 4]
window_s = 0.5
[[subjects]]
label = "slow"
runner = "process"
delay_ms = 300
"""
LEAST = """
schema = 1
question = "How little is enough?"
experiment = "least-memory"
reference = "slow"
[run]
rounds = 1
warmup = 0
timeout_s = 30
[least]
high_mib = 16
step_kib = 1024
[[subjects]]
label = "slow"
runner = "process"
options = { limit = "cgroup" }
delay_ms = 300
"""
STOP_S = 0.7


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root", os.geteuid() == 0, "this is not root")


class Running:
    """A run in the background."""

    def __init__(self, tmp_path: Path, scenario: str, *words: str) -> None:
        file, self.results = tmp_path / "stalls.toml", tmp_path / "runs"
        file.write_text(scenario)
        self.process = subprocess.Popen(
            cli.command("run", file, "--results", self.results, *words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cli.ROOT,
            env=cli.environment(),
        )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, if a test failed before: the next one could not measure."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
            self.process.communicate(timeout=60)

    @property
    def path(self) -> Path:
        return store.runs(self.results)[0]

    def wait_for(self, instances: int = 1) -> None:
        """Until so many instances are alive."""
        mine = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        wait_until(lambda: self._payloads(mine) >= instances, 60)

    @staticmethod
    def _payloads(children: Path) -> int:
        found = 0
        for pid in children.read_text().split():
            with contextlib.suppress(OSError):
                found += "delay-ms" in Path(f"/proc/{pid}/cmdline").read_text()
        return found

    def end(self) -> int:
        self.output, self.errors = self.process.communicate(timeout=120)
        return self.process.returncode


def rows(path: Path) -> tuple[list[Outcome], list[Sample]]:
    """All that was ever written, whether it counts or not."""
    outcomes = [msgspec.json.decode(line, type=Outcome) for line in (path / store.OUTCOMES).read_bytes().splitlines()]
    return outcomes, [
        msgspec.json.decode(line, type=Sample) for line in (path / store.SAMPLES).read_bytes().splitlines()
    ]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """By the freezer: of the run's own cgroup where there is one hierarchy, else of one that this test makes."""
    where = cgroups.layout()
    if where.mode == "v2":
        file = harness(pid, str(where.v2)) / "cgroup.freeze"
        words, made = ("1", "0"), None
    else:
        require("cgroups", "freezer" in where.v1, "no freezer is mounted")
        made = Path(where.v1["freezer"], f"stalls-{os.getpid()}")
        made.mkdir()
        (made / "cgroup.procs").write_text(str(pid))
        file, words = made / "freezer.state", ("FROZEN", "THAWED")
    file.write_text(words[0])
    try:
        yield
    finally:
        file.write_text(words[1])
        if made:
            wait_until(lambda: _emptied(made), 10)


def _emptied(group: Path) -> bool:
    """Whether *group* could be removed: what a process in it starts comes into it, too."""
    for one in (group / "cgroup.procs").read_text().split():
        with contextlib.suppress(ProcessLookupError):
            (group.parent / "cgroup.procs").write_text(one)
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def harness(pid: int, mount: str) -> Path:
    """The cgroup below *mount* in which the measuring process is."""
    return next(one for one in Path(mount).glob("tare-*/harness") if str(pid) in (one / "cgroup.procs").read_text())


@contextmanager
def starved(pid: int) -> Iterator[None]:
    """By a real-time program on the one processor that it is left."""
    cpu, allowed = min(os.sched_getaffinity(0)), os.sched_getaffinity(pid)
    tasks = [int(one) for one in os.listdir(f"/proc/{pid}/task")]
    for task in tasks:
        os.sched_setaffinity(task, {cpu})
    hog = (
        f"import os, time\nos.sched_setaffinity(0, {{{cpu}}})\n"
        "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))\n"
        f"end = time.monotonic() + {STOP_S}\nwhile time.monotonic() < end: pass"
    )
    with subprocess.Popen([sys.executable, "-c", hog]) as running:
        yield
        assert running.wait(30) == 0
    for task in tasks:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(task, allowed)


@pytest.mark.parametrize("stall", [stopped, frozen, starved])
def test_a_start_in_which_the_measuring_process_did_not_run_is_run_again(
    tmp_path: Path, stall: Callable[[int], contextlib.AbstractContextManager[None]]
) -> None:
    with Running(tmp_path, STARTS.format(rounds=4, delay_ms=600, timeout_s=30)) as running:
        running.wait_for()
        with stall(running.process.pid):
            time.sleep(STOP_S)
        assert running.end() == 0, running.errors
    outcomes, samples = rows(running.path)
    spoilt = next(outcome for outcome in outcomes if outcome.status == "invalid")
    assert "the measuring process did not run for" in spoilt.reason
    kept = [one for one in samples if one.trial == spoilt.trial and one.metric == "ready_seconds"]
    assert [bool(one.invalid) for one in kept][-1] is False
    assert kept[0].invalid == spoilt.reason
    run = store.load(running.path)
    assert [outcome.status for outcome in run.outcomes] == ["ok"] * 4
    ready = [one.value for one in run.samples if one.metric == "ready_seconds"]
    assert len(ready) == 4
    assert any(text.startswith(f"{spoilt.trial}: the measuring process did not run") for text in run.header.warnings)
    assert "repeated" in " ".join(running.errors.split())


def test_a_time_out_that_a_stop_made_is_none(tmp_path: Path) -> None:
    with Running(tmp_path, STARTS.format(rounds=2, delay_ms=300, timeout_s=0.9)) as running:
        running.wait_for()
        with stopped(running.process.pid):
            time.sleep(1.2)
        assert running.end() == 0, running.errors
    assert {outcome.status for outcome in rows(running.path)[0]} == {"invalid", "ok"}


def test_a_trial_that_is_stopped_each_time_is_given_up_and_resumed(tmp_path: Path) -> None:
    with Running(tmp_path, STARTS.format(rounds=1, delay_ms=700, timeout_s=30)) as running:
        running.wait_for()
        while running.process.poll() is None:
            with stopped(running.process.pid):
                time.sleep(0.4)
            time.sleep(0.2)
        assert running.end() == 1, running.errors
    outcomes, _ = rows(running.path)
    assert [outcome.status for outcome in outcomes] == ["invalid"] * (1 + stalls.MOST_REPEATS)
    assert f"invalid {1 + stalls.MOST_REPEATS} times; not tried again" in store.load(running.path).header.warnings[-1]
    assert [one for one in store.load(running.path).samples if one.kind == "measured"] == []
    done = cli.tare("run", "--resume", running.path)
    assert done.returncode == 0, done.stderr
    assert [outcome.status for outcome in store.load(running.path).outcomes] == ["ok"]


def test_steps_of_a_ramp_in_which_it_did_not_run_do_not_count(tmp_path: Path) -> None:
    with Running(tmp_path, RAMP) as running:
        running.wait_for(2)
        for _ in range(4):  # starts and readings take turns
            with stopped(running.process.pid):
                time.sleep(STOP_S)
            time.sleep(0.3)
        assert running.end() == 0, running.errors
    _, samples = rows(running.path)
    assert {one.invalid.partition(" for ")[0] for one in samples if one.invalid} == {
        "the measuring process did not run"
    }
    run = store.load(running.path)
    (outcome,) = run.outcomes
    assert (outcome.status, outcome.reached, outcome.lost) == ("ok", 4, 0)
    ready = {one.n: one.value for one in run.samples if one.metric == "ready_seconds"}
    assert all(value < 0.3 + STOP_S for value in ready.values())
    assert {one.n for one in run.samples if one.metric == "host_free_bytes" and not one.stage} == {0, 1, 2, 4}
    assert all(0.5 <= one.value < 0.5 + STOP_S for one in run.samples if one.metric == "window_seconds")
    assert cli.tare("report", running.path).returncode == 0


def test_a_search_in_which_it_did_not_run_is_run_again(tmp_path: Path) -> None:
    with Running(tmp_path, LEAST) as running:
        running.wait_for()
        with stopped(running.process.pid):
            time.sleep(STOP_S)
        assert running.end() == 0, running.errors
    outcomes, _ = rows(running.path)
    assert [outcome.status for outcome in outcomes] == ["invalid", "ok"]


def test_work_waiting_and_a_held_lock_are_no_stalls() -> None:
    with stalls.Watch() as watch:
        for what in (_work, _wait, _hold):
            begun = watch.begin()
            what()
            # On a busy host work may have to wait for a processor, which is told by another clock.
            assert "did not run" not in watch.since(begun), what.__name__


def _work() -> None:
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        pass


def _wait() -> None:
    select.select([], [], [], 0.5)


def _hold() -> None:
    """As posix_spawn(3) does while the new program is read from a slow disk: asleep, with Python's lock held."""
    ctypes.PyDLL(None).usleep(500_000)


def test_the_thread_takes_no_signal_and_ends_with_its_block() -> None:
    before = set(Path("/proc/self/task").iterdir())  # tests before this one may have left some of libraries
    with stalls.Watch():
        (thread,) = set(Path("/proc/self/task").iterdir()) - before
        wait_until(lambda: _blocked(thread) & 0x7FFFFFFF == 0x7FFBFEFF, 5)  # all but SIGKILL and SIGSTOP
    wait_until(lambda: not thread.exists(), 5)  # the kernel is a moment behind the join


def _blocked(thread: Path) -> int:
    (line,) = [line for line in (thread / "status").read_text().splitlines() if line.startswith("SigBlk:")]
    return int(line.split()[1], 16)
