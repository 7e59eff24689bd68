"""Interruptions at random moments: nothing is left, each exits with 130, and the run can be read and goes on.

``TARE_INTERRUPTS=200`` (``nox -s interrupts``) tries so many of each kind, with ``TARE_SEED``; the suite a few.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from bench import store
from tests import cli
from tests.conftest import require
from tests.system import interrupting

TRIES = int(os.environ.get("TARE_INTERRUPTS", "6"))
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
    bad, slowest_s = [], 0.0
    for number in range(TRIES):
        one = interrupting.blow(rng, whole_s)
        struck = interrupting.strike(words, tmp_path / str(number), one)
        slowest_s = max(slowest_s, struck.took_s)
        faults = list(struck.faults)
        if struck.run is not None and number % RESUMED == 0 and store.load_header(struck.run).state == "interrupted":
            done = cli.tare("run", "--resume", struck.run, timeout_s=300)
            if done.returncode or store.load_header(struck.run).state != "complete":
                faults.append(f"it did not go on: {done.returncode} {done.stderr}")
        if faults:
            bad.append(f"try {number}, {one}: {'; '.join(faults)}")
            sys.stderr.write(f"{bad[-1]}\n")
    sys.stderr.write(f"{TRIES} tries of {whole_s:.1f} s, {len(bad)} bad, the slowest end took {slowest_s:.1f} s\n")
    assert not bad, "\n".join(bad)


def test_quick_at_random_moments(tmp_path: Path) -> None:
    tried(["quick", "--rounds", "2"], tmp_path, SEED)


def test_a_ramp_at_random_moments(ramp: list[str], tmp_path: Path) -> None:
    tried(ramp, tmp_path, SEED + 1)
