"""Device nodes, and the rules that say which may be opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.oci.harness import Box

STANDARD = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
#: /dev/fuse: anybody may open it whom no rule forbids it, and no runtime allows it by itself.
FUSE = (10, 229)


def test_standard_devices(box: Box) -> None:
    script = "\n".join(f"stat -c '%n %t:%T %a %u:%g %F' /dev/{name}" for name in STANDARD)
    assert box.sh(script).ok().lines == [
        f"/dev/{name} {major:x}:{minor:x} 666 0:0 character special file" for name, (major, minor) in STANDARD.items()
    ]


def test_standard_links(box: Box) -> None:
    script = "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done"
    assert box.sh(script).ok().lines == [
        "/proc/self/fd",
        "/proc/self/fd/0",
        "/proc/self/fd/1",
        "/proc/self/fd/2",
        "pts/ptmx",
    ]


def test_standard_devices_work(box: Box) -> None:
    script = "head -c 2 /dev/zero | wc -c; head -c 2 /dev/urandom | wc -c; echo x > /dev/null; echo x > /dev/full"
    done = box.sh(script)
    assert done.lines == ["2", "2"]
    assert "No space left" in done.err


def test_a_configured_device(box: Box) -> None:
    """With the mode and the owner that are asked for; directories on the way are made."""
    box.linux["devices"] = [
        {"path": "/dev/made/node", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7, "gid": 8}
    ]
    assert box.run("/bin/stat", "-c", "%t:%T %a %u:%g %F", "/dev/made/node").ok().out == (
        "1:3 640 7:8 character special file\n"
    )


@pytest.mark.parametrize(
    ("kind", "word"), [("b", "block special file"), ("u", "character special file"), ("p", "fifo")]
)
def test_kinds_of_devices(box: Box, kind: str, word: str) -> None:
    numbers = {} if kind == "p" else {"major": 7, "minor": 200}
    box.linux["devices"] = [{"path": "/dev/node", "type": kind, "fileMode": 0o600, **numbers}]
    assert box.run("/bin/stat", "-c", "%F", "/dev/node").ok().out == f"{word}\n"


def opening(box: Box, *rules: dict[str, Any], kind: str = "c") -> list[str]:
    """What comes of making a node and opening it for reading, then for writing, under these rules."""
    box.resources["devices"] = list(rules)
    script = (
        f"mknod /node {kind} {FUSE[0]} {FUSE[1]} 2>&1 && echo made\n"
        "{ head -c 0 /node && echo read; } 2>&1; { : > /node; } 2>&1 && echo write"
    )
    return box.sh(f"({script})").lines


#: Kept apart from the test, which passes without -1.
MINUS_ONE = pytest.mark.deviates("crun", "1.8 writes -1 as it is, fails, and leaves its cgroups")
DENY = {"allow": False, "access": "rwm"}


def test_deny_all(box: Box) -> None:
    lines = opening(box, DENY)
    assert "read" not in lines
    assert "write" not in lines
    assert any("Operation not permitted" in line for line in lines)


def test_allow_one(box: Box) -> None:
    rule = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
    assert opening(box, DENY, rule) == ["made", "read", "write"]


def test_allow_reading_alone(box: Box) -> None:
    rule = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rm"}
    lines = opening(box, DENY, rule)
    assert lines[:2] == ["made", "read"]
    assert "Operation not permitted" in lines[2]


def test_allow_all_of_one_kind(box: Box) -> None:
    """No numbers mean any."""
    assert opening(box, DENY, {"allow": True, "type": "c", "access": "rwm"}) == ["made", "read", "write"]


@pytest.mark.parametrize("minor", [{}, pytest.param({"minor": -1}, marks=MINUS_ONE)], ids=["none", "-1"])
def test_allow_a_major_number(box: Box, minor: dict[str, int]) -> None:
    """No minor number is any; so is -1, which docker writes."""
    rule = {"allow": True, "type": "c", "major": 10, "access": "rwm", **minor}
    assert opening(box, DENY, rule) == ["made", "read", "write"]


def test_later_rules_win(box: Box) -> None:
    allow = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
    lines = opening(box, DENY, allow, {**allow, "allow": False})
    assert "read" not in lines


@pytest.mark.parametrize("kind", ["c", "b"])
def test_another_kind_does_not_count(box: Box, kind: str) -> None:
    """A rule for block devices opens no character device of the same numbers."""
    rule = {"allow": True, "type": "b" if kind == "c" else "c", "major": 10, "minor": 229, "access": "rwm"}
    assert "read" not in opening(box, DENY, rule, kind=kind)


def test_no_rules_deny_nothing_that_the_host_allows(box: Box) -> None:
    """Or they deny all but the standard devices, as runc does: in any case these work."""
    box.resources["devices"] = []
    assert box.sh("head -c 1 /dev/zero | wc -c").ok().out == "1\n"


def test_a_host_device_bound_in(box: Box) -> None:
    assert Path("/dev/kmsg").is_char_device()
    box.resources["devices"] = [DENY]
    box.mount("/dev/kmsg", "bind", "/dev/kmsg", "bind")
    assert "Operation not permitted" in box.sh(": > /dev/kmsg").err


def test_dev_of_the_image_cannot_be_used(box: Box) -> None:
    """A device node that the image brings is no way around the rules."""
    os.mknod(box.rootfs / "disk", stat.S_IFCHR | 0o666, os.makedev(*FUSE))
    assert "Operation not permitted" in box.sh("head -c 0 /disk").err
