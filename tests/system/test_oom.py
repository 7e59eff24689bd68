"""Running out of memory inside one container: the harness and the others live on, and the lost one is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare.bench.records import store
from tests import cli
from tests.conftest import require

SCENARIO = """
schema = 1
question = "Who dies when memory runs out?"
experiment = "density"
reference = "process"
[run]
rounds = 1
warmup = 0
timeout_s = 20
[grant]
memory_mib = 32
[stack]
counts = [1, 2, 3]
floor_percent = 10
[[subjects]]
label = "modest"
runner = "container"
touch_mib = 8
[[subjects]]
label = "greedy"
runner = "container"
touch_mib = 64
"""


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root", os.geteuid() == 0, "this is not root")


def test_a_container_beyond_its_grant_is_lost_and_nobody_else(tmp_path: Path) -> None:
    file = tmp_path / "oom.toml"
    file.write_text(SCENARIO)
    done = cli.tare("run", file, "--results", tmp_path / "runs")
    assert done.returncode == 1, done.stderr
    run = store.load(Path(done.stdout.strip()))
    outcomes = {outcome.subject: outcome for outcome in run.outcomes}
    assert (outcomes["modest"].status, outcomes["modest"].reached, outcomes["modest"].lost) == ("ok", 3, 0)
    greedy = outcomes["greedy"]
    assert (greedy.status, greedy.reached, greedy.lost) == ("failed", 0, 3)
    assert "signal 9" in greedy.reason
    assert run.header.leaks == ()


def test_the_instances_together_have_a_ceiling_below_the_host(tmp_path: Path) -> None:
    """All of them share a cgroup whose limit leaves the floor free: the kernel then kills among them alone."""
    file = tmp_path / "ceiling.toml"
    file.write_text(
        SCENARIO.replace("memory_mib = 32", "memory_mib = 128").replace("counts = [1, 2, 3]", "counts = [1]")
    )
    code = f"""
from pathlib import Path
from tare.bench import engine, experiments
from tare.bench.scenario import resolve
from tare.bench.monitor import Silent
from tare.runners.container.cgroup import cgroups
from tare.runners.image.cache import cache_dir
class Looking(Silent):
    def alive(self, n):
        group = cgroups.at(cgroups.find("tare-")[0]).child("load")
        directory = next(path for path in group.paths() if (path / "memory.stat").exists())
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (directory / name).exists():
                print(int((directory / name).read_text()))
made = experiments.plan(resolve.select(experiments.scenario(Path({str(file)!r})), ["modest"]))
result = engine.run(made, Path({str(tmp_path / "runs")!r}), cache_dir(), Looking())
print(result.header.host.memory_bytes)
"""
    done = cli.python(code)
    ceiling, *_, total = map(int, done.split())
    assert abs(ceiling - 0.9 * total) < 1 << 20
