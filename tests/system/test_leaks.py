"""A leak is a result: it is found, named with its owner, and makes the run invalid."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

import runners
from bench import engine, pan, plan, scenario, store, workspace
from bench.monitor import Silent
from runners.image.cache import cache_dir
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
    result = engine.run(plan.make(scenario.load(file)), tmp_path / "runs", cache_dir(), Silent())
    try:
        leaks = store.load(result.path).header.leaks
        assert {leak.kind for leak in leaks} == {"process", "cgroup", "mount", "scratch entry"}
        assert {leak.owner for leak in leaks} == {"untidy"}
        (process,) = [leak.name for leak in leaks if leak.kind == "process"]
        assert "sleep-tare-" in process
        pid = int(process.split()[1])  # it stands in the run's cgroup, and was killed with it
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    finally:
        for leak in result.header.leaks:
            if leak.kind == "mount":
                subprocess.run(["umount", leak.name], check=True)
    assert pan.leftovers() == []
    for directory in workspace.leftovers():
        workspace.remove(directory)
