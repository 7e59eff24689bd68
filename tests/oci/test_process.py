"""The process inside: what it is called with, who it is, what it may do, what it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.oci import config
from tests.oci.harness import Box

#: linux/capability.h
BITS = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_NET_BIND_SERVICE": 10, "CAP_NET_RAW": 13, "CAP_SYS_TIME": 25}


def mask(*names: str) -> int:
    return sum(1 << BITS[name] for name in names)


def status(box: Box) -> dict[str, str]:
    lines = box.run("/bin/cat", "/proc/self/status").ok().lines
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_arguments_arrive_as_they_are(box: Box) -> None:
    words = ["a b", "", "'quoted'", "$HOME", "-x", "ä\n"]
    box.process["args"] = ["/bin/printf", "[%s]", *words]
    assert box.run().ok().out == "".join(f"[{word}]" for word in words)


@pytest.mark.parametrize("name", ["tool", "sub/tool", "./tool"])
def test_the_program_is_looked_for_inside(box: Box, name: str) -> None:
    """A bare name on the container's PATH; a name with a slash from its working directory."""
    place = box.rootfs / "opt" / Path(name).parent
    place.mkdir(parents=True)
    (place / "tool").write_text("#!/bin/sh\necho found\n")
    (place / "tool").chmod(0o755)
    box.process["env"] = ["PATH=/nowhere:/opt:/bin"]
    box.process["cwd"] = "/opt"
    assert box.run(name).ok().out == "found\n"


@pytest.mark.deviates("crun", "1.8 does not say which file it could not open", only=["/etc"])
@pytest.mark.parametrize(
    ("program", "word"), [("/nope", "/nope"), ("nope", "nope"), ("/etc/passwd", "/etc/passwd"), ("/etc", "/etc")]
)
def test_a_program_that_cannot_be_run_is_named(box: Box, program: str, word: str) -> None:
    done = box.run(program).refused()
    assert word in done.err
    assert box.gone()


def test_a_program_that_cannot_be_run_is_known_at_creation_or_start(box: Box) -> None:
    """Never does a container count as running whose program is not there."""
    box.process["args"] = ["/nope"]
    box.save()
    made = box.create_again()
    if made.status == 0:
        assert box.call("start", box.name).status != 0 or box.status() == "stopped"
    else:
        assert box.gone()


def test_environment(box: Box) -> None:
    """What is configured, and at most HOME besides."""
    box.process["env"] = ["PATH=/bin", "WORD=a b=c", "EMPTY="]
    lines = box.run("/bin/env").ok().lines
    assert [line for line in lines if not line.startswith("HOME=")] == ["PATH=/bin", "WORD=a b=c", "EMPTY="]


def test_working_directory(box: Box) -> None:
    box.process["cwd"] = "/tmp"
    assert box.run("/bin/pwd").ok().out == "/tmp\n"


def test_a_missing_working_directory_is_made(box: Box) -> None:
    box.process["cwd"] = "/work/deep"
    assert box.run("/bin/pwd").ok().out == "/work/deep\n"


def test_user(box: Box) -> None:
    box.process["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 7]}
    found = status(box)
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Gid"].split() == ["1001"] * 4
    assert set(found["Groups"].split()) - {"1001"} == {"5", "7"}


def test_no_groups_of_the_caller_are_left(box: Box) -> None:
    box.process["user"] = {"uid": 1000, "gid": 1000}
    assert set(status(box)["Groups"].split()) <= {"1000"}


def test_umask(box: Box) -> None:
    box.process["user"] = {"uid": 0, "gid": 0, "umask": 0o77}
    assert status(box)["Umask"] == "0077"


def test_default_umask(box: Box) -> None:
    assert status(box)["Umask"] == "0022"


def test_capabilities(box: Box) -> None:
    names = ("CAP_CHOWN", "CAP_KILL")
    box.process["capabilities"] = config.capabilities(*names)
    found = status(box)
    assert {int(found[key], 16) for key in ("CapEff", "CapPrm", "CapBnd")} == {mask(*names)}
    assert {int(found[key], 16) for key in ("CapInh", "CapAmb")} == {0}


def test_no_capabilities(box: Box) -> None:
    box.process["capabilities"] = config.capabilities()
    found = status(box)
    assert {int(found[key], 16) for key in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {0}
    assert box.run("/bin/chown", "1:1", "/etc/passwd").status != 0


def test_ambient_capabilities_survive_for_a_user(box: Box) -> None:
    names = ("CAP_NET_RAW", "CAP_KILL")
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["capabilities"] = config.capabilities(*names, ambient=True)
    found = status(box)
    assert {int(found[key], 16) for key in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {mask(*names)}


def test_a_user_without_ambient_has_none_in_force(box: Box) -> None:
    box.process["user"] = {"uid": 1000, "gid": 1000}
    found = status(box)
    assert int(found["CapEff"], 16) == int(found["CapPrm"], 16) == 0
    assert int(found["CapBnd"], 16) & mask("CAP_CHOWN")


def test_the_five_sets_are_five(box: Box) -> None:
    """As a user, each set is what was written."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_NET_RAW"],
        "inheritable": ["CAP_NET_RAW", "CAP_KILL"],
        "effective": ["CAP_NET_RAW"],
        "ambient": ["CAP_NET_RAW"],
    }
    found = status(box)
    assert int(found["CapBnd"], 16) == mask("CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW")
    assert int(found["CapInh"], 16) == mask("CAP_NET_RAW", "CAP_KILL")
    assert int(found["CapAmb"], 16) == int(found["CapEff"], 16) == int(found["CapPrm"], 16) == mask("CAP_NET_RAW")


@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(box: Box, wanted: bool) -> None:
    box.process["noNewPrivileges"] = wanted
    assert status(box)["NoNewPrivs"] == str(int(wanted))


@pytest.mark.parametrize("wanted", [True, False])
def test_a_setuid_program(box: Box, wanted: bool) -> None:
    """It gives what it always does, but not with noNewPrivileges."""
    (box.rootfs / "bin" / "inside").chmod(0o4755)
    box.process["user"] = {"uid": 1000, "gid": 1000}
    box.process["noNewPrivileges"] = wanted
    assert box.run("/bin/inside", "ids").ok().out == ("1000 1000\n" if wanted else "1000 0\n")


def test_rlimits(box: Box) -> None:
    box.process["rlimits"] = [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NPROC", "soft": 1000, "hard": 1000},
    ]
    text = box.run("/bin/cat", "/proc/self/limits").ok().out
    assert re.search(r"^Max open files +100 +200 ", text, re.MULTILINE)
    assert re.search(r"^Max core file size +0 +0 ", text, re.MULTILINE)
    assert re.search(r"^Max processes +1000 +1000 ", text, re.MULTILINE)


#: What each leaves to a program that does not use it.
SMALL = ["DATA 1048576", "AS 4194304", "AS 16777216", "FSIZE 0", "STACK 65536", "NOFILE 16"]


def small(limit: str) -> dict[str, object]:
    name, number = limit.split()
    return {"type": f"RLIMIT_{name}", "soft": int(number), "hard": int(number)}


@pytest.mark.parametrize("limit", SMALL)
def test_small_limits_are_the_programs_alone(box: Box, limit: str) -> None:
    """They come when there is no runtime left that they could end: in the first process, in its hooks, in exec."""
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "cat > /dev/null; echo said; exit 0"], "env": ["PATH=/bin"]}
    if box.runtime.ours and "NOFILE" not in limit:  # a shell opens more files, and runc itself needs more memory
        box.config["hooks"] = {"startContainer": [hook]}
    box.process["rlimits"] = [small(limit)]
    # Its output is a file here, which FSIZE is about.
    assert box.run("/bin/sh", "-c", "exit 7").status == 7
    box.create("/bin/sleep", "1000")
    box.call("start", box.name).ok()
    assert box.exec("/bin/sh", "-c", "exit 8").status == 8


@pytest.mark.parametrize("limit", ["NOFILE 8", "NOFILE 3", "NOFILE 0"])
def test_a_program_that_may_open_next_to_nothing(our_box: Box, limit: str) -> None:
    our_box.process["rlimits"] = [small(limit)]
    assert our_box.run("/bin/echo", "ok").ok().out == "ok\n"
    our_box.create("/bin/sleep", "1000")
    our_box.call("start", our_box.name).ok()
    assert our_box.exec("/bin/echo", "ok").ok().out == "ok\n"


def test_limits_of_memory_and_files(box: Box) -> None:
    rows = {"DATA": "data size", "AS": "address space", "FSIZE": "file size", "STACK": "stack size"}
    box.process["rlimits"] = [
        {"type": f"RLIMIT_{name}", "soft": number << 20, "hard": (number << 20) + 4096}
        for number, name in enumerate(rows, 100)
    ]
    text = box.run("/bin/cat", "/proc/self/limits").ok().out
    for number, row in enumerate(rows.values(), 100):
        assert re.search(rf"^Max {row} +{number << 20} +{(number << 20) + 4096} ", text, re.MULTILINE)


@pytest.mark.parametrize("adjustment", [0, 100, 1000])
def test_oom_score_adjustment(box: Box, adjustment: int) -> None:
    box.process["oomScoreAdj"] = adjustment
    assert box.run("/bin/cat", "/proc/self/oom_score_adj").ok().out == f"{adjustment}\n"


def test_signals_are_as_new(box: Box) -> None:
    """Nothing is blocked and nothing ignored, whatever the caller did; Python ignores SIGPIPE, for one."""
    found = status(box)
    assert int(found["SigBlk"], 16) == 0
    assert int(found["SigIgn"], 16) == 0


def test_it_leads_a_session_without_a_terminal(box: Box) -> None:
    assert box.run("/bin/inside", "session").ok().out == "1 1 1 none\n"


def test_no_descriptor_leaks_in(box: Box) -> None:
    lines = box.run("/bin/inside", "descriptors").ok().lines
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]


def test_the_name_of_the_process(box: Box) -> None:
    assert box.run("/bin/cat", "/proc/1/comm").ok().out == "cat\n"


@pytest.mark.parametrize("key", ["apparmorProfile", "selinuxLabel"])
def test_a_security_module_that_is_not_there(box: Box, key: str) -> None:
    """A profile that cannot be in force is an error, never a container without it."""
    module = {"apparmorProfile": "/sys/module/apparmor/parameters/enabled", "selinuxLabel": "/sys/fs/selinux/enforce"}
    if Path(module[key]).exists():
        pytest.skip(f"{module[key]} exists: this host may have the module")
    box.process[key] = "tare-no-such-profile"
    done = box.run("/bin/true")
    if box.runtime.ours:
        assert key in done.refused().err
    else:
        assert done.status >= 0  # crun and runc disagree: the one warns, the other does not say anything
