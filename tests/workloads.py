"""Runs of a workload of one's own, as a user makes them: a scenario file, ``tare run``, and what is then on disk."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tare.bench.records import store
from tare.bench.records.rows import Outcome
from tests import cli


@dataclass(frozen=True, slots=True)
class Measured:
    """A run that has ended, and what the command said."""

    done: subprocess.CompletedProcess[str]
    run: store.Run

    def outcomes(self, subject: str) -> list[Outcome]:
        return [one for one in self.run.outcomes if one.subject == subject]

    def values(self, subject: str, metric: str) -> list[float]:
        return [row.value for row in self.run.samples if (row.subject, row.metric) == (subject, metric)]

    def log(self, outcome: Outcome) -> str:
        return (self.run.path / outcome.log).read_text()


def scenario(
    command: Sequence[str],
    ready: str,
    subjects: Mapping[str, str],
    *,
    workload: str = "",
    rounds: int = 2,
    timeout_s: float = 20,
    warmup: int = 0,
    seed: int = 1,
) -> str:
    """A scenario as a text: *ready* and *workload* in TOML, *subjects* maps a label to its runner, also in TOML."""
    tables = "".join(
        f'[[subjects]]\nlabel = "{label}"\nrunner = {runner if runner.startswith(chr(34)) else json.dumps(runner)}\n'
        for label, runner in subjects.items()
    )
    return (
        f'schema = 1\nquestion = "How long does it take?"\nreference = "{next(iter(subjects))}"\n'
        f"[run]\nrounds = {rounds}\nwarmup = {warmup}\nseed = {seed}\ntimeout_s = {timeout_s}\n"
        f"[workload]\ncommand = {json.dumps(list(command))}\nready = {ready}\n{workload}\n{tables}"
    )


def measure(place: Path, text: str, *, limit_s: float = 120) -> Measured:
    """Run the scenario *text*. Its run must be readable, and must have left nothing on the host."""
    file = place / "workload.toml"
    file.write_text(text)
    done = cli.tare("run", file, "--results", place / "runs", timeout_s=limit_s)
    found = sorted((place / "runs").iterdir(), key=lambda one: one.stat().st_mtime_ns)
    assert found, done.stderr
    run = store.load(found[-1])
    assert run.header.leaks == (), run.header.leaks
    assert run.header.state == "complete"
    return Measured(done, run)
