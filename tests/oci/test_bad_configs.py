"""Configurations that cannot be: each refused before anything runs, with a word about what, and nothing left."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.oci.harness import Box

Config = dict[str, Any]


def put(path: str, value: object) -> Callable[[Config], None]:
    """Set the key at a path of dots; the last may be removed with ``...``."""

    def change(config: Config) -> None:
        *way, last = path.split(".")
        at: Any = config
        for word in way:
            at = at[int(word)] if isinstance(at, list) else at.setdefault(word, {})
        if value is ...:
            del at[last]
        elif isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value

    return change


#: Every runtime refuses these.
ALL = {
    "no arguments": put("process.args", ...),
    "empty arguments": put("process.args", []),
    "arguments in one word": put("process.args", "/bin/true"),
    "no root": put("root", ...),
    "root that is not there": put("root.path", "nowhere"),
    "root that is a file": put("root.path", "config.json"),
    "unknown namespace": put("linux.namespaces.0", {"type": "nope"}),
    "mounts that are no list": put("mounts", {"destination": "/x"}),
    "mount without destination": put("mounts.0", {"type": "proc", "source": "proc"}),
    "user that is a name": put("process.user", {"uid": "root"}),
    "limit of unknown kind": put("process.rlimits", [{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}]),
    "limit above the hard one": put("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]),
    "hook without path": put("hooks.prestart", [{"args": ["x"]}]),
    "hook that is not there": put("hooks.prestart", [{"path": "/nope"}]),
    "device of unknown kind": put("linux.devices", [{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}]),
    "sysctl that is not there": put("linux.sysctl", {"net.no.such.key": "1"}),
    "sysctl value that it does not take": put("linux.sysctl", {"net.ipv4.ip_forward": "words"}),
}

#: What a peer accepts, drops or leaves traces of, and the specification or good sense does not allow.
OURS = {
    "no version": put("ociVersion", ...),
    "version 2": put("ociVersion", "2.0.0"),
    "relative working directory": put("process.cwd", "tmp"),
    "environment without =": put("process.env", ["WORD"]),
    "argument with a zero byte": put("process.args", ["/bin/echo", "a\0b"]),
    "argument that is a number": put("process.args", ["/bin/echo", 1]),
    "the same namespace twice": put("linux.namespaces.0", {"type": "mount"}),
    "hostname without uts": lambda config: config["linux"].update(
        namespaces=[each for each in config["linux"]["namespaces"] if each["type"] != "uts"]
    ),
    "empty mount destination": put("mounts.0.destination", ""),
    "mount options that are no list": put("mounts.0.options", "ro"),
    "negative user": put("process.user", {"uid": -1, "gid": 0}),
    "user out of range": put("process.user", {"uid": 1 << 32, "gid": 0}),
    "limit that is negative": put("process.rlimits", [{"type": "RLIMIT_NOFILE", "soft": -1, "hard": 100}]),
    "the same limit twice": put("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2),
    "oom score out of range": put("process.oomScoreAdj", 5000),
    "cgroupsPath that is a number": put("linux.cgroupsPath", 5),
    "propagation of unknown kind": put("linux.rootfsPropagation", "nope"),
    "memory limit that is text": put("linux.resources.memory", {"limit": "32m"}),
    "true for a number": put("process.oomScoreAdj", True),
}


def names(box: Box) -> list[str]:
    """What is in the state directory and the root filesystem."""
    return sorted([*os.listdir(box.state_directory), *os.listdir(box.rootfs)])


def check(box: Box, change: Callable[[Config], None]) -> str:
    before = names(box)
    change(box.config)
    box.save()
    said = box.create_again().refused().err
    assert box.gone()
    assert [name for name in names(box) if name not in before] == []
    return said


#: What crun 1.8 accepts, or leaves its cgroups of.
CRUN = ("no arguments", "arguments in one word", "user that is a name", "device of unknown kind")


@pytest.mark.deviates("crun", "1.8 takes it, or sees it too late", only=CRUN)
@pytest.mark.parametrize("name", ALL)
def test_refused_by_all(box: Box, name: str) -> None:
    check(box, ALL[name])


@pytest.mark.parametrize("name", OURS)
def test_refused_by_ours(our_box: Box, name: str) -> None:
    said = check(our_box, OURS[name])
    assert "fix" in said or ":" in said, "it says neither what nor why"


@pytest.mark.deviates("crun", "1.8 reads the section", only=["-vm"])
@pytest.mark.parametrize("path", ["nope", "process.nope", "linux.nope", "root.nope", "linux.resources.nope", "vm"])
def test_unknown_keys_are_ignored(box: Box, path: str) -> None:
    """OCI config.md, "Extensibility"."""
    put(path, {"key": [1]})(box.config)
    assert box.run("/bin/echo", "fine").ok().out == "fine\n"


def test_an_unknown_key_is_one_line_in_the_log(our_box: Box) -> None:
    put("linux.nope", {"key": 1})(our_box.config)
    log = our_box.bundle / "log"
    our_box.save()
    our_box.call("--log", os.fspath(log), "create", "--bundle", os.fspath(our_box.bundle), our_box.name).ok()
    for verb in ("state", "start"):
        our_box.call("--log", os.fspath(log), verb, our_box.name).ok()
    (line,) = log.read_text().splitlines()
    assert "level=warning" in line
    assert "linux.nope" in line


@pytest.mark.deviates("runc", "1.1 panics", only=["null"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "1", '"text"', "{}", '{"ociVersion": "1.0.2"}', "\xff", '{"a": 1e999}', "[" * 5000]
)
def test_what_is_no_configuration(box: Box, text: str) -> None:
    (box.bundle / "config.json").write_text(text, encoding="latin-1")
    box.call("create", "--bundle", os.fspath(box.bundle), box.name).refused()
    assert box.gone()


def test_no_configuration(box: Box) -> None:
    done = box.call("create", "--bundle", os.fspath(box.bundle), box.name).refused()
    assert "config.json" in done.err


def test_no_bundle(box: Box) -> None:
    done = box.call("create", "--bundle", "/no/such/bundle", box.name).refused()
    assert "/no/such/bundle" in done.err


def test_a_configuration_that_is_a_directory(box: Box) -> None:
    (box.bundle / "config.json").mkdir()
    box.call("create", "--bundle", os.fspath(box.bundle), box.name).refused()


def test_a_configuration_that_is_a_pipe_is_not_waited_for(our_box: Box) -> None:
    os.mkfifo(our_box.bundle / "config.json")
    our_box.call("create", "--bundle", os.fspath(our_box.bundle), our_box.name).refused()


def test_a_failed_creation_leaves_the_name_free(box: Box) -> None:
    """The next one, put right, works."""
    box.config["root"]["path"] = "nowhere"
    box.save()
    box.create_again().refused()
    box.config["root"]["path"] = "rootfs"
    assert box.run("/bin/echo", "now").ok().out == "now\n"


def test_unknown_commands_and_options(box: Box) -> None:
    box.save()
    for words in (["nope"], ["create", "--nope", box.name], ["--nope", "list"], ["create"], ["kill"]):
        assert box.call(*words).status != 0, words


def test_annotations_of_any_kind_are_kept(box: Box) -> None:
    box.config["annotations"] = {"empty": "", "ä/ö": "\u2603", "long": "x" * 10000}
    box.create("/bin/sleep", "1000")
    assert json.loads(box.call("state", box.name).ok().out)["annotations"]["long"] == "x" * 10000
