"""Samepage merging for real: two virtual machines of one kernel share pages, and the host is given back as it was."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tare.bench.host import ksm
from tare.bench.records import store
from tests import cli
from tests.conftest import require, wait_until

SCENARIO = """
schema = 1
question = "What does merging save?"
experiment = "memory"
reference = "process"
[run]
rounds = 1
warmup = 0
timeout_s = 60
[stack]
counts = [1, 2]
floor_percent = 10
window_s = 0
ksm = {ksm}
[[subjects]]
label = "process"
runner = "process"
[[subjects]]
label = "vm"
runner = "vm"
"""
MIB = 1 << 20


def settings() -> tuple[str, str]:
    return (ksm.DIRECTORY / "run").read_text().strip(), (ksm.DIRECTORY / "pages_to_scan").read_text().strip()


@pytest.fixture(autouse=True)
def _kernel() -> Iterator[None]:
    require("root", os.geteuid() == 0, "this is not root")
    run = ksm.DIRECTORY / "run"
    require("ksm", run.exists() and os.access(run, os.W_OK), f"{run} cannot be written")
    before = settings()
    require("ksm", before[0] == "0", "samepage merging is on already: others may depend on it")
    yield
    assert settings() == before


def scenario(tmp_path: Path, *, merge: bool) -> Path:
    file = tmp_path / "merging.toml"
    file.write_text(SCENARIO.format(ksm=str(merge).lower()))
    return file


def sharing(tmp_path: Path, *, merge: bool) -> dict[tuple[str, int], float]:
    done = cli.tare("run", scenario(tmp_path, merge=merge), "--results", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    run = store.load(Path(done.stdout.strip()))
    for outcome in run.outcomes:
        require("qemu", outcome.status != "skipped", outcome.reason)
    assert not [text for text in run.header.warnings if "merging" in text]
    rows = (one for one in run.samples if one.metric == "host_ksm_sharing_bytes" and not one.stage)
    return {(one.subject, one.n): one.value for one in rows}


def test_two_guests_of_one_kernel_share_pages_and_processes_do_not(tmp_path: Path) -> None:
    found = sharing(tmp_path, merge=True)
    assert found["vm", 2] - found["vm", 0] > 8 * MIB
    assert found["vm", 2] > found["vm", 1]
    assert found["process", 2] == found["process", 0]


def test_without_the_wish_nothing_is_merged(tmp_path: Path) -> None:
    found = sharing(tmp_path, merge=False)
    assert found["vm", 2] == found["vm", 0]


def test_an_interrupted_run_gives_the_host_back_as_it_was(tmp_path: Path) -> None:
    command = cli.command("run", scenario(tmp_path, merge=True), "--results", tmp_path / "runs")
    with subprocess.Popen(command, cwd=cli.ROOT, env=cli.environment(), stderr=subprocess.PIPE, text=True) as running:
        wait_until(lambda: running.poll() is not None or settings()[0] == "1", 60, what="merging turned on")
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
