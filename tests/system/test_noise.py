"""A run beside hogs of memory and processors claims nothing that it should not, and says who; the same run quiet does.

The tests with hogs are long proofs. The hogs are this test's own: each ends with the test, by its pid; that of memory
moves some hundred MiB, and lets go of everything while the host has little available.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tare import reports
from tare.bench.readings import hostmem
from tare.bench.records import store
from tare.bench.records.store import Run
from tare.reports.analysis import noise
from tare.reports.analysis.model import Report
from tests import cli
from tests.conftest import require

STARTS = """
schema = 1
question = "How much longer does a container take?"
reference = "process"
[run]
rounds = 8
[[subjects]]
label = "process"
runner = "process"
[[subjects]]
label = "container"
runner = "container"
"""
MEMORY = """
schema = 1
question = "What does one more cost?"
experiment = "memory"
reference = "process"
[run]
rounds = 3
warmup = 0
[stack]
counts = [1, 2, 3]
floor_percent = 10
window_s = 0.1
[payload]
touch_mib = 4
[[subjects]]
label = "process"
runner = "process"
"""
#: Up by so much, and down again, each for a moment; nothing while less than 4 GiB are available.
MEMORY_HOG = """
import sys, time
MIB = 1 << 20

def available():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable"))

print("ready", flush=True)
step = 0
while True:
    step += 1
    taken = bytearray()
    if available() > (4 << 30) + 600 * MIB:
        taken = bytearray((100 + 137 * step % 400) * MIB)
        taken[:: 4096] = b"x" * len(taken[:: 4096])
    time.sleep(0.13)
    del taken
"""
CPU_HOG = "print('ready', flush=True)\nwhile True: pass"


@pytest.fixture(autouse=True)
def _needs() -> None:
    require("root", os.geteuid() == 0, "this is not root")
    enough = hostmem.glance()["host_available_bytes"] > 5 << 30
    require("memory", enough, "less than 5 GiB are available, and a hog of 500 MiB is wanted")


@contextmanager
def hogs(*programs: str) -> Iterator[list[int]]:
    """Runs *programs*; yields their pids, and ends them by these."""
    running = [subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) for text in programs]
    try:
        for one in running:
            assert one.stdout is not None
            assert one.stdout.readline() == b"ready\n"
        yield [one.pid for one in running]
    finally:
        for one in running:
            one.kill()
            one.communicate()


def waiting_percent() -> float:
    """In which part of the last ten seconds somebody waited for a processor; 0 where the kernel does not say."""
    file = Path("/proc/pressure/cpu")
    return float(file.read_text().split("avg10=")[1].split()[0]) if file.exists() else 0.0


def measured(place: Path, text: str) -> tuple[Run, Report, str]:
    """The run, its report, and what the terminal said."""
    file = place / "noise.toml"
    file.write_text(text)
    done = cli.tare("run", file, "--results", place / "runs", timeout_s=200)
    assert done.returncode == 0, done.stderr
    run = store.load(Path(done.stdout.strip()))
    return run, reports.build(run), done.stderr


@pytest.mark.proof
def test_beside_hogs_of_every_processor_no_time_is_claimed(tmp_path: Path) -> None:
    busy = waiting_percent() > 10
    # With one hog a processor the run gets half of each, and its figures are not refused. With six it gets a seventh: a
    # run of some tens of milliseconds has that share or one near it, and never half.
    with hogs(*[CPU_HOG] * (6 * (os.cpu_count() or 1))) as pids:
        run, report, said = measured(tmp_path, STARTS)
    assert all(claim.verdict == "no figure" and claim.refused for claim in report.answer)
    assert "too noisy" in said
    for subject in report.subjects:
        refused = subject.figure("ready_seconds").refused
        assert refused is not None
        named = [one.pid for one in refused.who if one.pid in pids]
        assert named or busy, "one of the three that ran most is a hog, unless neighbours run as much"
        assert "more rounds do not help" in refused.sentence
        assert f"(pid {refused.who[0].pid})" in " ".join(said.split())
    page = reports.html(reports.analyse(run))
    assert "too noisy" in page
    for word in ("faster", "slower"):
        assert not any(word in claim.lead for claim in report.answer)


@pytest.mark.proof
def test_beside_a_hog_of_memory_no_margin_is_claimed(tmp_path: Path) -> None:
    with hogs(MEMORY_HOG) as (pid,):
        _, report, said = measured(tmp_path, MEMORY)
    (subject,) = report.subjects
    margin = subject.figure("margin_bytes")
    assert margin.median is None, "a hog of hundreds of MiB, and instances of 4 MiB"
    assert margin.refused is not None
    assert pid in {one.pid for one in margin.refused.who}
    row = max(report.analysis.ledger, key=lambda one: one.n)
    assert not row.balanced or row.others_bytes <= abs(row.host_change_bytes)
    assert "costs" not in report.answer[0].lead
    assert f"(pid {pid})" in " ".join(said.split())


def test_the_same_runs_on_a_quiet_host_are_claimed(tmp_path: Path) -> None:
    """Where other work (a neighbour's) keeps this host as busy as the hogs would, they are refused as beside these."""
    run, report, _ = measured(tmp_path, STARTS)
    meanwhile = noise.disturbance(run)
    assert meanwhile.records, "it was looked"
    if meanwhile.waited > 0.5:
        assert all(claim.refused for claim in report.answer)
    else:
        assert [(claim.refused, claim.verdict) for claim in report.answer] == [(None, "higher")]
        assert "container is slower to become ready than process" in report.answer[0].lead


def test_the_same_ramp_on_a_quiet_host_is_claimed(tmp_path: Path) -> None:
    run, report, _ = measured(tmp_path, MEMORY)
    margin = report.subjects[0].figure("margin_bytes")
    if max(one.memory_bytes for _, one in noise.disturbance(run).records) < 4 << 20:
        assert margin.median == pytest.approx(4 << 20, rel=0.25)
        assert report.answer[0].refused is None
    else:  # a neighbour's work is a hog, too
        assert margin.median is None or margin.median > 0
