"""The life of a container in separate commands: create, start, state, kill, delete, run, list, ps, pause, resume."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.oci.harness import DEADLINE_S, READY, Box

#: A program that says when SIGTERM arrives, and ends.
TRAP = f"trap 'echo caught; exit 0' TERM; echo '{READY}'; while :; do sleep 0.05; done"


def test_created_is_not_started(box: Box) -> None:
    """After create the container exists, with a live process, and its program has not run; start runs it."""
    made = box.create("/bin/sh", "-c", f"echo '{READY}'; sleep 1000")
    state = box.state()
    assert state["status"] == "created"
    assert Path(f"/proc/{state['pid']}").exists()
    assert made.out == ""
    box.call("start", box.name).ok()
    made.until(READY)
    assert box.status() == "running"
    box.kill().ok()
    box.until_stopped()
    box.delete().ok()
    assert box.gone()


def test_state_says_what_the_specification_asks_for(box: Box) -> None:
    box.config["annotations"] = {"org.example.key": "a value", "empty": ""}
    box.live()
    state = box.state()
    assert state["ociVersion"].startswith("1.")
    assert state["id"] == box.name
    assert state["status"] == "running"
    assert box.bundle.samefile(state["bundle"])
    assert state["annotations"].items() >= box.config["annotations"].items()
    assert box.name in Path(f"/proc/{state['pid']}/cgroup").read_text()


def test_what_does_not_fit_the_state_is_refused(box: Box) -> None:
    """start needs created; delete needs stopped; and a refused command changes nothing."""
    box.create("/bin/sh", "-c", "sleep 1000")
    box.create_again().refused()
    assert box.status() == "created"
    box.call("start", box.name).ok()
    box.call("start", box.name).refused()
    box.delete().refused()
    assert box.status() == "running"
    box.kill().ok()
    box.until_stopped()
    box.call("start", box.name).refused()
    box.kill("TERM").refused()
    assert box.status() == "stopped"
    box.delete().ok()
    box.delete().refused()


def test_a_second_container_of_the_same_name_leaves_the_first_alone(box: Box) -> None:
    box.live()
    before = box.state()
    box.create_again().refused()
    box.run("/bin/true").refused()
    assert {**box.state(), "status": before["status"]} == before


@pytest.mark.parametrize("when", ["created", "running", "stopped"])
def test_delete_force(box: Box, when: str) -> None:
    """--force removes a container in any state."""
    box.create("/bin/sleep", "1000")
    if when != "created":
        box.call("start", box.name).ok()
    if when == "stopped":
        box.kill().ok()
        box.until_stopped()
    pid = box.state()["pid"]
    box.delete("--force").ok()
    assert box.gone()
    wait_until(lambda: not alive(pid), DEADLINE_S)


def alive(pid: int) -> bool:
    """A zombie is not: its reaper is the host's, and takes its time."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_delete_force_of_nothing_is_no_error(box: Box) -> None:
    """An engine calls it to be sure."""
    box.delete("--force").ok()


def test_deletion_takes_all_processes(box: Box) -> None:
    """A child that has left the session of PID 1 goes too."""
    box.live("setsid sleep 1000 & sleep 1000 &")
    assert len(json.loads(box.call("ps", "--format", "json", box.name).ok().out)) == 3
    box.delete("--force").ok()


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete", "exec", "ps", "pause", "resume"])
def test_an_unknown_name_is_an_error(box: Box, verb: str) -> None:
    rest = {"kill": ["KILL"], "exec": ["/bin/true"]}.get(verb, [])
    done = box.call(verb, box.name, *rest).refused()
    assert box.name in done.err or "does not exist" in done.err


@pytest.mark.parametrize("name", ["../out", "a/b", "/", "", ".."])
def test_a_name_that_is_a_path_is_refused(box: Box, name: str) -> None:
    """The name becomes a directory's: it may not lead elsewhere."""
    box.save()
    assert box.call("run", "--bundle", str(box.bundle), name).status != 0
    assert os.listdir(box.state_directory) == []
    assert {path.name for path in box.directory.iterdir() if path.is_dir()} == {"bundle", "state"}


def test_run_passes_output_and_status_on(box: Box) -> None:
    done = box.sh("echo out; echo err >&2; exit 7")
    assert (done.status, done.out, done.err) == (7, "out\n", "err\n")
    assert box.gone()


def test_run_feeds_standard_input(box: Box) -> None:
    read, write = os.pipe()
    os.write(write, b"some words")
    os.close(write)
    assert box.run("/bin/cat", stdin=read).ok().out == "some words"
    os.close(read)


def test_status_of_a_signal(box: Box) -> None:
    """128 and the signal's number."""
    assert box.run("/bin/inside", "crash").status == 128 + 11


def test_run_detached(box: Box) -> None:
    pid_file = box.directory / "pid"
    done = box.run("/bin/sleep", "1000", options=("--detach", "--pid-file", str(pid_file)))
    assert done.status == 0, done.err
    state = box.state()
    assert state["status"] == "running"
    assert int(pid_file.read_text()) == state["pid"]


def test_the_pid_file_names_the_first_process(box: Box) -> None:
    pid_file = box.directory / "pid"
    box.create("/bin/sleep", "1000", options=("--pid-file", str(pid_file)))
    text = pid_file.read_text()
    assert re.fullmatch(r"\d+", text)
    assert int(text) == box.state()["pid"]
    status = Path(f"/proc/{text}/status").read_text()
    assert re.search(r"^NSpid:\t\d+.*\t1$", status, re.MULTILINE)


def test_a_container_that_ends_is_stopped(box: Box) -> None:
    """Its state and its name stay until delete."""
    box.create("/bin/true")
    box.call("start", box.name).ok()
    box.until_stopped()
    box.create_again().refused()
    box.delete().ok()


@pytest.mark.parametrize("name", ["TERM", "SIGTERM", "15"])
def test_kill_takes_any_form_of_a_signal(box: Box, name: str) -> None:
    made = box.create("/bin/sh", "-c", TRAP)
    box.call("start", box.name).ok()
    made.until(READY)
    box.kill(name).ok()
    made.until("caught")
    box.until_stopped()


def test_kill_sends_term_if_nothing_is_said(box: Box) -> None:
    made = box.create("/bin/sh", "-c", TRAP)
    box.call("start", box.name).ok()
    made.until(READY)
    box.call("kill", box.name).ok()
    made.until("caught")


def test_kill_of_a_created_container(box: Box) -> None:
    """It has a process already: engines stop it so."""
    box.create("/bin/sleep", "1000")
    box.kill().ok()
    box.until_stopped()


def test_kill_0_only_asks(box: Box) -> None:
    """kill(2): no signal is sent. Also to all that is left of one that has stopped, which is nothing."""
    box.live()
    box.kill("0").ok()
    assert box.status() == "running"
    box.kill().ok()
    box.until_stopped()
    box.kill("0", options=("--all",)).ok()
    box.kill("0").refused()


@pytest.mark.deviates("crun", "takes any unknown word for signal 0", only=["NOPE", "KILLTERM", "SIG"])
@pytest.mark.parametrize("name", ["NOPE", "KILLTERM", "SIG", "9999"])
def test_an_unknown_signal_is_refused(box: Box, name: str) -> None:
    box.live()
    assert box.call("kill", box.name, name).status != 0
    assert box.status() == "running"


def test_kill_all(box: Box) -> None:
    """--all reaches every process of the container, not the first alone."""
    made = box.live(
        "for i in 1 2 3; do sh -c 'trap \"echo caught\" USR1; while :; do sleep 0.05; done' & done; sleep 0.3"
    )
    box.kill("USR1", options=("--all",)).ok()
    wait_until(lambda: made.out.count("caught") == 3, DEADLINE_S)


def test_list(box: Box) -> None:
    box.live()
    (entry,) = json.loads(box.call("list", "--format", "json").ok().out)
    assert entry["id"] == box.name
    assert entry["status"] == "running"
    assert entry["pid"] == box.state()["pid"]
    assert box.bundle.samefile(entry["bundle"])
    lines = box.call("list").ok().lines
    assert lines[0].split()[:3] in (["ID", "PID", "STATUS"], ["NAME", "PID", "STATUS"])
    assert box.name in lines[1]
    assert box.call("list", "--quiet").ok().lines == [box.name]


def test_ps_counts_every_process(box: Box) -> None:
    box.live("sleep 999 & sleep 999 &")
    pids = json.loads(box.call("ps", "--format", "json", box.name).ok().out)
    assert len(pids) == 3
    assert box.state()["pid"] in pids


def test_pause_and_resume(box: Box) -> None:
    """A paused container stands still and says so; a resumed one goes on."""
    made = box.live("(while :; do echo tick; sleep 0.02; done) &")
    made.until("tick")
    box.call("pause", box.name).ok()
    assert box.status() == "paused"
    before = made.out
    pid = box.state()["pid"]
    assert Path(f"/proc/{pid}").exists()
    assert box.exec("/bin/true").status != 0
    assert made.out == before
    box.call("resume", box.name).ok()
    assert box.status() == "running"
    wait_until(lambda: made.out.count("tick") > before.count("tick"), DEADLINE_S)


def test_a_paused_container_can_be_deleted_by_force(box: Box) -> None:
    box.live()
    box.call("pause", box.name).ok()
    box.delete("--force").ok()


def test_commands_without_a_bundle_directory_use_the_current_one(box: Box) -> None:
    box.process["args"] = ["/bin/echo", "here"]
    box.save()
    assert box.call("run", box.name).ok().out == "here\n"  # cwd of every command here is the bundle


def as_fd_3(number: int) -> dict[str, Any]:
    """Have descriptor *number* as 3 in the runtime, and under its own number too."""
    return {"prefix": ("bash", "-c", 'exec 3<&"$0"; exec "$@"', str(number)), "pass_fds": (number,)}


def test_preserve_fds(box: Box) -> None:
    """--preserve-fds N hands 3 to N+2 on, and no other."""
    with (box.directory / "handed").open("w+") as handed:
        status = os.fstat(handed.fileno())
        done = box.run("/bin/inside", "descriptors", options=("--preserve-fds", "1"), **as_fd_3(handed.fileno())).ok()
    numbers = [line.split()[0] for line in done.lines]
    assert numbers == ["0", "1", "2", "3"]
    assert done.lines[3].split()[2] == str(status.st_ino)


def test_without_preserve_fds_nothing_arrives(box: Box) -> None:
    with (box.directory / "secret").open("w+") as secret:
        done = box.run("/bin/inside", "descriptors", **as_fd_3(secret.fileno())).ok()
    assert [line.split()[0] for line in done.lines] == ["0", "1", "2"]


def test_log_in_json(box: Box) -> None:
    """What containerd and conmon read to say why a container did not start."""
    log = box.directory / "log"
    box.process["args"] = ["/no-such-program"]
    box.save()
    words = ["--log", str(log), "--log-format", "json", "create", "--bundle", str(box.bundle), box.name]
    assert box.call(*words).status != 0
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    errors = [entry for entry in entries if entry["level"] == "error"]
    assert errors
    assert "no-such-program" in errors[-1]["msg"]


def test_version(box: Box) -> None:
    lines = box.call("--version").ok().lines
    assert re.match(rf"{box.runtime.name} (version )?\S+", lines[0])
    assert any(re.match(r"spec: 1\.\d", line) for line in lines)


def test_spec_makes_a_configuration_that_runs(box: Box) -> None:
    (box.bundle / "config.json").unlink(missing_ok=True)
    box.call("spec").ok()
    box.config = json.loads((box.bundle / "config.json").read_text())
    # What scripts that edit it find there in each runtime's.
    assert set(box.process["capabilities"]["bounding"]) == {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
    assert box.resources["devices"] == [{"allow": False, "access": "rwm"}]
    box.process["terminal"] = False
    box.linux["cgroupsPath"] = f"/{box.name}"
    assert box.run("/bin/echo", "made").ok().out == "made\n"


def test_features(box: Box) -> None:
    """What the runtime can do, for engines that ask first."""
    done = box.call("features")
    if box.runtime.name == "crun" and "unknown command" in done.err:
        pytest.skip("this crun is older than the command")
    found = json.loads(done.ok().out)
    assert found["ociVersionMin"].startswith("1.")
    assert found["ociVersionMax"].startswith("1.")
    assert {"prestart", "createRuntime", "poststop"} <= set(found["hooks"])
    assert {"bind", "ro", "rprivate"} <= set(found["mountOptions"])
    linux = found["linux"]
    assert set(linux["namespaces"]) >= {"cgroup", "ipc", "mount", "network", "pid", "user", "uts"}
    assert "CAP_SYS_ADMIN" in linux["capabilities"]
    assert linux["cgroup"]["v1"] is True
    assert linux["seccomp"]["enabled"] is True
    assert "SCMP_ACT_ERRNO" in linux["seccomp"]["actions"]


@pytest.mark.deviates("runc", "1.1 has no lock: one that fails may remove the state of the one that made it")
def test_creations_of_one_name_at_once(box: Box) -> None:
    """One of them makes the container, the others are refused, and what the one made works."""
    box.process["args"] = ["/bin/sleep", "1000"]
    box.save()
    started = [box.begin("create", "--bundle", str(box.bundle), box.name) for _ in range(4)]
    statuses = [each.wait().status for each in started]
    assert statuses.count(0) == 1, statuses
    assert box.status() == "created"
    box.call("start", box.name).ok()
    assert box.status() == "running"


def test_the_end_is_known_when_nobody_is_the_parent(box: Box) -> None:
    """A zombie that its reaper has not collected is stopped all the same."""
    pid_file = box.directory / "pid"
    box.create("/bin/true", options=("--pid-file", str(pid_file)))
    box.call("start", box.name).ok()
    box.until_stopped()
    assert box.state().get("pid", 0) in (0, int(pid_file.read_text()))
