"""Ramps with real runners: what instances see inside, what the host does meanwhile, and what looking costs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tare.bench.records import store
from tare.bench.records.store import Run
from tare.runners import payload
from tare.runners.image.cache import cache_dir
from tests import cli
from tests.conftest import require

SCENARIO = """
schema = 1
question = "What does an instance see of memory?"
experiment = "memory"
reference = "process"
[run]
rounds = 1
warmup = 0
timeout_s = 60
[stack]
counts = [1, 2]
floor_percent = 10
window_s = 0.2
[[subjects]]
label = "process"
runner = "process"
[[subjects]]
label = "container"
runner = "container"
[[subjects]]
label = "crun"
runner = "crun"
[[subjects]]
label = "vm"
runner = "vm"
[[subjects]]
label = "lazy"
runner = "container"
touch_mib = 32
release = "lazily"
[[subjects]]
label = "lazy-asked"
runner = "container"
touch_mib = 32
release = "lazily"
reclaim_mib = 32
[[subjects]]
label = "vm-asked"
runner = "vm"
reclaim_mib = 32
"""
GRANT_BYTES = 128 << 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    require("root", os.geteuid() == 0, "this is not root")
    place = tmp_path_factory.mktemp("ramps")
    file = place / "ramps.toml"
    file.write_text(SCENARIO)
    done = cli.tare("run", file, "--results", place / "runs")
    assert done.returncode == 0, done.stderr
    return store.load(Path(done.stdout.strip()))


def values(run: Run, subject: str, metric: str) -> dict[int, float]:
    """The values by their numbers of instances."""
    for outcome in run.outcomes:
        if outcome.subject == subject and outcome.status == "skipped":
            require("qemu" if subject == "vm" else subject, False, outcome.reason)
    rows = (one for one in run.samples if not one.role and not one.stage)
    return {one.n: one.value for one in rows if (one.subject, one.metric) == (subject, metric)}


@pytest.mark.parametrize("subject", ["process", "container", "crun"])
def test_a_process_and_a_container_see_the_memory_of_the_host(run: Run, subject: str) -> None:
    total = values(run, subject, "inside_total_bytes")
    assert sorted(total) == [1, 2]
    assert set(total.values()) == set(values(run, "process", "host_total_bytes").values())
    assert all(0 < free < total[n] for n, free in values(run, subject, "inside_free_bytes").items())


def test_a_virtual_machine_sees_its_grant_less_what_its_kernel_took(run: Run) -> None:
    total = values(run, "vm", "inside_total_bytes")
    assert sorted(total) == [1, 2]
    assert all(GRANT_BYTES / 2 < value < GRANT_BYTES - (8 << 20) for value in total.values())
    for metric in ("free", "available", "slab", "page_tables", "kernel_stack", "anon", "percpu"):
        assert all(0 < value < total[n] for n, value in values(run, "vm", f"inside_{metric}_bytes").items()), metric


@pytest.mark.parametrize("subject", ["process", "container", "crun", "vm"])
def test_every_subject_is_told_to_tell_and_can(run: Run, subject: str) -> None:
    assert values(run, subject, "inside_total_bytes")
    (record,) = [one for one in run.header.subject_records() if one.label == subject]
    assert "tell=memory" in record.argv
    assert not [text for text in run.header.warnings if "from inside" in text]


@pytest.mark.parametrize("subject", ["process", "container"])
def test_the_idle_host_and_the_cost_of_looking_are_read_at_every_number(run: Run, subject: str) -> None:
    for metric in ("window_seconds", "host_busy_ratio", "sampling_seconds", "sampling_bytes"):
        assert sorted(values(run, subject, metric)) == [0, 1, 2], metric
    assert all(0 <= busy <= 1 for busy in values(run, subject, "host_busy_ratio").values())
    if Path("/proc/pressure/memory").exists():
        assert sorted(values(run, subject, "pressure_memory_full_ratio")) == [0, 1, 2]


@pytest.mark.parametrize("subject", ["process", "container", "crun", "runc", "vm"])
def test_several_are_started_together(tmp_path: Path, subject: str) -> None:
    """Every runner must bear it: pid-files, events and helpers are shared by what starts at the same time."""
    require("root", os.geteuid() == 0, "this is not root")
    file = tmp_path / "together.toml"
    file.write_text(
        'schema = 1\nquestion = "?"\nexperiment = "density"\nreference = "one"\n[run]\nrounds = 1\nwarmup = 0\n'
        "timeout_s = 60\n[stack]\ncounts = [1, 5, 9]\nat_once = 4\nwindow_s = 0\nfloor_percent = 10\n"
        f'[[subjects]]\nlabel = "one"\nrunner = "{subject}"\n' + ("counts = [1, 3]\n" if subject == "vm" else "")
    )
    done = cli.tare("run", file, "--results", tmp_path / "runs")
    run = store.load(next((tmp_path / "runs").iterdir()))
    (outcome,) = [one for one in run.outcomes if one.subject == "one"]
    if outcome.status == "skipped":
        require("qemu" if subject == "vm" else subject, False, outcome.reason)
    assert (done.returncode, outcome.status, outcome.lost) == (0, "ok", 0), done.stderr
    assert outcome.reached == (3 if subject == "vm" else 9)


def test_a_payload_that_sees_no_proc_says_so_and_gets_ready(tmp_path: Path) -> None:
    require("root", os.geteuid() == 0, "this is not root")
    shutil.copyfile(payload.binary(cache_dir()), tmp_path / "payload")
    (tmp_path / "payload").chmod(0o755)
    command = ["chroot", str(tmp_path), "/payload", *payload.Payload(tell="memory", exit_code=0).arguments()]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == [
        "tare first",
        "tare inside: cannot read /proc/meminfo: No such file or directory",
        "tare ready",
        "tare exit 0",
    ]


def test_the_host_gets_what_was_freed_lazily_only_when_it_asks(run: Run) -> None:
    kept, asked = (values(run, label, "cgroup_current_bytes") for label in ("lazy", "lazy-asked"))
    assert sorted(kept) == sorted(asked) == [1, 2]
    for n in (1, 2):
        assert kept[n] > n * (32 << 20)
        assert asked[n] < n * (8 << 20)


def test_a_subject_whose_host_cannot_ask_it_is_skipped_before_anything_starts(run: Run) -> None:
    (record,) = (subject for subject in run.header.subject_records() if subject.label == "vm-asked")
    if "cannot ask" not in record.skipped:
        require("qemu", False, record.skipped)
    assert 'balloon = "virtio"' in record.fix
