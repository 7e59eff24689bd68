"""Configurations that chance has changed: a clear error or a correct container, never a traceback, never a leftover.

A few seconds here. ``nox -s fuzz`` (TARE_FUZZ_S=600) goes on for ten minutes, with a new seed each round, which a
failure prints: TARE_FUZZ_SEED=N begins there.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.oci import config as configs
from tests.oci import runtimes
from tests.oci.harness import Box, Done, Runtime, no_trace

SECONDS = float(os.environ.get("TARE_FUZZ_S", "0"))
SEED = int(os.environ.get("TARE_FUZZ_SEED", "1"))
ROUND = 40

REPORT = """
echo begin
echo uid $(id -u)
echo gid $(id -g)
echo cwd $(pwd)
echo hostname $(hostname)
grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status
echo mount $(readlink /proc/self/ns/mnt)
echo end
"""

Path_ = tuple[str | int, ...]

#: A path of the host never stands here as what a container may write to: what is tried is tried on this machine.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 1 << 31, 1 << 32, 1 << 63, 1 << 64, -(1 << 63), 0.5, 1e300),
    *("", "/", ".", "..", "x", "/x", "../x", "/proc", "/tmp/../..", "\0", "a\nb", "ä☃", "x" * 300, "x" * 5000),
    *("CAP_KILL", "CAP_NOPE", "ro", "rbind", "rshared", "private", "tmpcopyup", "idmap", "size=1k", "mode=9"),
    *("mount", "pid", "user", "time", "network", "RLIMIT_CORE", "SCMP_ACT_ERRNO", "bind", "tmpfs", "cgroup2"),
    *([], {}, [None], [[]], {"": ""}, [""], ["ro", "rw"], {"type": "user"}, {"uid": 5}, {"limit": -2}),
    [{"type": "RLIMIT_NOFILE", "soft": 3, "hard": 3}],
    [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}],
    [{"containerID": 0, "hostID": 100000, "size": 1}],
    {"prestart": [{"path": "/bin/false"}]},
    {"poststop": [{"path": "/bin/true", "timeout": 0}]},
    {"net.ipv4.ip_forward": "1"},
    {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]},
    {"memory": {"limit": 1 << 25}, "cpu": {"shares": 2}, "pids": {"limit": 30}},
    {"destination": "/y", "type": "tmpfs", "source": "tmpfs", "options": ["size=1k"]},
)
#: Keys of the specification that the ordinary configuration does not have.
KEYS = (
    *(
        "domainname",
        "annotations",
        "hooks",
        "rlimits",
        "oomScoreAdj",
        "umask",
        "additionalGids",
        "ambient",
        "inheritable",
    ),
    *(
        "sysctl",
        "seccomp",
        "devices",
        "uidMappings",
        "gidMappings",
        "rootfsPropagation",
        "mountLabel",
        "intelRdt",
        "vm",
    ),
    *("timeOffsets", "personality", "memory", "cpu", "pids", "blockIO", "hugepageLimits", "unified", "network", "rdma"),
    *("apparmorProfile", "selinuxLabel", "scheduler", "ioPriority", "consoleSize", "terminal", "path", "nope"),
)


def full(name: str) -> dict[str, Any]:
    """A configuration with something in most places."""
    made = configs.base(name)
    made["process"]["args"] = ["/bin/sh", "-c", REPORT]
    made["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    made["linux"]["seccomp"] = configs.seccomp("SCMP_ACT_ALLOW", {"names": ["acct"], "action": "SCMP_ACT_ERRNO"})
    made["linux"]["devices"] = [{"path": "/dev/more", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600}]
    made["linux"]["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 50}, "cpu": {"shares": 512}}
    made["mounts"].append({"destination": "/more", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "ro"]})
    made["hooks"] = {"createRuntime": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/true"}]}
    return made


def places(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Every place of a configuration, with the way there."""
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in pairs:
        yield from places(child, (*path, key))


PLACES = sorted(places(full("x")), key=str)
#: cgroupsPath holds the word by which leftovers are known, and "/" would name the host's own cgroups.
CHANGEABLE = [place for place in PLACES if place[:2] != ("linux", "cgroupsPath")]

changes = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(CHANGEABLE), st.sampled_from(VALUES)),
    st.tuples(st.just("delete"), st.sampled_from(PLACES), st.none()),
    st.tuples(st.just("add"), st.sampled_from(CHANGEABLE), st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES))),
    st.tuples(st.just("double"), st.sampled_from(CHANGEABLE), st.none()),
)


def change(config: dict[str, Any], kind: str, place: Path_, value: Any) -> None:
    """Make one change; a place that an earlier one took away is left."""
    at: Any = config
    *way, last = place
    try:
        for key in way:
            at = at[key]
        if kind == "set":
            at[last] = copy.deepcopy(value)
        elif kind == "delete":
            del at[last]
        elif kind == "double" and isinstance(at, list):
            at.append(copy.deepcopy(at[int(last)]))
        elif kind == "add" and isinstance(at[last], dict):
            at[last][value[0]] = copy.deepcopy(value[1])
    except (KeyError, IndexError, TypeError):
        return


def expected(config: dict[str, Any]) -> dict[str, str]:
    """What a container of this (accepted) configuration reports about itself, as far as it can be said.

    null is as good as absent: engines written in Go say so, and crun, runc and ours take it so.
    """
    process, linux = config["process"], config.get("linux") or {}
    user = process.get("user") or {}
    found = {
        "uid": str(user.get("uid") or 0),
        "gid": str(user.get("gid") or 0),
        "NoNewPrivs:": str(int(process.get("noNewPrivileges") or False)),
        "Seccomp:": "2" if linux.get("seccomp") else "0",
    }
    if config.get("hostname"):
        found["hostname"] = config["hostname"]
    names = (process.get("capabilities") or {}).get("bounding")
    if names == list(configs.CAPABILITIES):
        found["CapBnd:"] = "00000000a80425fb"
    return found


def judge(box: Box, done: Done, *, same_program: bool) -> None:
    no_trace(done.err)
    assert done.status >= 0, f"the runtime itself ended by signal {-done.status}"
    reported = dict(line.split(maxsplit=1) for line in done.lines if " " in line or "\t" in line)
    if "begin" in done.lines and "end" in done.lines:
        wanted = expected(box.config)
        assert {key: reported[key].strip() for key in wanted if key in reported} == {
            key: text for key, text in wanted.items() if key in reported
        }
        assert reported.get("mount") != os.fspath(Path("/proc/self/ns/mnt").readlink())
    elif same_program and "begin" not in done.lines:
        assert done.status != 0, f"neither run nor refused: {done}"
        assert done.err.strip(), f"refused without a word: {done}"


def one(runtime: Runtime, inside: Path, made: list[tuple[str, Path_, Any]]) -> None:
    with runtimes.box(runtime, inside) as box:
        box.config = full(box.name)
        before = copy.deepcopy(box.config["process"])
        for each in made:
            change(box.config, *each)
        process = box.config.get("process")
        same = isinstance(process, dict) and all(process.get(key) == before[key] for key in ("args", "env", "terminal"))
        judge(box, box.run(), same_program=same and "hooks" in box.config)


def text_of(runtime: Runtime, inside: Path, at: int, new: str, length: int) -> None:
    """The configuration's text, damaged at one place."""
    with runtimes.box(runtime, inside) as box:
        box.config = full(box.name)
        text = json.dumps(box.config, ensure_ascii=False)
        if box.name in text[(at := at % len(text)) : at + length] or "cgroupsPath" in text[max(0, at - 20) : at + 40]:
            return
        (box.bundle / "config.json").write_text(text[:at] + new + text[at + length :], "utf-8", "surrogatepass")
        done = box.call("run", "--bundle", os.fspath(box.bundle), box.name)
        no_trace(done.err)
        assert done.status >= 0
        assert done.status == 0 or done.err.strip() or done.out.strip()


QUIET = settings(
    max_examples=ROUND,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)


def rounds(*, share: float) -> Iterator[int]:
    """Seeds: one, or as many as this share of the time is enough for."""
    end_ns = time.monotonic_ns() + int(SECONDS * share * 1e9)
    number = SEED
    yield number
    while time.monotonic_ns() < end_ns:
        number += 1
        yield number


def test_changed_configurations(ours: Runtime, inside: Path) -> None:
    for number in rounds(share=0.8):

        @QUIET
        @seed(number)
        @given(st.lists(changes, min_size=1, max_size=3))
        def attempt(made: list[tuple[str, Path_, Any]]) -> None:
            one(ours, inside, made)

        attempt()


def test_damaged_texts(ours: Runtime, inside: Path) -> None:
    for number in rounds(share=0.2):

        @settings(QUIET, max_examples=ROUND // 2)
        @seed(number)
        @given(
            st.integers(0, 10_000),
            st.sampled_from(("", "{", "}", '"', ",", "[", "]", "\\", "\0", "\ud800", "9" * 400, "1e999", "null", "\t")),
            st.integers(0, 40),
        )
        def attempt(at: int, new: str, length: int) -> None:
            text_of(ours, inside, at, new, length)

        attempt()
