"""Whole runs, as a user makes them: results, order, interruption, resumption, a killed run, the cleaning after it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from tare.bench.host import run_cgroup, workspace
from tare.bench.records import store
from tare.runners.container.cgroup import cgroups
from tare.runners.container.warm import leftovers
from tests import cli
from tests.conftest import require, wait_until

SCENARIO = """
schema = 1
question = "Does a run end as it should?"
reference = "process"
[run]
rounds = {rounds}
warmup = 1
seed = 7
timeout_s = 30
[[subjects]]
label = "process"
runner = "process"
[[subjects]]
label = "slow"
runner = "process"
delay_ms = {delay_ms}
[[subjects]]
label = "container"
runner = "container"
delay_ms = {delay_ms}
"""

RAMP = """
schema = 1
question = "Is everything removed, however much there is?"
experiment = "density"
reference = "container"
[run]
rounds = 1
warmup = 0
timeout_s = 30
[stack]
counts = [5000]
window_s = 0
[[subjects]]
label = "container"
runner = "container"
[[subjects]]
label = "process"
runner = "process"
counts = [1]
"""
#: How many containers are alive when the run is killed.
MANY = 1000


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root", os.geteuid() == 0, "this is not root")


def scenario(tmp_path: Path, *, rounds: int = 8, delay_ms: int = 0) -> Path:
    file = tmp_path / "ends.toml"
    file.write_text(SCENARIO.format(rounds=rounds, delay_ms=delay_ms))
    return file


def nothing_is_left() -> None:
    assert [name for name in run_cgroup.leftovers() if workspace.is_ours(name)] == []
    assert workspace.leftovers() == []
    points = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert not [point for point in points if any(workspace.is_ours(part) for part in Path(point).parts)]


class Running:
    """A run in the background, and the directory that it writes."""

    def __init__(self, results: Path, *words: str | Path) -> None:
        self.results = results
        self.process = subprocess.Popen(
            cli.command("run", *words, "--results", results),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cli.ROOT,
            env=cli.environment(),
        )

    def after(self, trials: int) -> Path:
        """Wait until so many trials are on disk; return the run's directory."""

        def written() -> bool:
            assert self.process.poll() is None, self.process.stderr.read() if self.process.stderr else ""
            found = store.runs(self.results)
            return bool(found) and len(store.load(found[0]).outcomes) >= trials

        wait_until(written, 60)
        return store.runs(self.results)[0]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        _, self.errors = self.process.communicate(timeout=60)
        return self.process.returncode


def test_a_run_leaves_figures_in_the_order_of_its_plan_and_nothing_else(tmp_path: Path) -> None:
    path = scenario(tmp_path)
    done = cli.tare("run", path, "--seed", "5", "--results", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert "3 subjects x 8 rounds + 3 warm-ups = 27 starts" in done.stderr
    assert len(done.stdout.splitlines()) == 1
    run = store.load(Path(done.stdout.strip()))
    assert (run.header.state, run.header.leaks, run.notes) == ("complete", (), ())
    planned = json.loads(cli.tare("plan", path, "--seed", "5", "--json").stdout)
    assert [outcome.trial for outcome in run.outcomes] == [trial["id"] for trial in planned["trials"]]
    metrics = {sample.metric for sample in run.samples if sample.subject == "container"}
    assert metrics == {
        "created_seconds",
        "first_seconds",
        "ready_seconds",
        "stopped_seconds",
        "removed_seconds",
        "cpu_seconds",
        "pss_bytes",
    }
    for subject in run.header.subject_records():
        assert all((run.path / file).read_text() for file in subject.manifest)
    page = run.path / "report.html"
    assert done.stderr.splitlines()[-1] == str(page)
    assert page.read_text("utf-8").startswith("<!doctype html>")
    nothing_is_left()


def test_the_report_is_made_from_the_records_alone(tmp_path: Path) -> None:
    done = cli.tare("run", scenario(tmp_path), "--results", tmp_path / "runs")
    moved = tmp_path / "elsewhere"
    Path(done.stdout.strip()).rename(moved)
    report = cli.tare("report", moved)
    assert report.returncode == 0, report.stderr
    assert Path(report.stdout.strip()) == moved / "report.html"
    figures = json.loads(cli.tare("report", moved, "--json").stdout)
    assert {subject["label"] for subject in figures["subjects"]} == {"process", "slow", "container"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_valid_and_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    running = Running(tmp_path, scenario(tmp_path, delay_ms=50))
    run = running.after(6)
    assert running.end(number) == 130
    assert "--resume" in running.errors
    nothing_is_left()
    before = store.load(run)
    assert before.header.state == "interrupted"
    assert cli.tare("report", run).returncode == 0

    done = cli.tare("run", "--resume", run)
    assert done.returncode == 0, done.stderr
    after = store.load(run)
    assert after.header.state == "complete"
    assert {outcome.trial for outcome in after.outcomes} == {trial.id for trial in after.header.plan}
    assert after.outcomes[: len(before.outcomes)] == before.outcomes
    again = cli.tare("run", "--resume", run)
    assert again.returncode == 2
    assert "is complete" in again.stderr
    nothing_is_left()


def test_a_run_goes_on_only_under_the_settings_that_it_began_with(tmp_path: Path) -> None:
    running = Running(tmp_path, scenario(tmp_path, delay_ms=50))
    run = running.after(6)
    assert running.end(signal.SIGINT) == 130
    setting = Path("/proc/sys/vm/swappiness")
    before = setting.read_text().strip()
    other = str(int(before) + 1)
    setting.write_text(other)
    try:
        refused = cli.tare("run", "--resume", run)
    finally:
        setting.write_text(before)
    assert refused.returncode == 2
    assert f"swappiness was {before}, is {other}" in refused.stderr
    assert store.load(run).header.state == "interrupted"
    done = cli.tare("run", "--resume", run)
    assert done.returncode == 0, done.stderr


def test_a_killed_run_is_reported_cleaned_and_goes_on(tmp_path: Path) -> None:
    running = Running(tmp_path, scenario(tmp_path, delay_ms=100))
    run = running.after(6)
    assert running.end(signal.SIGKILL) == -signal.SIGKILL
    assert cli.tare("report", run).returncode == 0
    cleaned = cli.tare("clean")
    assert cleaned.returncode == 0, cleaned.stderr
    nothing_is_left()
    assert store.load(run).header.state == "running"
    done = cli.tare("run", "--resume", run)
    assert done.returncode == 0, done.stderr
    assert store.load(run).header.state == "complete"
    assert cli.tare("clean").stdout == ""


def groups_of_instances() -> list[Path]:
    """The cgroups of the instances that are alive, in the hierarchy that finds processes."""
    where = cgroups.layout()
    mount = Path(where.v1.get("memory") or where.v2 or "")
    return [Path(entry) for load in mount.glob("tare-*/load") for entry in os.scandir(load) if entry.name[-1].isdigit()]


def test_a_run_that_was_killed_with_a_thousand_alive_is_cleaned(tmp_path: Path) -> None:
    require("cgroups", not cgroups.usable(), cgroups.usable())
    available = psutil.virtual_memory().available
    assert available > 4 << 30, f"{available >> 20} MiB are too little for {MANY} containers and whoever else is here"
    file = tmp_path / "ramp.toml"
    file.write_text(RAMP)
    running = Running(tmp_path / "runs", file)
    try:
        wait_until(lambda: running.process.poll() is not None or len(groups_of_instances()) > MANY, 60)
        assert running.process.poll() is None, running.process.communicate()
        running.process.send_signal(signal.SIGSTOP)  # no further one comes
        theirs = [int(pid) for group in groups_of_instances() for pid in (group / "cgroup.procs").read_text().split()]
        networks = network_namespaces(theirs)
        helpers = [child.pid for child in psutil.Process(running.process.pid).children()]
        assert helpers
        assert len(theirs) >= MANY
        assert len(networks) >= MANY
    finally:
        ended = running.end(signal.SIGKILL)
    assert ended == -signal.SIGKILL
    cleaned = cli.tare("clean")
    assert cleaned.returncode == 0, cleaned.stderr
    nothing_is_left()
    assert not [pid for pid in (*theirs, *helpers) if leftovers.alive(pid)]
    assert networks.isdisjoint(network_namespaces(map(int, filter(str.isdigit, os.listdir("/proc")))))
    assert cli.tare("clean").stdout == ""


def network_namespaces(pids: Iterable[int]) -> set[str]:
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it has ended
            found.add(os.fspath(Path(f"/proc/{pid}/ns/net").readlink()))
    return found


def test_two_runs_at_once_are_refused_and_so_is_cleaning(tmp_path: Path) -> None:
    running = Running(tmp_path / "one", scenario(tmp_path, delay_ms=50))
    running.after(1)
    for words in (("run", scenario(tmp_path), "--results", tmp_path / "two"), ("clean",)):
        second = cli.tare(*words)
        assert second.returncode == 2
        assert f"its pid is {running.process.pid}" in second.stderr
    assert not (tmp_path / "two").exists()
    assert running.end(signal.SIGINT) == 130


def test_failed_starts_are_counted_shown_and_exit_1(tmp_path: Path) -> None:
    path = scenario(tmp_path, rounds=3, delay_ms=5000)
    done = cli.tare("run", path, "--timeout", "0.3", "--results", tmp_path / "runs")
    assert done.returncode == 1
    run = store.load(Path(done.stdout.strip()))
    bad = [outcome for outcome in run.outcomes if outcome.status == "timeout"]
    assert {outcome.subject for outcome in bad} == {"slow", "container"}
    assert all("no 'ready' within 0.3 s" in outcome.reason for outcome in bad)
    assert all("tare first" in (run.path / outcome.log).read_text() for outcome in bad)
    assert not [sample for sample in run.samples if sample.subject == "slow"]
    nothing_is_left()


def test_nothing_that_can_run_is_exit_3_with_reason_and_fix(tmp_path: Path) -> None:
    compilers = tmp_path / "bin"
    compilers.mkdir()
    done = cli.tare(
        "run",
        scenario(tmp_path),
        "--results",
        tmp_path / "runs",
        PATH=str(compilers),
        TARE_CACHE=str(tmp_path / "cache"),
    )
    assert done.returncode == 3
    assert "no C compiler" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(" fix: ")
    (run,) = store.runs(tmp_path / "runs")
    assert {outcome.status for outcome in store.load(run).outcomes} == {"skipped"}


def test_a_missing_engine_is_skipped_with_its_reason_and_the_rest_runs(tmp_path: Path) -> None:
    path = tmp_path / "skips.toml"
    path.write_text(
        SCENARIO.format(rounds=3, delay_ms=0) + '[[subjects]]\nlabel = "crun"\nrunner = "crun"\n', encoding="utf-8"
    )
    cli.tare("doctor")  # the payload is in the cache afterwards
    empty = tmp_path / "bin"
    empty.mkdir()
    done = cli.tare("run", path, "--results", tmp_path / "runs", PATH=str(empty))
    assert done.returncode == 0, done.stderr
    assert "skipped crun" in done.stderr
    run = store.load(Path(done.stdout.strip()))
    (skipped,) = [outcome for outcome in run.outcomes if outcome.status == "skipped"]
    assert (skipped.subject, bool(skipped.reason), bool(skipped.fix)) == ("crun", True, True)


def test_cold_caches_are_a_condition_of_the_run(tmp_path: Path) -> None:
    done = cli.tare("run", scenario(tmp_path, rounds=2), "--cache", "cold", "--results", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert store.load(Path(done.stdout.strip())).header.scenario.run.cache == "cold"


def test_the_measuring_process_never_loads_what_draws(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom tare.bench import engine, experiments\n"
        "from tare.bench.monitor import Silent\nfrom tare.runners.image.cache import cache_dir\n"
        f"made = experiments.plan(experiments.scenario(Path({str(scenario(tmp_path, rounds=1))!r})))\n"
        f"engine.run(made, Path({str(tmp_path / 'runs')!r}), cache_dir(), Silent())\n"
        "print(sorted({'pandas', 'matplotlib', 'scipy', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cli.ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_doctor_says_what_can_run_and_how_it_knows() -> None:
    done = cli.tare("doctor", "--json")
    assert done.returncode == 0, done.stderr
    diagnosis = json.loads(done.stdout)
    assert all(one["ok"] or (one["why"] and one["fix"]) for one in diagnosis["runners"])
    text = cli.tare("doctor")
    assert max(map(len, text.stdout.splitlines())) <= 80
