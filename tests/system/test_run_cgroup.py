"""The run cgroup counts what a start costs once: not at all would be a lie, twice another."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tare.bench.host import run_cgroup, workspace
from tare.bench.records import store
from tare.runners.container.cgroup import cgroups
from tests import cli
from tests.conftest import require

SPIN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


@pytest.fixture(autouse=True)
def _cgroups() -> None:
    require("cgroups", not cgroups.usable(), cgroups.usable())


def spin() -> None:
    subprocess.run([sys.executable, "-c", SPIN], check=True)


def test_what_runs_inside_is_counted_once() -> None:
    with run_cgroup.opened(workspace.new_prefix()) as opened:
        assert opened is not None
        before = opened.cpu_ns(None)
        spin()
        used_s = (opened.cpu_ns(None) - before) / 1e9
    assert 0.3 <= used_s < 0.6


def test_a_cgroup_elsewhere_is_added_and_one_whose_processes_are_inside_is_not() -> None:
    elsewhere = cgroups.at(f"{workspace.new_prefix()}-elsewhere")
    elsewhere.create()
    try:
        with run_cgroup.opened(workspace.new_prefix()) as opened:
            assert opened is not None
            inside = cgroups.at(opened.load).path.with_name("harness")
            child = subprocess.Popen(
                [sys.executable, "-c", f"{SPIN}\nprint('spun', flush=True)\ninput()"], stdin=-1, stdout=-1
            )
            assert child.stdin is not None
            assert child.stdout is not None
            elsewhere.add(child.pid)
            child.stdout.readline()
            alone, both = opened.cpu_ns(None), opened.cpu_ns(elsewhere.path)
            again = opened.cpu_ns(inside)
            child.communicate(b"\n")
    finally:
        elsewhere.remove()
    assert (both - alone) / 1e9 >= 0.2
    assert (again - alone) / 1e9 < 0.2


def test_the_process_comes_home_and_the_pan_is_gone() -> None:
    home = Path("/proc/self/cgroup").read_text()
    name = workspace.new_prefix()
    with run_cgroup.opened(name):
        assert f"{name}/harness" in Path("/proc/self/cgroup").read_text()
    assert Path("/proc/self/cgroup").read_text() == home
    assert cgroups.find(name) == []


def test_a_virtual_machine_is_counted_once(tmp_path: Path) -> None:
    """libvirt makes the domain's cgroup where it likes; a start that is ready after t costs about t, never twice."""
    require("libvirt", shutil.which("qemu-system-x86_64"), "no qemu-system-x86_64 on PATH")
    done = cli.tare("run", "quick", "-s", "vm", "--rounds", "1", "--warmup", "1", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    values = {row.metric: row.value for row in store.load(Path(done.stdout.strip())).samples if row.subject == "vm"}
    assert 0.3 * values["ready_seconds"] < values["cpu_seconds"] < 1.6 * values["ready_seconds"]
