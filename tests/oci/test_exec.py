"""More processes in a running container."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.oci.config import seccomp
from tests.oci.harness import DEADLINE_S, Box


def test_output_and_status(box: Box) -> None:
    box.live()
    done = box.exec("/bin/sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.status, done.out, done.err) == (7, "out\n", "err\n")
    assert box.status() == "running"


def test_standard_input(box: Box) -> None:
    box.live()
    read, write = os.pipe()
    os.write(write, b"some words")
    os.close(write)
    assert box.exec("/bin/cat", stdin=read).ok().out == "some words"
    os.close(read)


def test_it_is_inside(box: Box) -> None:
    """In every namespace of the container, and in its cgroups."""
    box.live()
    kinds = ("pid", "net", "ipc", "uts", "mnt", "cgroup")
    pid = box.state()["pid"]
    done = box.exec("/bin/sh", "-c", "; ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds)).ok()
    assert done.lines == [os.fspath(Path(f"/proc/{pid}/ns/{kind}").readlink()) for kind in kinds]
    assert {line.split(":")[2] for line in box.exec("/bin/cat", "/proc/self/cgroup").ok().lines} <= {"/"}
    assert box.exec("/bin/hostname").ok().out == "inside\n"
    assert len(json.loads(box.call("ps", "--format", "json", box.name).ok().out)) == 1


@pytest.mark.deviates("crun", "1.8 leaves no_new_privs to an option")
@pytest.mark.deviates("runc", "1.1 leaves the limits of the caller")
def test_it_is_no_freer_than_the_first(box: Box) -> None:
    """Capabilities, no_new_privs, filter, session: as the configuration says."""
    box.linux["seccomp"] = seccomp("SCMP_ACT_ALLOW", {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"})
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    box.process["oomScoreAdj"] = 321
    box.live()
    words = "^(Cap...|NoNewPrivs|Seccomp|Uid|Gid|Umask|SigBlk|SigIgn):"
    first = box.exec("/bin/grep", "-E", words, "/proc/1/status").ok().lines
    assert box.exec("/bin/grep", "-E", words, "/proc/self/status").ok().lines == first
    assert box.exec("/bin/inside", "call", "chmod").ok().out == "chmod EPERM\n"
    assert " 100 " in box.exec("/bin/grep", "open files", "/proc/self/limits").ok().out
    assert box.exec("/bin/cat", "/proc/self/oom_score_adj").ok().out == "321\n"


def test_no_descriptor_leaks_in(box: Box) -> None:
    box.live()
    assert [line.split()[0] for line in box.exec("/bin/inside", "descriptors").ok().lines] == ["0", "1", "2"]


def test_options(box: Box) -> None:
    box.live()
    done = box.exec(
        "/bin/sh",
        "-c",
        "echo $WORD; pwd; id -u; id -g",
        options=("--env", "WORD=a b", "--cwd", "/tmp", "--user", "1000:1001"),
    ).ok()
    assert done.lines == ["a b", "/tmp", "1000", "1001"]


def test_process_file(box: Box) -> None:
    """What engines use: a whole process object."""
    box.live()
    file = box.directory / "process.json"
    process = box.process | {
        "args": ["/bin/sh", "-c", "echo $WORD; pwd; id -u; grep CapEff /proc/self/status"],
        "env": ["PATH=/bin", "WORD=from the file"],
        "cwd": "/etc",
        "user": {"uid": 1000, "gid": 1000},
    }
    file.write_text(json.dumps(process))
    done = box.call("exec", "--process", os.fspath(file), box.name).ok()
    assert done.lines == ["from the file", "/etc", "1000", "CapEff:\t0000000000000000"]


def test_detached(box: Box) -> None:
    box.live()
    pid_file = box.directory / "pid"
    box.exec("/bin/sleep", "999", options=("--detach", "--pid-file", os.fspath(pid_file))).ok()
    pid = int(pid_file.read_text())
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"/bin/sleep\x00999\x00"
    assert pid in json.loads(box.call("ps", "--format", "json", box.name).ok().out)


def test_the_end_of_the_container_ends_it(box: Box) -> None:
    box.live()
    running = box.begin("exec", box.name, "/bin/sleep", "999")
    wait_until(lambda: len(json.loads(box.call("ps", "--format", "json", box.name).ok().out)) == 2, DEADLINE_S)
    box.kill().ok()
    assert running.wait().status == 137


@pytest.mark.deviates("crun", "1.8 does not say which file it could not open", only=["/etc"])
@pytest.mark.parametrize("program", ["/nope", "nope", "/etc/passwd"])
def test_a_program_that_cannot_be_run_is_named(box: Box, program: str) -> None:
    box.live()
    done = box.exec(program).refused()
    assert program in done.err
    assert box.status() == "running"


def test_into_a_container_that_has_ended(box: Box) -> None:
    box.live()
    box.kill().ok()
    box.until_stopped()
    box.exec("/bin/true").refused()


def test_into_a_created_container(box: Box) -> None:
    """Its namespaces are there: crun and runc both allow it."""
    box.create("/bin/sleep", "1000")
    assert box.exec("/bin/echo", "early").ok().out == "early\n"
    assert box.status() == "created"


def test_status_of_a_signal(box: Box) -> None:
    box.live()
    assert box.exec("/bin/sh", "-c", "kill -TERM $$").status == 128 + 15


def test_a_broken_process_file_is_refused(box: Box) -> None:
    box.live()
    file = box.directory / "process.json"
    for text in ("{", "[]", '{"args": []}', '{"args": "sleep"}'):
        file.write_text(text)
        done = box.call("exec", "--process", os.fspath(file), box.name)
        assert done.status != 0, text
        if box.runtime.ours:
            done.refused()
    assert len(json.loads(box.call("ps", "--format", "json", box.name).ok().out)) == 1


def test_preserve_fds(box: Box) -> None:
    box.live()
    with (box.directory / "handed").open("w+") as handed:
        prefix = ("bash", "-c", 'exec 3<&"$0"; exec "$@"', str(handed.fileno()))
        done = box.exec(
            "/bin/inside",
            "descriptors",
            options=("--preserve-fds", "1"),
            prefix=prefix,
            pass_fds=(handed.fileno(),),
        ).ok()
    assert [line.split()[0] for line in done.lines] == ["0", "1", "2", "3"]


def test_many_at_once(box: Box) -> None:
    box.live()
    running = [box.begin("exec", box.name, "/bin/echo", str(number)) for number in range(8)]
    assert [each.wait().ok().out for each in running] == [f"{number}\n" for number in range(8)]


def test_ps_takes_them_off_again(box: Box) -> None:
    box.live()
    box.exec("/bin/true").ok()
    wait_until(lambda: len(json.loads(box.call("ps", "--format", "json", box.name).ok().out)) == 1, DEADLINE_S)


@pytest.mark.parametrize(
    "options",
    [
        ("--user", "4294967295"),
        ("--user", "0:4294967295"),
        ("--user", "99999999999"),
        ("--user", "1:99999999999"),
        ("--user", "9" * 5000),
        ("--additional-gids", "4294967295"),
        ("--additional-gids", "99999999999"),
        ("--additional-gids", "x"),
    ],
)
def test_ids_that_nobody_can_have_are_refused(our_box: Box, options: tuple[str, ...]) -> None:
    """setresuid(2) takes the one above the highest for "leave it": the program would be root."""
    our_box.live()
    done = our_box.exec("/bin/id", options=options).refused()
    assert "from 0 to 4294967294" in done.err
    assert len(done.err) < 500


@pytest.mark.deviates("runc", "1.1 takes half of the ids")
def test_the_highest_ids(box: Box) -> None:
    box.live()
    done = box.exec("/bin/sh", "-c", "id -u; id -g", options=("--user", "4294967294:4294967293"))
    assert done.ok().lines == ["4294967294", "4294967293"]


@pytest.mark.deviates("crun", "1.8 leaves oom_score_adj as the caller has it", only=["oom_score_adj"])
@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("capabilities", "grep Cap /proc/self/status"),
        ("oom_score_adj", "cat /proc/self/oom_score_adj"),
        ("rlimits", "grep -E 'open files|processes' /proc/self/limits"),
    ],
)
def test_what_a_process_file_lacks_is_the_containers(box: Box, key: str, command: str) -> None:
    if key == "rlimits" and not box.runtime.ours:
        pytest.skip("crun 1.8 and runc 1.1 leave the caller's")
    box.process["oomScoreAdj"] = 77
    box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    made = box.live(command)
    file = box.directory / "process.json"
    file.write_text(json.dumps({"args": ["/bin/sh", "-c", command], "cwd": "/", "env": ["PATH=/bin"]}))
    done = box.call("exec", "--process", os.fspath(file), box.name).ok()
    assert done.lines == made.out.splitlines()[: len(done.lines)]


def test_what_a_process_file_says_counts(our_box: Box) -> None:
    our_box.process["oomScoreAdj"] = 77
    our_box.process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    our_box.live()
    limit = {"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}
    process = our_box.process | {"capabilities": {}, "oomScoreAdj": 78, "rlimits": [limit]}
    script = "grep CapEff /proc/self/status; cat /proc/self/oom_score_adj; ulimit -n"
    file = our_box.directory / "process.json"
    file.write_text(json.dumps(process | {"args": ["/bin/sh", "-c", script]}))
    done = our_box.call("exec", "--process", os.fspath(file), our_box.name).ok()
    assert done.lines == ["CapEff:\t0000000000000000", "78", "50"]


def test_a_capability_that_is_not_known_is_a_warning(box: Box) -> None:
    box.live()
    log = box.directory / "log"
    words = ("--log", os.fspath(log), "exec", "--cap", "CAP_FOO", "--cap", "CAP_CHOWN", box.name, "/bin/echo", "runs")
    assert box.call(*words).ok().out == "runs\n"
    assert "CAP_FOO" in log.read_text() or not box.runtime.ours


@pytest.mark.deviates("crun", "1.8 says nothing")
@pytest.mark.parametrize("count", ["30", "3000000000"])
def test_descriptors_that_are_not_open_are_refused(box: Box, count: str) -> None:
    box.live()
    box.exec("/bin/true", options=("--preserve-fds", count)).refused()
