"""What drives crun and runc, without crun, runc or privileges: a script on their place, and recorded texts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tare.runners import bwrap, oci
from tare.runners.base import RunnerError, Scratch
from tare.runners.container.cgroup import cgroups
from tare.runners.container.cgroup.hierarchies import Layout
from tare.runners.container.warm import fork_server, leftovers, smallest_container
from tare.runners.launch import monitored, oci_runtime, private_root, told_files
from tests.conftest import wait_until

HYBRID_TEXT = "cgroups in hybrid mode not supported, drop all controllers from cgroupv2"


def hybrid(tmp_path: Path, controllers: str) -> Layout:
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified/cgroup.controllers").write_text(controllers)
    return Layout("hybrid", {"memory": f"{tmp_path}/memory"}, (f"{tmp_path}/memory",), f"{tmp_path}/unified")


def test_fix_of_a_hybrid_host_names_each_controller(tmp_path: Path) -> None:
    fix = oci_runtime.hybrid_fix(hybrid(tmp_path, "hugetlb misc\n"))
    hugetlb, misc = f"{tmp_path}/hugetlb", f"{tmp_path}/misc"
    assert fix == (
        f"mkdir -p {hugetlb} && mount -t cgroup -o hugetlb none {hugetlb} && "
        f"mkdir -p {misc} && mount -t cgroup -o misc none {misc}"
    )


def test_fix_is_offered_for_that_text_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = hybrid(tmp_path, "hugetlb\n")
    monkeypatch.setattr(cgroups, "layout", lambda: layout)
    assert "mount -t cgroup -o hugetlb" in oci_runtime.fix(f"ended with status 1: {HYBRID_TEXT}")
    assert "mount" not in oci_runtime.fix("ended with status 1: something else")


def test_missing_binary_is_a_reason(tmp_path: Path) -> None:
    support = oci.CRUN.probe({"binary": "/nowhere/crun"}, tmp_path)
    assert not support.ok
    assert "/nowhere/crun" in support.why
    assert support.fix == "install crun"


def test_a_runtime_that_nobody_named_is_a_reason(tmp_path: Path) -> None:
    support = oci.ANY.probe({}, tmp_path)
    assert not support.ok
    assert "was not told which" in support.why
    assert "binary = " in support.fix
    assert oci.ANY.probe({"binary": "/nowhere/youki"}, tmp_path).fix == "install youki"


def test_binary_that_fails_is_a_reason(tmp_path: Path) -> None:
    program = script(tmp_path, "exit 3")
    support = oci.RUNC.probe({"binary": str(program)}, tmp_path)
    assert not support.ok
    assert "ended with status 3" in support.why


@pytest.mark.compiler
def test_a_version_in_no_encoding_is_no_fault(tmp_path: Path) -> None:
    """A probe never raises: neither over what a program prints, nor over how long it takes."""
    for runner in (oci.CRUN, bwrap):
        program = script(tmp_path, 'printf \'crun \\377 1.0\\n\'; [ "$1" = --version ] || [ "$1" = --help ]')
        assert runner.probe({"binary": str(program)}, tmp_path).version == "crun \N{REPLACEMENT CHARACTER} 1.0"
        program = script(tmp_path, "printf '\\377' >&2; exit 1")
        assert runner.probe({"binary": str(program)}, tmp_path).why == "\N{REPLACEMENT CHARACTER}"


def test_a_program_that_may_not_be_executed_is_told_from_a_missing_one(tmp_path: Path) -> None:
    program = script(tmp_path, "exit 0")
    program.chmod(0o644)
    for runner in (oci.CRUN, bwrap):
        support = runner.probe({"binary": str(program)}, tmp_path)
        assert (support.ok, support.fix) == (False, f"chmod +x {program}")


def test_what_takes_too_long_is_killed_with_what_it_started(tmp_path: Path) -> None:
    program = script(tmp_path, f"echo $$ > {tmp_path}/pid; sleep 600 & echo $! >> {tmp_path}/pid; wait")
    with pytest.raises(RunnerError) as caught:
        monitored.ask(str(program), "delete", limit_s=1, fix="run it by hand")
    assert caught.value.what == f"{program} delete failed"
    assert (caught.value.why, caught.value.fix) == ("it did not end within 1 s", "run it by hand")
    pids = [int(text) for text in (tmp_path / "pid").read_text().split()]
    wait_until(lambda: not any(map(leftovers.alive, pids)), 10, what=f"{pids} are gone")  # the second is an orphan


def test_delete_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci_runtime, "_DELETE_S", 0.5)
    scratch = Scratch(directory=tmp_path, cache=tmp_path, cgroup=None, prefix="tare-test")
    starter = oci_runtime._Starter(
        binary=str(script(tmp_path, "sleep 600")), scratch=scratch, template="", parent=None,
        roots=private_root.PrivateRoots(directory=tmp_path, image=Path("/")),
        pid_files=told_files.ToldFiles(directory=tmp_path, watch=-1), flags=(), before=lambda *_: {}, start_ms=1000,
        kind=monitored.Monitored, rights=(),
    )  # fmt: skip
    starter._delete("one")  # no state, nothing to delete
    (starter.state / "one").mkdir(parents=True)
    with pytest.raises(RunnerError, match=r"delete --force one failed: it did not end within 0.5 s"):
        starter._delete("one")


@pytest.mark.parametrize("runs_on", [True, False])
def test_a_monitor_whose_console_was_closed_may_run_on(monkeypatch: pytest.MonkeyPatch, runs_on: bool) -> None:
    monkeypatch.setattr(monitored, "_STOP_S", 0.5 if runs_on else 20)
    reader, writer = os.pipe()
    text = f"exec >/dev/null 2>&1; {'exec sleep 600' if runs_on else 'exit 7'}"
    with monitored.started(["sh", "-c", text], console=writer) as monitor:
        os.close(writer)
        assert os.read(reader, 1) == b""
        one = monitored.Monitored(name="one", console=reader, monitor=monitor, pid=monitor.pid, pidfd=None)
        if runs_on:
            assert one.explain() == "its console was closed, but its monitor still runs"
            with pytest.raises(RunnerError, match="did not end within"):
                monitored.await_end(monitor)
        else:
            assert one.explain() == "ended with status 7"
            monitored.await_end(monitor)
        monitor.kill()
        monitor.wait()
    os.close(reader)


def script(tmp_path: Path, text: str) -> Path:
    program = tmp_path / "runtime"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return program


def await_pid(tmp_path: Path, text: str) -> int:
    """What is found in the pid-file of a runtime that is the script *text*."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    program = os.fspath(script(tmp_path, text))
    with told_files.opened(tmp_path / "told") as told:
        monitor = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=writer, stderr=writer, cwd=told.directory)
        os.close(writer)
        try:
            return int(told.await_text("pid", monitor, reader, oci_runtime.fix))
        finally:
            os.close(reader)
            for file in told.directory.iterdir():
                file.unlink()
            assert monitor.stdin is not None
            monitor.stdin.close()
            monitor.wait()


@pytest.mark.parametrize("text", ["echo 77 > pid; read x", "echo 77 > .pid; mv .pid pid; read x", "echo 77 > pid"])
def test_pid_file_written_or_renamed(tmp_path: Path, text: str) -> None:
    assert await_pid(tmp_path, text) == 77


def test_other_files_are_not_the_pid_file(tmp_path: Path) -> None:
    assert await_pid(tmp_path, "echo 1 > state; echo > pid; echo 78 > pid; read x") == 78


def test_runtime_that_ends_early_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(RunnerError) as caught:
        await_pid(tmp_path, f"echo '{HYBRID_TEXT}' >&2; exit 1")
    assert HYBRID_TEXT in caught.value.why
    assert "status 1" in caught.value.why
    assert "runtime" in caught.value.what


def test_parent_of_a_process() -> None:
    child = subprocess.Popen(["sleep", "1000"])
    try:
        assert monitored.parent_of(child.pid) == os.getpid()
    finally:
        child.kill()
        child.wait()
    assert monitored.parent_of(child.pid) == 0


def gone() -> int:
    """The id of a process that has ended."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_only_mounts_whose_owner_is_gone() -> None:
    dead, live = gone(), os.getpid()
    text = (
        "1 0 0:1 / / rw - ext4 /dev/x rw\n"
        f"2 1 0:2 / /run/tare-1a/layers rw - tmpfs tare-owner-{dead} rw\n"
        f"3 1 0:3 / /run/tare-1a/one/rootfs rw - overlay tare-owner-{dead} rw\n"
        f"4 1 0:4 / /run/tare-2b/layers rw - tmpfs tare-owner-{live} rw\n"
        "5 1 0:5 / /run/tare-3c rw - tmpfs tmpfs rw\n"
        "half a line - \n"
    )
    assert leftovers.mounts(text) == ["/run/tare-1a/one/rootfs", "/run/tare-1a/layers"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [("tare-owner-{}", True), ("/run/x/tare-owner-{}/y", True), ("my-tare-owner-{}", False), ("tare-owner-{}x", False)],
)
def test_owner_is_a_whole_word(word: str, expected: bool) -> None:
    assert leftovers.orphaned(word.format(gone())) is expected
    assert not leftovers.orphaned(word.format(os.getpid()))


def test_only_a_helper_or_a_monitor_is_known_by_its_command_line(tmp_path: Path) -> None:
    """Whoever reads the logs of a killed run, or looks for its name, is no leftover of it."""
    owner = f"tare-owner-{gone()}"
    state = f"/run/tare-0a1b2c/0/{owner}"
    ours = [
        ["python", "-c", "code", "/runners", fork_server.MARKER, "5,7", "12", owner, "/run/x"],
        ["/usr/bin/crun", "--root", state, "run", "--bundle", "/b", "one"],
        ["python", "/bin/tare-oci", "--root", state, "run", "one"],
    ]
    others = [
        ["tail", "-f", f"{state}/log"],
        ["grep", owner, "/var/log/syslog"],
        ["less", "+/--root", state],
        ["crun", "--root"],
        ["vi", f"/x/{fork_server.MARKER}", owner],
        [],
    ]
    assert [leftovers.orphaned(leftovers._mark(command)) for command in ours] == [True] * len(ours)
    assert [leftovers.orphaned(leftovers._mark(command)) for command in others] == [False] * len(others)
    with subprocess.Popen(["tail", "-f", "/dev/null", state], stderr=subprocess.DEVNULL) as reader:
        found = dict(leftovers.processes())
        reader.kill()
    assert reader.pid not in found


def test_owners_own_mark_is_not_orphaned() -> None:
    assert not leftovers.orphaned(leftovers.mine())


def test_word_or_end_of_the_console() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"tare first\ntare re")
    assert not smallest_container.hung_up(reader)
    os.write(writer, b"ady\n")
    assert smallest_container.await_word(reader, b"tare ready")
    os.close(writer)
    assert smallest_container.hung_up(reader)
    assert not smallest_container.await_word(reader, b"tare ready")
    os.close(reader)
