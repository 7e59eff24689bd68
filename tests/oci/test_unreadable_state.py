"""A container whose state cannot be read as it was written: its processes are ended all the same, or it is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.oci import leftovers
from tests.oci.harness import DEADLINE_S, Box

#: Part of a path that is no text.
BYTE = os.fsdecode(b"\xffb")


def state_file(box: Box) -> Path:
    return box.state_directory / box.name / "state.json"


def changed(box: Box, **changes: Any) -> int:
    """Change the state of a live container; its process."""
    box.live()
    pid = int(box.state()["pid"])
    value = json.loads(state_file(box).read_text())
    value.update(changes)
    state_file(box).write_text(json.dumps({key: each for key, each in value.items() if each is not None}))
    return pid


def runs(pid: int) -> bool:
    return Path(f"/proc/{pid}/exe").exists()


def test_a_bundle_whose_path_is_not_utf_8(our_box: Box) -> None:
    """The state, which is JSON, says it as no text can be, and every command understands that."""
    our_box.process["args"] = ["/bin/sleep", "1000"]
    our_box.config["hooks"] = {kind: [{"path": "/bin/true"}] for kind in ("createRuntime", "poststop")}
    our_box.save()
    other = our_box.directory / BYTE
    our_box.bundle.rename(other)
    our_box.bundle.mkdir()
    our_box.call("create", "--bundle", os.fspath(other), our_box.name).ok()
    our_box.call("start", our_box.name).ok()
    state = our_box.state()
    assert state["bundle"] == os.fspath(other)
    our_box.exec("/bin/true").ok()
    for words in (("list",), ("ps", our_box.name), ("list", "--format", "json"), ("pause", our_box.name)):
        done = our_box.call(*words).ok()
        assert not done.err, words
        assert words[0] != "list" or our_box.name in done.out
    our_box.call("resume", our_box.name).ok()
    our_box.call("update", "--pids-limit", "50", our_box.name).ok()
    our_box.delete("--force").ok()
    assert not runs(state["pid"])
    our_box.bundle.rmdir()
    other.rename(our_box.bundle)


def test_another_path_that_is_not_utf_8(our_box: Box) -> None:
    """The state itself may lie there, and a root filesystem may be a link to such a directory."""
    other = our_box.directory / f"{BYTE}-root"
    our_box.rootfs.rename(other)
    our_box.rootfs.symlink_to(other)
    our_box.state_directory.rename(our_box.directory / BYTE)
    our_box.state_directory.symlink_to(our_box.directory / BYTE)
    for namespaces in ((), ("mount",)):
        our_box.without(*namespaces)
        our_box.live()
        assert our_box.status() == "running"
        our_box.exec("/bin/true").ok()
        our_box.delete("--force").ok()


def test_a_state_of_a_newer_version(our_box: Box) -> None:
    """What is not known is left alone."""
    pid = changed(our_box, newer_field={"a": 1})
    assert our_box.status() == "running"
    our_box.exec("/bin/true").ok()
    our_box.delete("--force").ok()
    assert not runs(pid)


@pytest.mark.parametrize(
    "damage",
    [{"annotations": []}, {"bundle": None}, {"bundle": 1, "created": 2}, {"pid": None}],
    ids=json.dumps,
)
def test_a_damaged_state_is_enough_to_end_it(our_box: Box, damage: dict[str, Any]) -> None:
    pid = changed(our_box, **damage)
    assert our_box.call("state", our_box.name).status == (1 if "pid" not in damage else 0)
    our_box.delete("--force").ok()
    assert not runs(pid)
    assert our_box.gone()


@pytest.mark.parametrize("named", [True, False], ids=["by the configuration", "by the name"])
@pytest.mark.parametrize("text", ["", "[]", '{"name": "x"', '{"pid": "1"}'])
def test_what_cannot_be_ended_is_not_forgotten(our_box: Box, text: str, named: bool) -> None:
    if not named:
        del our_box.linux["cgroupsPath"]
    our_box.live()
    pid = int(our_box.state()["pid"])
    state_file(our_box).write_text(text)
    done = our_box.delete("--force")
    done.refused()
    assert "may be its cgroup" in done.err
    assert runs(pid)
    assert state_file(our_box).exists()
    os.kill(pid, 9)
    wait_until(lambda: not runs(pid), DEADLINE_S)
    wait_until(lambda: our_box.delete("--force").status == 0, DEADLINE_S)
    leftovers.sweep(our_box.name)


def test_a_state_that_may_not_be_read_is_not_forgotten(our_box: Box) -> None:
    our_box.live()
    state_file(our_box).rename(our_box.directory / "kept")
    state_file(our_box).mkdir()
    our_box.delete("--force").refused()
    state_file(our_box).rmdir()
    (our_box.directory / "kept").rename(state_file(our_box))
    assert our_box.status() == "running"


@pytest.mark.deviates("crun", "1.8 leaves it")
@pytest.mark.parametrize("options", [(), ("--detach",)], ids=["in front", "detached"])
def test_exec_that_cannot_write_its_pid_file_runs_nothing(box: Box, options: tuple[str, ...]) -> None:
    box.live()
    path = box.directory / "nowhere" / "pid"
    done = box.exec("/bin/sleep", "777", options=(*options, "--pid-file", os.fspath(path)))
    done.refused()
    if box.runtime.ours:
        assert done.status == 255
        assert f"{path}: no such file or directory" in done.err
    wait_until(lambda: "777" not in box.call("ps", box.name).out, DEADLINE_S)


def test_the_error_of_a_pid_file_names_it(our_box: Box) -> None:
    """Not the one beside it that becomes it; nothing is left of that, either."""
    our_box.process["args"] = ["/bin/sleep", "1000"]
    our_box.save()
    target = our_box.directory / "pids"
    target.mkdir()
    (target / "file").touch()
    words = ("--bundle", os.fspath(our_box.bundle), our_box.name)
    done = our_box.call("run", "--detach", "--pid-file", os.fspath(target), *words)
    done.refused()
    assert f"{target}: Is a directory" in done.err
    assert our_box.gone()
    assert not [path for path in our_box.directory.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("verb", ["create", "run", "exec"])
def test_more_descriptors_than_any_process_has(our_box: Box, verb: str) -> None:
    if verb == "exec":
        our_box.live()
    our_box.save()
    words = (our_box.name, "/bin/true") if verb == "exec" else ("--bundle", os.fspath(our_box.bundle), our_box.name)
    for number in ("9" * 5000, "9" * 10, "٣", "-1", "x"):
        done = our_box.call(verb, f"--preserve-fds={number}", *words)
        done.refused()
        assert "--preserve-fds: " in done.err
        assert "fault" not in done.err


@pytest.mark.parametrize("number", ["9" * 5000, "٩", f"RTMIN+{'1' * 5000}"])
def test_a_signal_of_many_digits(our_box: Box, number: str) -> None:
    our_box.live()
    done = our_box.kill(number)
    done.refused()
    assert "no such signal" in done.err
