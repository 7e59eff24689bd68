"""What a run may find and remove at its end: what is its own, and nothing that only has to do with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tare.bench.host import audit, clean, run_cgroup, workspace
from tare.bench.records.header import Leak
from tare.runners.container.cgroup import cgroups
from tests.conftest import require

SLEEP = "import sys, time; print('up', flush=True); time.sleep(600)"


def start(*words: str, program: str = sys.executable) -> int:
    """A process that is no child of ours, with *words* in its command line, as a user's in another terminal."""
    command = 'echo $$; program=$1 python=$2 code=$3; shift 3; exec -a "$program" "$python" -c "$code" "$@"'
    setsid = ["setsid", "-f", "bash", "-c", command, "bash", program, sys.executable, SLEEP, *words]
    with subprocess.Popen(setsid, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        pid = int(started.stdout.readline())
        assert started.stdout.readline() == "up\n"
        started.stdout.close()
    return pid


@pytest.fixture
def prefix() -> str:
    return workspace.new_prefix()


@pytest.fixture
def outsider(prefix: str) -> Iterator[int]:
    pid = start("-f", f"/run/{prefix}/x", f"guest={prefix}-1", prefix)
    yield pid
    os.kill(pid, signal.SIGKILL)  # it must still be there


def leak(kind: str, name: str) -> Leak:
    return Leak(kind=kind, name=name, owner="")


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_program_that_only_names_the_run_is_told_and_lives_on(prefix: str, outsider: int, tmp_path: Path) -> None:
    told = audit.take(prefix, tmp_path)["process"]
    (name,) = told
    assert name.startswith(f"pid {outsider} (")
    assert outsider not in audit.own_processes(prefix)
    clean.remove_leaks([leak("process", name)], prefix)
    assert lives(outsider)


def test_a_child_of_ours_is_the_runs_and_ended(prefix: str, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        names = [name for name in audit.take(prefix, tmp_path)["process"] if name.startswith(f"pid {child.pid} ")]
        clean.remove_leaks([leak("process", name) for name in names], prefix)
        assert (len(names), lives(child.pid)) == (1, False)


@pytest.mark.parametrize(("program", "ours"), [("qemu-system-x86_64", True), ("tail", False)])
def test_a_virtual_machine_is_known_by_its_program_and_name(prefix: str, program: str, ours: bool) -> None:
    pid = start("-name", f"guest={prefix}-3,debug-threads=on", program=program)
    try:
        assert (pid in audit.own_processes(prefix)) == ours
        assert pid not in audit.own_processes(workspace.new_prefix())
        clean.remove_leaks([leak("process", f"pid {pid} (sleeping): {program}")], prefix)
        assert lives(pid) != ours
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_only_what_bears_the_runs_name_is_of_the_run(prefix: str, tmp_path: Path) -> None:
    for name in ("tare-lab", f"{prefix}-1", f"x{prefix}", "eth0"):
        (tmp_path / name).touch()
    assert audit._entries(prefix, tmp_path) == [f"{prefix}-1"]
    paths = [f"/run/{prefix}/0/a", f"/mnt/backup-{prefix}", f"/srv/x{prefix}/y", f"/run/{prefix}-1"]
    text = "".join(f"4{n} 1 0:4{n} / {path} rw - tmpfs tmpfs rw\n" for n, path in enumerate(paths))
    assert audit._mounts(prefix, text) == [paths[0], paths[3]]


def test_a_network_namespace_of_the_user_stays(prefix: str, tmp_path: Path) -> None:
    require("root", os.geteuid() == 0, "this is not root")
    lab = f"tare-lab-{os.getpid()}"
    before = audit.take(prefix, tmp_path)
    names = (lab, f"{prefix}-1")
    for name in names:
        subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        leaks = audit.difference(before, audit.take(prefix, tmp_path), str)
        assert [one.name for one in leaks if one.kind == "network namespace"] == [f"{prefix}-1"]
        clean.remove_leaks(leaks, prefix)
        assert [Path("/run/netns", name).exists() for name in names] == [True, False]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def test_a_daemon_in_the_runs_cgroup_is_the_runs_and_one_in_another_is_not(prefix: str, tmp_path: Path) -> None:
    require("root", os.geteuid() == 0, "this is not root")
    inside, beside = (start() for _ in range(2))
    groups = [cgroups.at(f"{prefix}/load/{prefix}-1"), cgroups.at(f"x-{prefix}")]
    top = [cgroups.at(f"{prefix}/load"), cgroups.at(prefix)]
    try:
        for group in (*top[::-1], *groups):
            group.create()
        for group, pid in zip(groups, (inside, beside), strict=True):
            group.add(pid)
        leaks = audit.difference({}, audit.take(prefix, tmp_path), str)
        assert f"pid {inside} " in " ".join(one.name for one in leaks)
        assert f"pid {beside} " not in " ".join(one.name for one in leaks)
        clean.remove_leaks(leaks, prefix)
        assert (lives(inside), lives(beside)) == (False, True)
        assert [group.path.exists() for group in groups] == [False, True]
    finally:
        for pid in (inside, beside):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for group in (*groups, *top):
            group.remove()


def test_a_cgroup_of_the_user_is_no_leftover_of_a_run(prefix: str) -> None:
    require("root", os.geteuid() == 0, "this is not root")
    groups = [cgroups.at(name) for name in (prefix, f"tare-lab-{os.getpid()}", f"{prefix}x")]
    try:
        for group in groups:
            group.create()
        assert [name for name in run_cgroup.leftovers() if name in {group.relative for group in groups}] == [prefix]
    finally:
        for group in groups:
            group.remove()
