"""What the specification demands and no other file holds: docs/reference/runtime-spec.md names each line's test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.oci import config
from tests.oci.harness import READY, Box


def log_of(box: Box, *words: str, level: str = "warning") -> list[str]:
    """The messages of *level* that a command writes to its log; the command must work."""
    log = box.directory / "log.json"
    log.unlink(missing_ok=True)
    box.save()
    box.call("--log", os.fspath(log), "--log-format", "json", *words).ok()
    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [entry["msg"] for entry in entries if entry["level"] == level]


def run_warned(box: Box, *argv: str) -> list[str]:
    """Run *argv*; the warnings."""
    box.process["args"] = list(argv)
    return log_of(box, "run", "--bundle", os.fspath(box.bundle), box.name)


# -- config.md


@pytest.mark.deviates("crun", "1.8 knows none after 1.1", only=["1.2.1", "1.3.0"])
@pytest.mark.parametrize("version", ["1.0.0", "1.0.0-rc5", "1.0.2-dev", "1.1.0-rc.2+build.7", "1.2.1", "1.3.0"])
def test_versions_of_the_specification(box: Box, version: str) -> None:
    box.config["ociVersion"] = version
    assert box.run("/bin/echo", "fine").ok().out == "fine\n"


@pytest.mark.deviates("crun", "refuses it at creation")
@pytest.mark.deviates("runc", "refuses it at creation")
def test_without_a_process_there_is_a_container_that_cannot_be_started(box: Box) -> None:
    del box.config["process"]
    box.create()
    assert box.status() == "created"
    assert "process" in box.call("start", box.name).refused().err
    assert box.status() == "created"
    box.delete("--force").ok()


def test_a_size_without_a_terminal_is_ignored(box: Box) -> None:
    box.process["consoleSize"] = {"height": 25, "width": 80}
    assert box.run("/bin/echo", "fine").ok().out == "fine\n"


def test_an_untidy_size_without_a_terminal_is_ignored(our_box: Box) -> None:
    our_box.process["consoleSize"] = {"height": 1 << 20, "width": "wide"}
    assert our_box.run("/bin/echo", "fine").ok().out == "fine\n"


@pytest.mark.parametrize("name", ["CAP_NOPE", "CHOWN", "nonsense"])
def test_an_unknown_capability_is_a_warning(box: Box, name: str) -> None:
    for kind in ("bounding", "effective", "permitted"):
        box.process["capabilities"][kind].append(name)
    warned = run_warned(box, "/bin/true")
    assert any(name in line for line in warned) or not box.runtime.ours


def test_a_warning_is_said_once(our_box: Box) -> None:
    our_box.process["capabilities"]["bounding"] += ["CAP_NOPE", "CAP_NOPE"]
    assert len(run_warned(our_box, "/bin/true")) == 1
    our_box.config["process"]["args"] = ["/bin/sleep", "1000"]
    assert len(log_of(our_box, "create", "--bundle", os.fspath(our_box.bundle), our_box.name)) == 1
    for words in (["start"], ["state"], ["exec"], ["kill"], ["delete", "--force"]):
        verb, *more = words
        assert log_of(our_box, verb, *more, our_box.name, *(["/bin/true"] if verb == "exec" else [])) == []


def test_an_effective_capability_that_is_not_permitted_is_a_warning(our_box: Box) -> None:
    our_box.process["capabilities"] = {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"]}
    (line,) = run_warned(our_box, "/bin/true")
    assert "CAP_KILL" in line


def test_an_inheritable_capability_that_is_not_in_the_bounding_set_is_a_warning(our_box: Box) -> None:
    our_box.process["capabilities"] = config.capabilities("CAP_CHOWN") | {"inheritable": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}
    (line,) = run_warned(our_box, "/bin/true")
    assert "CAP_SYS_ADMIN" in line
    assert "CAP_CHOWN" not in line


def test_an_ambient_capability_that_is_not_inheritable_is_a_warning(our_box: Box) -> None:
    our_box.process["capabilities"] |= {"ambient": ["CAP_KILL"]}
    (line,) = run_warned(our_box, "/bin/true")
    assert "CAP_KILL" in line


def test_a_capability_that_the_runtime_lacks_is_a_warning(our_box: Box) -> None:
    """As in a container of docker's, in which a runtime is started."""
    our_box.process["capabilities"] = config.capabilities("CAP_CHOWN", "CAP_SYS_TIME", ambient=True)
    our_box.process["args"] = ["/bin/grep", "Cap", "/proc/self/status"]
    our_box.save()
    log = our_box.directory / "log"
    words = ("--log", os.fspath(log), "run", "--bundle", os.fspath(our_box.bundle), our_box.name)
    done = our_box.call(*words, prefix=("setpriv", "--bounding-set=-sys_time", "--inh-caps=-sys_time")).ok()
    assert {int(line.split()[1], 16) for line in done.lines} == {1}
    (line,) = log.read_text().splitlines()
    assert "CAP_SYS_TIME" in line
    assert "CAP_CHOWN" not in line


@pytest.mark.parametrize("given", [-1, 0, 7])
def test_oom_score_is_set_or_the_callers(box: Box, given: int) -> None:
    """Negative here: none is given."""
    own = Path("/proc/self/oom_score_adj").read_text()
    if given >= 0:
        box.process["oomScoreAdj"] = given
    said = box.run("/bin/cat", "/proc/self/oom_score_adj").ok().out
    assert said == (own if given < 0 else f"{given}\n")


@pytest.mark.parametrize(
    ("wanted", "policy", "nice"),
    [
        ({"policy": "SCHED_OTHER", "nice": 5}, 0, 5),
        ({"policy": "SCHED_BATCH", "nice": 3}, 3, 3),
        ({"policy": "SCHED_IDLE"}, 5, 0),
        ({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, 3, 0),
    ],
)
def test_scheduler(our_box: Box, wanted: dict[str, Any], policy: int, nice: int) -> None:
    """Fields 19 and 41 of proc(5)'s stat."""
    our_box.process["scheduler"] = wanted
    fields = our_box.run("/bin/cat", "/proc/self/stat").ok().out.split()
    assert (int(fields[40]), int(fields[18])) == (policy, nice)


def test_deadlines_are_the_kernels_to_judge(our_box: Box) -> None:
    """Whole, it is in force or refused by the kernel (v1's cpu groups admit none); without times, always refused."""
    our_box.process["scheduler"] = {"policy": "SCHED_DEADLINE"}
    assert "scheduling policy" in our_box.run("/bin/true").refused().err
    wanted = {"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 10_000_000}
    our_box.process["scheduler"] = wanted
    done = our_box.run("/bin/cat", "/proc/self/stat")
    assert "scheduling policy" in done.err if done.status else done.out.split()[40] == "6"


@pytest.mark.parametrize(("name", "said"), [("BE", "best-effort: prio 6"), ("IDLE", "idle"), ("RT", "realtime: ")])
def test_io_priority(our_box: Box, name: str, said: str) -> None:
    our_box.process["ioPriority"] = {"class": f"IOPRIO_CLASS_{name}", "priority": 6}
    assert our_box.run("/bin/busybox", "ionice").ok().out.startswith(said)


def test_processors_of_exec(our_box: Box) -> None:
    """They are for what exec starts, not for the first process."""
    last = max(os.sched_getaffinity(0))
    our_box.process["execCPUAffinity"] = {"initial": "0", "final": str(last)}
    our_box.live()
    words = ("/bin/grep", "Cpus_allowed_list", "/proc/1/status", "/proc/self/status")
    first, entered = our_box.exec(*words).ok().lines
    assert entered.split()[-1] == str(last)
    assert first.split()[-1] != str(last) or last == 0


@pytest.mark.deviates("crun", "goes on with its own environment")
def test_a_hook_without_an_environment_has_that_of_where_it_runs(box: Box) -> None:
    record = box.directory / "record"
    record.touch(mode=0o666)
    record.chmod(0o666)
    box.mount(os.fspath(record), "bind", record, "bind")
    box.environment["CALLER"] = "1"
    box.process["env"] = ["PATH=/bin", "INSIDE=1"]
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
    for kind in kinds:
        script = f"cat > /dev/null; echo {kind} ${{CALLER-}} ${{INSIDE-}}x ${{PATH:+path}} >> {record}"
        box.config.setdefault("hooks", {})[kind] = [{"path": "/bin/sh", "args": ["sh", "-c", script]}]
    box.run("/bin/true").ok()
    found = {line.split()[0]: line.split()[1:] for line in record.read_text().splitlines()}
    assert set(found) == set(kinds)
    for kind in kinds:
        inside = kind in ("createContainer", "startContainer")
        assert found[kind] == (["1x", "path"] if inside else ["1", "x", "path"]), kind


def test_a_hook_with_an_empty_environment_has_none(our_box: Box) -> None:
    record = our_box.directory / "record"
    our_box.environment["CALLER"] = "1"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"echo x${{CALLER-}} > {record}"], "env": []}
    our_box.config["hooks"] = {"createRuntime": [hook]}
    our_box.run("/bin/true").ok()
    assert record.read_text() == "x\n"


@pytest.mark.deviates("crun", "1.8 takes relative paths from the bundle")
def test_hooks_on_the_host_run_in_the_bundle(box: Box) -> None:
    """And relative paths of the command line are the caller's all the same."""
    record, kinds = box.directory / "record", ("createRuntime", "poststart", "poststop")
    for kind in kinds:
        hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat > /dev/null; pwd >> {record}"]}
        box.config.setdefault("hooks", {})[kind] = [hook]
    box.process["args"] = ["/bin/true"]
    box.save()
    options = ("--bundle", os.fspath(box.bundle), "--pid-file", "pid")
    box.call("run", *options, box.name, prefix=("env", "-C", os.fspath(box.directory))).ok()
    assert record.read_text().splitlines() == [os.fspath(box.bundle)] * 3
    assert (box.directory / "pid").read_text().isdecimal()


@pytest.mark.parametrize("kind", ["poststart", "poststop"])
@pytest.mark.deviates("runc", "1.1 ends the container, or runs no others")
@pytest.mark.deviates("crun", "1.8 says it on stderr alone")
def test_a_failing_hook_afterwards_is_a_warning_and_the_others_run(box: Box, kind: str) -> None:
    record = box.directory / "record"
    row = [f"echo {number} >> {record}; exit {number}" for number in (1, 2, 0)]
    box.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > /dev/null; {s}"]} for s in row]}
    warned = run_warned(box, "/bin/sleep", "0.2")
    assert record.read_text().splitlines() == ["1", "2", "0"]
    assert len([line for line in warned if kind in line]) == 2


@pytest.mark.parametrize("kind", ["createContainer", "startContainer", "poststart", "poststop"])
def test_a_hook_of_any_kind_has_its_time(our_box: Box, kind: str) -> None:
    our_box.config["hooks"] = {kind: [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}
    done = our_box.run("/bin/true")
    assert "longer than 1 s" in done.err
    assert (done.status == 0) == kind.startswith("post")


def test_poststop_hooks_run_when_a_creation_fails(our_box: Box) -> None:
    """runtime.md, "Lifecycle": after a failed hook it goes on with the removal."""
    record = our_box.directory / "record"
    our_box.config["hooks"] = {
        "createRuntime": [{"path": "/bin/false"}],
        "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo stopped > {record}"]}],
    }
    our_box.run("/bin/true").refused()
    assert record.read_text() == "stopped\n"
    assert our_box.gone()


@pytest.mark.deviates("crun", "1.8 keeps none")
def test_annotations_mean_nothing_and_are_kept(box: Box) -> None:
    """Also reserved ones, and those that other runtimes go by."""
    annotations = {
        "org.opencontainers.image.stopSignal": "SIGUSR1",
        "org.opencontainers.future": "x",
        "run.oci.keep_original_groups": "1",
        "nodots": "",
    }
    box.config["annotations"] = annotations
    box.create("/bin/sleep", "1000")
    assert box.state()["annotations"].items() >= annotations.items()


# -- runtime.md


@pytest.mark.deviates("runc", "1.1 reads the bundle again to exec")
def test_changes_after_the_creation_do_not_count(box: Box) -> None:
    made = box.create("/bin/sh", "-c", f"echo '{READY}'; sleep 1000")
    box.process["args"] = ["/nope"]
    box.config["hooks"] = {"poststop": [{"path": "/nope"}]}
    box.save()
    box.call("start", box.name).ok()
    made.until(READY)
    (box.bundle / "config.json").write_text("damaged")
    assert box.exec("/bin/echo", "entered").ok().out == "entered\n"
    box.delete("--force").ok()


def test_deletion_takes_nothing_that_was_there_before(box: Box) -> None:
    source = box.directory / "source"
    source.mkdir()
    (source / "file").write_text("kept")
    box.mount("/place", "bind", source, "bind")
    box.sh("echo made > /tmp/file").ok()
    assert (source / "file").read_text() == "kept"
    assert (box.rootfs / "tmp" / "file").read_text() == "made\n"


def test_the_state_has_an_absolute_bundle(box: Box) -> None:
    """However it was named."""
    box.process["args"] = ["/bin/sleep", "1000"]
    box.save()
    box.call("create", "--bundle", "../bundle/.", box.name).ok()
    assert box.state()["bundle"] == os.fspath(box.bundle)
    assert box.call("state", box.name).ok().out.startswith("{")


def test_an_owner_of_cgroups_is_not_changed(box: Box) -> None:
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.live()
    for line in Path(f"/proc/{box.state()['pid']}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        directory = Path("/sys/fs/cgroup", controllers.removeprefix("name=") or "unified") / path[1:]
        if box.name in path and directory.exists():
            assert directory.stat().st_uid == 0, directory


# -- the names, and what is kept


@pytest.mark.deviates("crun", "1.8 names a keyring by it, of which none may begin so", only=["-.hidden"])
@pytest.mark.parametrize("name", [".hidden", "a..b", "A_b+c-1.2", "0", "x" * 200])
def test_names_that_are_possible(box: Box, name: str) -> None:
    box.process["args"] = ["/bin/sleep", "1000"]
    box.linux["cgroupsPath"] = f"/{box.name}"
    box.save()
    box.call("create", name).ok()
    assert json.loads(box.call("state", name).ok().out)["id"] == name
    box.call("delete", "--force", name).ok()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "a:b", "é", "a\nb", "@seccomp"])
@pytest.mark.deviates("crun", "1.8 takes any but a path", only=["a b", "a:b", "xe9", "nb", "@", "name0", "-."])
def test_names_that_are_not(box: Box, name: str) -> None:
    box.save()
    box.call("create", name).refused()
    assert not [entry for entry in os.listdir(box.state_directory) if entry == name]


DAMAGE = {
    "empty": "",
    "no object": "[]",
    "cut": '{"name": "x"',
    "other keys": '{"a": 1}',
    "wrong types": json.dumps(
        dict.fromkeys(("name", "oci_version", "bundle", "rootfs", "cgroup", "annotations", "created", "owner_uid"), 1)
    ),
}


@pytest.mark.parametrize("text", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_state_hides_no_other_and_can_be_removed(our_box: Box, text: str) -> None:
    our_box.create("/bin/sleep", "1000")
    broken = our_box.state_directory / "broken"
    broken.mkdir()
    (broken / "state.json").write_text(text)
    done = our_box.call("list").ok()
    assert our_box.name in done.out
    assert "broken" in done.err
    for verb in ("state", "start", "kill", "delete", "ps"):
        assert "broken" in our_box.call(verb, "broken").refused().err
    our_box.call("delete", "--force", "broken").ok()
    assert not broken.exists()


def test_a_damaged_configuration_does_not_keep_a_container(our_box: Box) -> None:
    """It is removed, and the log says that its hooks were not run."""
    our_box.create("/bin/sleep", "1000")
    (our_box.state_directory / our_box.name / "config.json").write_text("{")
    our_box.call("start", our_box.name).refused()
    assert any("hooks" in line for line in log_of(our_box, "delete", "--force", our_box.name))
    assert our_box.gone()


@pytest.mark.deviates("crun", "1.8 takes relative paths from the bundle")
def test_relative_directories_are_the_callers(box: Box) -> None:
    box.process["args"] = ["/bin/sleep", "1000"]
    box.save()
    words = [box.runtime.binary, "--root", "state/deep", "create", "-b", "bundle", "--pid-file", "pid", box.name]
    with (box.directory / "said").open("wb") as said, (box.directory / "nothing").open("w+b") as nothing:
        streams: dict[str, Any] = {"stdin": nothing, "stdout": said, "stderr": said}
        done = subprocess.run(words, cwd=box.directory, env=box.environment, check=False, **streams)
    assert done.returncode == 0, (box.directory / "said").read_text()
    root = box.state_directory / "deep"
    found = subprocess.run([box.runtime.binary, "--root", root, "state", box.name], capture_output=True, check=True)
    assert json.loads(found.stdout)["pid"] == int((box.directory / "pid").read_text())
    subprocess.run([box.runtime.binary, "--root", root, "delete", "--force", box.name], check=True)
    shutil.rmtree(root)


def test_a_pid_file_that_cannot_be_written_is_an_error(box: Box) -> None:
    box.save()
    done = box.call("create", "--pid-file", "/no/such/place", box.name).refused()
    assert "/no/such/" in done.err
    assert box.gone()


# -- the log


def test_a_log_that_cannot_be_opened_is_an_error(box: Box) -> None:
    done = box.call("--log", "/no/such/place/log", "list").refused()
    assert "/no/such/place/log" in done.err


def test_a_log_may_be_a_pipe(our_box: Box) -> None:
    """As a descriptor of the caller's."""
    our_box.config["nope"] = 1
    our_box.process["args"] = ["/bin/true"]
    our_box.save()
    read_end, write_end = os.pipe()
    try:
        words = ("--log", f"/proc/self/fd/{write_end}", "run", our_box.name)
        our_box.call(*words, pass_fds=(write_end,)).ok()
        os.close(write_end)
        (line,) = os.read(read_end, 4096).decode().splitlines()
    finally:
        os.close(read_end)
    assert " level=warning msg=" in line
    assert line.startswith('time="')


@pytest.mark.parametrize("form", ["text", "json"])
def test_debug_says_what_is_done(box: Box, form: str) -> None:
    box.process["args"] = ["/bin/true"]
    box.save()
    log = box.directory / "log"
    done = box.call("--debug", "--log", os.fspath(log), "--log-format", form, "run", box.name).ok()
    assert not done.err
    assert ("level=debug" if form == "text" else '"level":"debug"') in log.read_text() or box.runtime.name == "crun"


def test_debug_without_a_log_goes_to_standard_error(our_box: Box) -> None:
    our_box.process["args"] = ["/bin/echo", "out"]
    our_box.save()
    done = our_box.call("--debug", "run", our_box.name).ok()
    assert done.out == "out\n"
    assert "level=debug" in done.err


def test_a_level_of_the_log(our_box: Box) -> None:
    our_box.config["nope"] = 1
    our_box.process["args"] = ["/bin/true"]
    our_box.save()
    assert "nope" in our_box.call("run", our_box.name).ok().err
    assert our_box.call("--log-level", "error", "run", our_box.name).ok().err == ""
    assert "level=debug" in our_box.call("--log-level", "debug", "run", our_box.name).ok().err
    assert "--log-level" in our_box.call("--log-level", "much", "run", our_box.name).refused().err


def test_the_state_follows_the_schema(box: Box) -> None:
    box.config["annotations"] = {"a": "b"}
    box.live()
    for status in ("running", "stopped"):
        state = box.state()
        assert state["status"] == status
        assert all(isinstance(state[key], str) for key in ("ociVersion", "id", "status", "bundle"))
        assert isinstance(state["pid"], int)
        assert (state["pid"] > 0) == (status == "running")
        if status == "running":
            box.kill().ok()
            box.until_stopped()


def test_verbs_without_a_name_are_errors(box: Box) -> None:
    for verb in ("create", "start", "state", "kill", "delete", "run", "exec", "ps", "pause", "resume"):
        assert box.call(verb).status != 0, verb


def test_a_device_may_have_two_names(box: Box) -> None:
    for name in ("/dev/one", "/opt/two"):
        device = {"path": name, "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0}
        box.linux.setdefault("devices", []).append(device)
    box.resources["devices"].append({"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"})
    said = box.run("/bin/stat", "-c", "%t:%T %n", "/dev/one", "/opt/two").ok().lines
    assert said == ["1:3 /dev/one", "1:3 /opt/two"]
