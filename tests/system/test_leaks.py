"""A leak is a result: it is found, named with its owner, and makes the run invalid."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare import runners
from tare.bench import engine, experiments
from tare.bench.host import run_cgroup, workspace
from tare.bench.monitor import Silent
from tare.bench.records import store
from tare.runners.image.cache import cache_dir
from tests.conftest import require

SCENARIO = """
schema = 1
question = "Is a leak found?"
[run]
rounds = 1
warmup = 0
[[subjects]]
label = "process"
runner = "process"
[[subjects]]
label = "untidy"
runner = "leaky"
"""


def test_what_a_runner_leaves_is_named_with_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("root", os.geteuid() == 0, "this is not root")
    monkeypatch.setitem(runners.REGISTRY, "leaky", "tests.system.leaky")
    file = tmp_path / "leaks.toml"
    file.write_text(SCENARIO)
    result = engine.run(experiments.plan(experiments.scenario(file)), tmp_path / "runs", cache_dir(), Silent())
    leaks = store.load(result.path).header.leaks
    assert {leak.kind for leak in leaks} == {"process", "cgroup", "mount", "scratch entry"}
    assert {leak.owner for leak in leaks} == {"untidy"}
    # Told, and removed by name.
    (process,) = [leak.name for leak in leaks if leak.kind == "process"]
    assert "sleep-tare-" in process
    assert not Path("/proc", process.split()[1]).exists()
    mounted = Path("/proc/self/mountinfo").read_text()
    for leak in leaks:
        assert leak.kind == "process" or not Path(leak.name).exists()
        assert leak.name not in mounted
    assert [name for name in run_cgroup.leftovers() if workspace.is_ours(name)] == []
    assert workspace.leftovers() == []
