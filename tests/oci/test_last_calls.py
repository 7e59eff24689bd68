"""Between the filter and the program: one call, execve, judged by the configured capabilities."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.oci.agent import Agent
from tests.oci.config import seccomp
from tests.oci.harness import Box

SOURCE = Path(__file__).with_name("bare.c")
#: linux/unistd.h numbers of this machine.
NUMBERS = {"x86_64": {"execve": 59, "mkdir": 83}, "aarch64": {"execve": 221, "mkdirat": 34}}[os.uname().machine]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that needs two system calls."""
    target = tmp_path_factory.mktemp("bare") / "bare"
    words = [
        "cc",
        "-static",
        "-nostdlib",
        "-ffreestanding",
        "-fno-stack-protector",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    subprocess.run([*words, "-o", os.fspath(target), os.fspath(SOURCE)], check=True)
    return target


def put(box: Box, program: Path, mode: int = 0o755) -> str:
    """Copy *program* into the root filesystem; where it is there."""
    target = box.rootfs / "bin" / program.name
    target.write_bytes(program.read_bytes())
    target.chmod(mode)
    return f"/bin/{program.name}"


def rule(action: str, *names: str, **more: object) -> dict[str, object]:
    return {"names": list(names), "action": action, **more}


@pytest.fixture(params=[True, False], ids=["no_new_privs", "privs"])
def quiet(request: pytest.FixtureRequest) -> bool:
    """Whether noNewPrivileges is set: without it, seccomp(2) wants CAP_SYS_ADMIN."""
    return bool(request.param)


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("default", ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_ERRNO"])
def test_a_filter_need_allow_only_what_the_program_calls(
    our_box: Box, bare: Path, default: str, uid: int, quiet: bool
) -> None:
    our_box.process.update({"noNewPrivileges": quiet, "user": {"uid": uid, "gid": uid}})
    our_box.linux["seccomp"] = seccomp(default, rule("SCMP_ACT_ALLOW", "execve", "write", "exit_group"))
    done = our_box.run(put(our_box, bare))
    assert (done.status, done.out, done.err) == (7, "it runs\n", "")


@pytest.mark.parametrize("uid", [0, 1000])
def test_the_same_for_a_program_that_enters(our_box: Box, bare: Path, uid: int, quiet: bool) -> None:
    our_box.process.update({"noNewPrivileges": quiet, "user": {"uid": uid, "gid": uid}})
    allowed = rule("SCMP_ACT_ALLOW", "execve", "write", "exit_group", "nanosleep")
    our_box.linux["seccomp"] = seccomp("SCMP_ACT_KILL_PROCESS", allowed)
    program = put(our_box, bare)
    our_box.create(program, "stay")
    our_box.call("start", our_box.name).ok()
    done = our_box.exec(program)
    assert (done.status, done.out, done.err) == (7, "it runs\n", "")


def test_a_program_that_the_filter_does_not_let_run_fails(our_box: Box, bare: Path, quiet: bool) -> None:
    """And says so: not a start that seems to have worked."""
    our_box.process["noNewPrivileges"] = quiet
    allowed = rule("SCMP_ACT_ALLOW", "write", "exit_group")
    our_box.linux["seccomp"] = seccomp("SCMP_ACT_ERRNO", allowed)
    assert os.strerror(errno.EPERM).lower() in our_box.run(put(our_box, bare)).refused().err.lower()


def test_privileges_after_a_filter_are_those_configured(our_box: Box, quiet: bool) -> None:
    """What was needed to install the filter is gone."""
    names = ["CAP_CHOWN", "CAP_KILL"]
    for uid, expected in ((0, "0000000000000021"), (1000, "0000000000000000")):
        our_box.process.update(
            {
                "noNewPrivileges": quiet,
                "user": {"uid": uid, "gid": uid},
                "capabilities": {"bounding": names, "effective": names, "permitted": names},
            }
        )
        our_box.linux["seccomp"] = seccomp("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "acct"))
        lines = our_box.run("/bin/grep", "-E", "^Cap(Inh|Prm|Eff|Bnd|Amb)", "/proc/self/status").ok().lines
        sets = dict(line.split(":\t") for line in lines)
        assert sets["CapPrm"] == sets["CapEff"] == expected
        assert sets["CapBnd"] == "0000000000000021"
        assert sets["CapInh"] == sets["CapAmb"] == "0000000000000000"


@pytest.mark.deviates("crun", "1.8 looks for the program as root", only=["no"])
@pytest.mark.parametrize("override", [True, False], ids=["override", "no"])
def test_execve_judges_by_the_configured_capabilities(box: Box, inside: Path, override: bool) -> None:
    """A user with CAP_DAC_OVERRIDE may execute a file whose mode is for its owner alone, and enter its directory."""
    sets = ["CAP_DAC_OVERRIDE"] if override else []
    box.process.update(
        {
            "user": {"uid": 1000, "gid": 1000},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), sets),
        }
    )
    closed = box.rootfs / "closed"
    closed.mkdir(mode=0o700)
    (closed / "inside").write_bytes(inside.read_bytes())
    (closed / "inside").chmod(0o700)
    done = box.run("/closed/inside", "ids")
    if override:
        assert done.ok().out.startswith("1000")
    else:
        assert "permission denied" in done.refused().err.lower()


def test_a_program_that_enters_is_judged_so_too(our_box: Box, inside: Path) -> None:
    sets = ["CAP_DAC_OVERRIDE"]
    our_box.process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), sets)
    target = our_box.rootfs / "bin/closed"
    target.write_bytes(inside.read_bytes())
    target.chmod(0o700)
    our_box.live()
    assert our_box.exec("/bin/closed", "ids", options=("--user", "1000:1000")).ok().out.startswith("1000")


def notifying(box: Box, agent: Path, *names: str) -> dict[str, Any]:
    section = seccomp("SCMP_ACT_ALLOW", rule("SCMP_ACT_NOTIFY", *names))
    box.linux["seccomp"] = section | {"listenerPath": os.fspath(agent), "listenerMetadata": "a word"}
    return box.process


#: Calls that a runtime could make between the filter and its last one.
COMMON = "execve openat open read close fcntl close_range openat2 capset prctl seccomp fstat mmap sendmsg futex pipe2"


def test_an_agent_is_asked(box: Box, quiet: bool) -> None:
    """And gets the container's state with the listener."""
    path = box.directory / "agent"
    with Agent(path, lambda number: errno.ENOMEDIUM if number == 83 else None) as agent:
        notifying(box, path, "mkdir")["noNewPrivileges"] = quiet
        assert box.run("/bin/inside", "call", "mkdir", "getppid").ok().lines == ["mkdir ENOMEDIUM", "getppid ok"]
    (state,) = agent.states
    assert state["fds"] == ["seccompFd"]
    assert state["metadata"] == "a word"
    assert state["state"]["id"] == box.name
    assert state["pid"] > 1
    assert agent.asked == [83]


@pytest.mark.deviates("runc", "1.1 makes such calls itself before the agent has the listener")
@pytest.mark.deviates("crun", "1.8 does, too")
def test_an_agent_may_be_asked_about_every_call(box: Box, quiet: bool) -> None:
    path = box.directory / "agent"
    with Agent(path) as agent:
        notifying(box, path, *COMMON.split())["noNewPrivileges"] = quiet
        assert box.run("/bin/inside", "call", "getppid").ok().out == "getppid ok\n"
    assert agent.asked[0] == NUMBERS["execve"], "the first call under the filter"


def test_an_agent_is_asked_about_programs_that_enter(box: Box, quiet: bool) -> None:
    path = box.directory / "agent"
    with Agent(path, lambda number: errno.ENOMEDIUM if number == 83 else None) as agent:
        notifying(box, path, "mkdir")["noNewPrivileges"] = quiet
        box.live()
        assert box.exec("/bin/inside", "call", "mkdir").ok().out == "mkdir ENOMEDIUM\n"
    assert [state["state"]["status"] for state in agent.states][1] == "running"


def test_without_an_agent_nothing_runs(box: Box) -> None:
    notifying(box, box.directory / "nobody", "mkdir")
    done = box.run("/bin/echo", "no").refused()
    assert "failed to connect with seccomp agent" in done.err
    assert done.out == ""


def test_an_agent_that_is_gone_answers_for_nobody(box: Box) -> None:
    """seccomp_unotify(2): the calls fail with ENOSYS."""
    path = box.directory / "agent"
    with Agent(path):
        notifying(box, path, "mkdir")
        made = box.live()
    assert box.exec("/bin/true").status != 0, "there is no agent for it"
    made.child.wait()


@pytest.mark.parametrize("names", [["write"], ["mkdir", "write"]])
def test_writing_is_not_for_an_agent(box: Box, names: list[str]) -> None:
    path = box.directory / "agent"
    with Agent(path):
        notifying(box, path, *names)
        assert "SCMP_ACT_NOTIFY cannot be used for the write syscall" in box.run("/bin/true").refused().err


def test_a_listener_without_a_call_for_it_is_nobody(box: Box) -> None:
    """runc ignores the path where no rule asks; crun wants an agent there all the same."""
    if box.runtime.name == "crun":
        pytest.skip("connects to it")
    box.linux["seccomp"] = seccomp("SCMP_ACT_ALLOW") | {"listenerPath": "/no/such/agent"}
    assert box.run("/bin/echo", "fine").ok().out == "fine\n"


def test_hooks_inside_have_what_is_configured(our_box: Box) -> None:
    """A hook of startContainer is not given what the filter is installed with."""
    our_box.process.update({"noNewPrivileges": False})
    our_box.linux["seccomp"] = seccomp("SCMP_ACT_ALLOW", rule("SCMP_ACT_ERRNO", "acct"))
    script = "cat > /tmp/state; grep Cap /proc/self/status > /tmp/caps"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}
    our_box.config["hooks"] = {"startContainer": [hook]}
    ours, theirs = (
        dict(line.split(":\t") for line in text.splitlines() if line.startswith("Cap"))
        for text in (our_box.sh("grep Cap /proc/self/status").ok().out, (our_box.rootfs / "tmp/caps").read_text())
    )
    assert ours == theirs
    assert json.loads((our_box.rootfs / "tmp/state").read_text())["pid"] == 1


@pytest.mark.parametrize("cwd", ["/", "/work"])
@pytest.mark.parametrize("uid", [0, 1000, 7])
def test_home_is_by_the_image(box: Box, cwd: str, uid: int) -> None:
    """By its /etc/passwd, not by a file of that name below the working directory."""
    (box.rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n")
    (box.rootfs / "work/etc").mkdir(parents=True)
    (box.rootfs / "work/etc/passwd").write_text("bad:x:0:0::/bad:/bin/sh\nbad:x:1000:1000::/bad:/bin/sh\n")
    box.process.update({"cwd": cwd, "user": {"uid": uid, "gid": uid}, "env": ["PATH=/bin"]})
    home = {0: "/root", 1000: "/home/ada", 7: "/"}[uid]
    assert box.sh("echo $HOME; exec sleep 0").ok().out == f"{home}\n"
    box.live()
    assert box.exec("/bin/sh", "-c", "echo $HOME").ok().out == f"{home}\n"


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"])
def test_a_line_of_passwd_ends_with_a_newline_alone(box: Box, end: str) -> None:
    forged = f"x:x:1:1:a{end}b:c:1000:d:e:/evil:/bin/sh"
    (box.rootfs / "etc/passwd").write_text(f"{forged}\nada:x:1000:1000::/tmp:/bin/sh\n", newline="")
    box.process.update({"user": {"uid": 1000, "gid": 1000}, "env": ["PATH=/bin"]})
    assert box.sh("echo $HOME").ok().out == "/tmp\n"
