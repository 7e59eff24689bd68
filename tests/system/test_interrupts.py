"""Interruptions at random moments: nothing is left, each exits with 130, and the run can be read and goes on.

``TARE_INTERRUPTS=200`` (``nox -s interrupts``) tries so many of each kind, with ``TARE_SEED``; the suite one, in
the middle of the run.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tare.bench.records import store
from tests import cli
from tests.conftest import require
from tests.system import interrupting
from tests.system.interrupting import TARE

TRIES = int(os.environ.get("TARE_INTERRUPTS", "1"))
SEED = int(os.environ.get("TARE_SEED", "1"))
#: Each so many is gone on with to its end, too.
RESUMED = 3 if TRIES < 20 else 20


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root", os.geteuid() == 0, "this is not root")


@pytest.fixture
def ramp(tmp_path: Path) -> list[str]:
    file = tmp_path / "ramp.toml"
    file.write_text(interrupting.RAMP)
    return [str(file)]


def tried(words: list[str], tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    whole_s = interrupting.length_s(words, tmp_path / "whole")
    bad, seen, slowest_s = [], 0, 0.0
    for number in range(TRIES):
        one = interrupting.blow(rng, whole_s, middle=TRIES == 1)
        struck = interrupting.strike(words, tmp_path / str(number), one)
        slowest_s = max(slowest_s, struck.took_s)
        seen += struck.code == 130
        faults = list(struck.faults)
        if struck.run is not None and number % RESUMED == 0 and store.load_header(struck.run).state == "interrupted":
            done = cli.tare("run", "--resume", struck.run, timeout_s=300)
            if done.returncode or store.load_header(struck.run).state != "complete":
                faults.append(f"it did not go on: {done.returncode} {done.stderr}")
        if faults:
            bad.append(f"try {number}, {one}: {'; '.join(faults)}")
            sys.stderr.write(f"{bad[-1]}\n")
    told = (
        f"{TRIES} tries of {whole_s:.1f} s, {seen} ended by 130, {len(bad)} bad, the slowest end took {slowest_s:.1f} s"
    )
    sys.stderr.write(f"{told}\n")
    assert not bad, "\n".join(bad)
    assert seen > TRIES / 2, told  # whatever is measured by luck: half of the time of a run is not its own end


def test_quick_at_random_moments(tmp_path: Path) -> None:
    tried(["quick", "--rounds", "2"], tmp_path, SEED)


def test_a_ramp_at_random_moments(ramp: list[str], tmp_path: Path) -> None:
    tried(ramp, tmp_path, SEED + 1)


SLOW = """
schema = 1
question = "?"
[run]
rounds = 30
[[subjects]]
label = "process"
runner = "process"
[[subjects]]
label = "container"
runner = "container"
delay_ms = 200
"""


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    file = tmp_path / "slow.toml"
    file.write_text(SLOW)
    return file


@pytest.mark.parametrize("verb", ["list", "plan", "report", "compare", "doctor"])
def test_every_verb_ends_with_130_from_its_first_moment_on(verb: str, slow: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [TARE, "run", slow, "--subject", "process", "--results", tmp_path / "runs"]
    run = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    words = {"plan": [str(slow)], "report": [run], "compare": [run, run]}.get(verb, [])
    before = interrupting.left()
    whole = subprocess.run([TARE, verb, *words], capture_output=True, text=True, check=False)
    ends = set()
    for step in range(12):
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[step % 3]
        with subprocess.Popen(
            [TARE, verb, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as running:
            time.sleep(0.01 + 0.03 * step)  # any moment is right
            if running.poll() is None:
                os.killpg(running.pid, number)
                out, said = running.communicate(timeout=60)
                # A signal that finds a process in its own end is seen by nobody; then it has said everything.
                over = "interrupted by" not in said and out.count("\n") == whole.stdout.count("\n")
                assert running.returncode == 130 or (running.returncode == whole.returncode and over), said
                assert "Traceback" not in said
                ends.add(running.returncode)
    assert 130 in ends
    assert interrupting.left() - before == set()


@pytest.mark.parametrize("hangs_up", [False, True])
def test_a_key_in_the_terminal_ends_it_in_order_and_so_does_the_terminals_end(
    hangs_up: bool, slow: Path, tmp_path: Path
) -> None:
    before = interrupting.left()
    ours, its = os.openpty()
    os.set_blocking(ours, False)
    running = subprocess.Popen(
        ["setsid", "--ctty", TARE, "run", slow, "--results", tmp_path / "runs"], stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    said, struck = b"", False
    while running.poll() is None:
        with suppress(OSError):  # EAGAIN; EIO once the other side is gone
            said += b"" if struck and hangs_up else os.read(ours, 65536)
        time.sleep(0.01)
        runs = store.runs(tmp_path / "runs")
        if not struck and runs and len(store.load(runs[0]).outcomes) >= 4:
            struck = True
            if hangs_up:
                os.close(ours)
            else:
                os.write(ours, b"\x03")
    if not hangs_up:
        with suppress(OSError):
            while data := os.read(ours, 65536):
                said += data
        os.close(ours)
    assert struck
    assert running.returncode == 130, said
    (run,) = store.runs(tmp_path / "runs")
    header = store.load_header(run)
    assert (header.state, header.leaks) == ("interrupted", ())
    assert hangs_up or f"tare run --resume {run}" in said.decode()
    assert interrupting.left() - before == set()
