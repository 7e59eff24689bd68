"""The scale weighs itself: known delays are recovered, and no difference is seen where there is none.

Minutes, and an idle host: ``nox -s calibrate``. Not part of the ordinary tests, which time nothing.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path

import pytest

from tare.bench.records import store
from tare.bench.stats.compare import compare
from tests import cli

SEEDS = 20
PAIRS = (("process-a", "process-b"), ("container-a", "container-b"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[store.Run]:
    """The calibration scenario once for each seed."""
    results = tmp_path_factory.mktemp("calibration")
    found = []
    for seed in range(1, SEEDS + 1):
        done = cli.tare("run", "calibration", "--seed", str(seed), "--results", results, timeout_s=300)
        assert done.returncode == 0, done.stderr
        found.append(store.load(Path(done.stdout.strip())))
    return found


def ready(run: store.Run, subject: str) -> list[float]:
    rows = (row for row in run.samples if row.kind == "measured" and row.metric == "ready_seconds")
    return [row.value for row in sorted(rows, key=lambda row: row.round) if row.subject == subject]


def test_at_most_one_false_verdict_in_twenty_seeds(runs: list[store.Run]) -> None:
    for left, right in PAIRS:
        verdicts = Counter(
            compare(ready(run, left), ready(run, right), resolution=run.header.resolution_seconds).verdict
            for run in runs
        )
        print(json.dumps({f"{left} against {right}": verdicts}))
        assert verdicts["no difference shown"] >= SEEDS - 1, verdicts


@pytest.mark.parametrize("runner", ["process", "container"])
@pytest.mark.parametrize("delay_ms", [50, 200])
def test_known_delays_are_recovered_within_a_millisecond(runs: list[store.Run], runner: str, delay_ms: int) -> None:
    for run in runs:
        pairs = zip(ready(run, f"{runner}-{delay_ms}ms"), ready(run, runner), strict=True)
        recovered_ms = 1000 * statistics.median(late - early for late, early in pairs)
        print(json.dumps({"runner": runner, "delay_ms": delay_ms, "recovered_ms": round(recovered_ms, 3)}))
        assert abs(recovered_ms - delay_ms) < 1.0
