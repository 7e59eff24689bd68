"""Hooks: which, when, where, with what on standard input; and what happens if one fails."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.oci.harness import DEADLINE_S, READY, Box

BEFORE = ("prestart", "createRuntime", "createContainer")
KINDS = (*BEFORE, "startContainer", "poststart", "poststop")


def hook(box: Box, kind: str, script: str, **more: Any) -> None:
    """Add a hook that runs a shell script, on the host or, for startContainer, inside."""
    box.config.setdefault("hooks", {}).setdefault(kind, []).append(
        # crun fails a hook that ends before it was given all of the state: the simple ones read it first.
        {
            "path": "/bin/sh",
            "args": ["sh", "-c", f"cat > /dev/null; {script}" if script.startswith("echo") else script],
            "env": ["PATH=/usr/bin:/bin"],
            **more,
        }
    )


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def record(box: Box) -> Path:
    """A file that hooks of all kinds and the container can write to."""
    made = box.directory / "record"
    made.touch(mode=0o666)
    box.mount(os.fspath(made), "bind", made, "bind")
    return made


def in_order(found: list[str], *, exactly: bool) -> None:
    """The three that a start brings; crun calls poststart while the program is still on its way."""
    assert sorted(found) == ["poststart", "program", "startContainer"]
    assert found.index("startContainer") < found.index("program")
    assert not exactly or found[0] == "startContainer"


@pytest.mark.deviates("runc", "1.1 calls poststart when it has created")
def test_order(box: Box, record: Path) -> None:
    for kind in KINDS:
        hook(box, kind, f"echo {kind} >> {record}")
    box.process["args"] = ["/bin/sh", "-c", f"echo program >> {record}; echo '{READY}'; sleep 1000"]
    made = box.create()
    assert lines(record) == list(BEFORE)
    box.call("start", box.name).ok()
    made.until(READY)
    wait_until(lambda: len(lines(record)) == 6, DEADLINE_S)
    in_order(lines(record)[3:], exactly=box.runtime.ours)
    box.kill().ok()
    box.until_stopped()
    assert "poststop" not in lines(record)
    box.delete().ok()
    assert lines(record)[6:] == ["poststop"]


def test_order_in_run(box: Box, record: Path) -> None:
    for kind in KINDS:
        hook(box, kind, f"echo {kind} >> {record}")
    box.sh(f"echo program >> {record}; until grep -q poststart {record}; do :; done").ok()
    found = lines(record)
    assert found[:3] == list(BEFORE)
    in_order(found[3:6], exactly=box.runtime.ours)
    assert found[6:] == ["poststop"]


def test_several_of_one_kind_run_in_order(box: Box, record: Path) -> None:
    for number in range(5):
        hook(box, "createRuntime", f"echo {number} >> {record}")
    box.run("/bin/true").ok()
    assert lines(record) == list("01234")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.deviates("crun", "gives hooks inside neither pid nor bundle", only=["createContainer", "startContainer"])
@pytest.mark.deviates("runc", "1.1 calls poststart when it has created", only=["poststart"])
def test_state_on_standard_input(box: Box, record: Path, kind: str) -> None:
    box.config["annotations"] = {"org.example": "kept"}
    hook(box, kind, f"cat > {record}")
    box.create("/bin/sleep", "1000")
    pid = box.state()["pid"]
    box.call("start", box.name).ok()
    box.delete("--force").ok()
    state = json.loads(record.read_text())
    assert state["ociVersion"].startswith("1.")
    assert state["id"] == box.name
    assert state["annotations"]["org.example"] == "kept"
    assert Path(state["bundle"]).name == "bundle"
    expected = {"startContainer": {"created"}, "poststart": {"running"}, "poststop": {"stopped"}}
    assert state["status"] in expected.get(kind, {"creating", "created"})
    # As the hook sees it: the runtime's number on the host, the container's own inside.
    expected_pid = {"createContainer": 1, "startContainer": 1, "poststop": state.get("pid", 0)}
    assert state.get("pid", 0) == expected_pid.get(kind, pid)


def test_arguments_and_environment(box: Box, record: Path) -> None:
    """The whole environment of a hook is its own."""
    box.environment["LEAK"] = "of the caller"
    script = f'echo "$0 $1" > {record}; env >> {record}'
    box.config["hooks"] = {
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script, "zero", "one"], "env": ["WORD=a b"]}]
    }
    box.run("/bin/true").ok()
    found = lines(record)
    assert found[0] == "zero one"
    assert {line for line in found[1:] if not line.startswith(("PWD=", "SHLVL=", "_="))} == {"WORD=a b"}


def test_createRuntime_runs_on_the_host(box: Box, record: Path) -> None:  # noqa: N802 - the specification's word
    """In the runtime's namespaces, when the container's exist already: this is where networks are made."""
    hook(
        box,
        "createRuntime",
        'pid=$(grep -o \'"pid": *[0-9]*\' | grep -o "[0-9]*"); '
        f"readlink /proc/self/ns/net /proc/$pid/ns/net > {record}",
    )
    box.run("/bin/true").ok()
    own, containers = lines(record)
    assert own == os.fspath(Path("/proc/self/ns/net").readlink())
    assert containers.startswith("net:")
    assert containers != own


def test_createContainer_runs_in_the_containers_namespaces(box: Box, record: Path) -> None:  # noqa: N802
    """With the host's files still there, before pivot_root."""
    hook(box, "createContainer", f"readlink /proc/self/ns/uts > {record}; ls -d {box.directory} >> {record}")
    box.run("/bin/true").ok()
    assert lines(record)[0] != os.fspath(Path("/proc/self/ns/uts").readlink())
    assert lines(record)[1] == os.fspath(box.directory)


def test_startContainer_runs_inside(box: Box, record: Path) -> None:  # noqa: N802
    hook(box, "startContainer", f"hostname > {record}; ls / >> {record}")
    box.run("/bin/true").ok()
    assert lines(record)[0] == "inside"
    assert "bin" in lines(record)
    assert "boot" not in lines(record)


@pytest.mark.parametrize("kind", BEFORE)
def test_a_failing_hook_before_creation_stops_it(box: Box, record: Path, kind: str) -> None:
    hook(box, kind, "exit 3")
    hook(box, "createContainer" if kind != "createContainer" else kind, f"echo late >> {record}")
    box.process["args"] = ["/bin/sh", "-c", f"echo program >> {record}"]
    box.save()
    box.create_again().refused()
    assert lines(record) == []
    assert box.gone()


def test_a_failing_hook_before_the_start_stops_it(box: Box, record: Path) -> None:
    hook(box, "startContainer", "exit 3")
    assert box.sh(f"echo program >> {record}").status != 0
    assert lines(record) == []


def test_a_failing_hook_after_the_end_does_not_stop_the_removal(box: Box, record: Path) -> None:
    """The others of its kind are run too."""
    hook(box, "poststop", "exit 3")
    hook(box, "poststop", f"echo second >> {record}")
    box.run("/bin/true")
    assert box.gone()
    assert lines(record) in (["second"], [])


def test_a_hook_that_takes_too_long_is_ended(box: Box, record: Path) -> None:
    hook(box, "createRuntime", f"echo $$ > {record}; exec sleep 1000", timeout=1)
    box.run("/bin/true").refused()
    (pid,) = lines(record)
    wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), DEADLINE_S)


def test_a_hook_that_is_not_there_is_named(box: Box) -> None:
    box.config["hooks"] = {"createRuntime": [{"path": "/no/such/hook"}]}
    done = box.run("/bin/true").refused()
    assert "/no/such/hook" in done.err or not box.runtime.ours


def test_a_hook_may_speak(box: Box) -> None:
    """What it prints goes nowhere that a container's output is read from, or there: but the container works."""
    hook(box, "createRuntime", "echo said")
    assert "works\n" in box.run("/bin/echo", "works").ok().out


def test_empty_hooks(box: Box) -> None:
    box.config["hooks"] = {"prestart": [], "poststop": []}
    box.run("/bin/true").ok()


@pytest.mark.deviates("runc", "1.1 counts nanoseconds in 64 bits", only=["1099511627776"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timeout", [3_000_000, 1 << 40])
def test_a_hook_may_have_any_time(box: Box, record: Path, kind: str, timeout: int) -> None:
    """poll(2) waits for 24.8 days at most."""
    hook(box, kind, f"echo {kind} >> {record}", timeout=timeout)
    box.run("/bin/true").ok()
    wait_until(lambda: lines(record) == [kind], DEADLINE_S)


@pytest.mark.parametrize("kind", KINDS)
def test_an_environment_with_values_without_a_name(box: Box, record: Path, kind: str) -> None:
    hook(box, kind, f"echo $WORD >> {record}", env=["PATH=/usr/bin:/bin", "", "=x", "WORD=kept"])
    box.run("/bin/true").ok()
    wait_until(lambda: lines(record) == ["kept"], DEADLINE_S)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hook_without_a_name(box: Box, record: Path, kind: str) -> None:
    """Its own argv[0] may be anything, also nothing."""
    (box.rootfs / "script").write_text(f"#!/bin/sh\ncat > /dev/null\necho ran >> {record}\n")
    (box.rootfs / "script").chmod(0o755)
    path = "/script" if kind == "startContainer" else os.fspath(box.rootfs / "script")
    box.config["hooks"] = {kind: [{"path": path, "args": [""], "env": ["PATH=/usr/bin:/bin"]}]}
    box.run("/bin/true").ok()
    wait_until(lambda: lines(record) == ["ran"], DEADLINE_S)


@pytest.mark.parametrize("kind", ["createRuntime", "startContainer"])
def test_what_a_hook_leaves_running_fills_no_memory(our_box: Box, kind: str) -> None:
    """Its output is read once, at the hook's end."""
    record = our_box.directory / "record"
    record.touch(mode=0o666)
    our_box.mount(os.fspath(record), "bind", record, "bind")
    waits = f"until [ -s {record} ]; do sleep 0.05; done"
    left = f"exec 3>&1; {waits}; echo much 2> /dev/null; echo $? >> {record}; stat -Lc %s /proc/self/fd/3 >> {record}"
    hook(our_box, kind, f"cat > /dev/null; echo said; ( {left} ) & exit 0")
    our_box.live()
    record.write_text("go\n")
    wait_until(lambda: len(lines(record)) == 3, DEADLINE_S)
    assert lines(record) == ["go", "1", "0"]
