"""Device nodes, and the rules that say which may be opened."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.oci import config
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


# -- what is there already


@pytest.fixture
def node(box: Box) -> Path:
    """A device node of the host's: anybody's, as /dev/fuse."""
    made = box.directory / "node"
    os.mknod(made, stat.S_IFCHR | 0o600, os.makedev(*FUSE))
    return made


def listed(path: str, **more: object) -> dict[str, Any]:
    return {"path": path, "type": "c", "major": FUSE[0], "minor": FUSE[1], **more}


@pytest.mark.parametrize("wish", [{}, {"fileMode": 0o666}, {"uid": 7, "gid": 8}, {"fileMode": 0o640, "uid": 1000}])
def test_a_device_of_the_host_keeps_owner_and_mode(box: Box, node: Path, wish: dict[str, int]) -> None:
    """Bound, and listed, too: the container gets what was mounted, and the host keeps what it has."""
    box.mount("/dev/node", "bind", node, "bind")
    box.linux["devices"] = [listed("/dev/node", **wish)]
    done = box.run("/bin/stat", "-c", "%a %u:%g %t:%T", "/dev/node").ok()
    assert done.out == "600 0:0 a:e5\n"
    found = node.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o600, 0, 0)
    if box.runtime.ours:
        log = box.directory / "log"
        box.call("--log", str(log), "run", "--bundle", str(box.bundle), box.name).ok()
        assert log.read_text().count("keeps its mode 600 and owner 0:0") == 1


def test_nothing_of_a_bound_dev_is_touched(box: Box, node: Path) -> None:
    """It is the host's: no device is made in it, none changes its owner."""
    other = box.directory / "other"
    other.mkdir()
    node.rename(other / "node")
    box.config["mounts"] = [each for each in box.config["mounts"] if not each["destination"].startswith("/dev")]
    box.mount("/dev", "bind", other, "bind")
    box.linux["devices"] = [listed("/dev/node", uid=7), listed("/dev/absent")]
    box.run("/bin/true")
    assert sorted(os.listdir(other)) == ["node"]
    assert (other / "node").stat().st_uid == 0


@pytest.mark.deviates("runc", "1.1 says nothing")
@pytest.mark.deviates("crun", "1.8 says nothing")
@pytest.mark.parametrize("kind", ["file", "directory", "another device", "fifo"])
def test_another_file_in_the_place_of_a_device_is_an_error(box: Box, kind: str) -> None:
    """config-linux.md: "the runtime MUST generate an error"."""
    place = box.rootfs / "node"
    if kind == "file":
        place.touch()
    elif kind == "directory":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    box.linux["devices"] = [listed("/node")]
    assert "/node" in box.run("/bin/true").refused().err


def test_a_device_that_the_image_has(box: Box) -> None:
    os.mknod(box.rootfs / "node", stat.S_IFCHR | 0o600, os.makedev(*FUSE))
    (box.rootfs / "link").symlink_to("node")
    box.linux["devices"] = [listed("/node"), listed("/link")]
    assert box.run("/bin/stat", "-L", "-c", "%t:%T", "/node", "/link").ok().lines == ["a:e5"] * 2


@pytest.mark.parametrize("path", ["/dev/deep/../node", "/dev//node", "/dev/./node", "/dev/node/"])
@pytest.mark.deviates("crun", "1.8 takes paths as they stand")
def test_paths_of_devices_are_put_in_order(box: Box, path: str) -> None:
    box.linux["devices"] = [listed(path)]
    assert box.run("/bin/stat", "-c", "%t:%T %a", "/dev/node").ok().out == "a:e5 666\n"


def test_what_is_mounted_over_a_standard_device_stays(box: Box) -> None:
    """The mounts of the configuration come first, and are meant."""
    source = box.directory / "source"
    source.write_text("mine\n")
    box.mount("/dev/zero", "bind", source, "bind")
    assert box.run("/bin/cat", "/dev/zero").ok().out == "mine\n"


@pytest.mark.deviates("runc", "1.1 leaves what the image has")
@pytest.mark.deviates("crun", "1.8 leaves what the image has")
def test_a_file_of_the_image_is_no_standard_device(box: Box) -> None:
    """Images are built with such files in /dev."""
    (box.rootfs / "dev" / "zero").touch()
    box.config["mounts"] = [each for each in box.config["mounts"] if not each["destination"].startswith("/dev")]
    assert box.sh("head -c 3 /dev/zero | wc -c").ok().out == "3\n"


def test_ptmx_is_the_containers(box: Box) -> None:
    """Whatever the image has there, and whatever is listed."""
    box.linux["devices"] = [{"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}]
    assert box.run("/bin/stat", "-L", "-c", "%t:%T", "/dev/ptmx").ok().out == "5:2\n"


@pytest.mark.deviates("crun", "1.8 makes nodes of devices alone")
def test_without_the_right_to_make_nodes(box: Box) -> None:
    """A runtime without CAP_MKNOD binds the host's, as in a user namespace."""
    prefix = ("setpriv", "--bounding-set=-mknod", "--inh-caps=-mknod")
    for kind in box.process["capabilities"].values():
        kind.remove("CAP_MKNOD")
    box.linux["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]
    done = box.sh("[ -c /dev/null ] && [ -c /dev/kmsg ] && head -c 2 /dev/zero | wc -c", prefix=prefix)
    assert done.ok().lines == ["2"]


@pytest.mark.deviates("crun", "1.8 gives them away")
@pytest.mark.deviates("runc", "gives them away")
@pytest.mark.parametrize("kind", ["file", "fifo"])
def test_a_standard_stream_of_the_host_keeps_its_owner(box: Box, kind: str) -> None:
    """A file, a terminal, a FIFO with a name: it is the caller's, and stays so when the container has ended."""
    path = box.directory / "stream"
    path.touch() if kind == "file" else os.mkfifo(path)
    box.process["user"] = {"uid": 1000, "gid": 1000}
    stream = os.open(path, os.O_RDWR)
    try:
        box.run("/bin/true", stderr=stream).ok()
    finally:
        os.close(stream)
    assert path.stat().st_uid == 0


def test_a_pipe_is_given_to_the_containers_user(box: Box) -> None:
    """So that it can open /dev/stderr, as a web server does for its log."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    reader, writer = os.pipe()
    try:
        box.sh("echo logged > /dev/stderr", stderr=writer).ok()
        assert os.read(reader, 100) == b"logged\n"
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.deviates("runc", "1.1 makes them in the host's directory")
@pytest.mark.deviates("crun", "1.8 makes them in the host's directory")
@pytest.mark.parametrize(("link", "to"), [("dev", "data"), ("data", "dev"), ("data", "/dev/")])
@pytest.mark.parametrize("own", [False, True], ids=["rootfs", "tmpfs"])
@pytest.mark.parametrize("listed", [False, True], ids=["", "listed"])
def test_nothing_is_made_in_what_a_link_leads_to(box: Box, link: str, to: str, *, own: bool, listed: bool) -> None:
    """An image may say that /dev is where a directory of the host is mounted, or the other way round."""
    given = box.directory / "given"
    given.mkdir()
    (given / "ptmx").write_text("the host's")
    (box.rootfs / link).rmdir() if link == "dev" else None
    (box.rootfs / link).symlink_to(to)
    (box.rootfs / "data").mkdir(exist_ok=True)
    if not own:
        box.config["mounts"] = [each for each in box.config["mounts"] if not each["destination"].startswith("/dev")]
    box.mount("/data", "bind", given, "rbind")
    if listed:
        box.linux.setdefault("devices", []).append({"path": "/dev/more", "type": "c", "major": 1, "minor": 3})
    # The masks of files may lack their null device then.
    box.linux["maskedPaths"] = []
    box.run("/bin/true").ok()
    assert {path.name for path in given.iterdir()} == {"ptmx"}
    assert (given / "ptmx").read_text() == "the host's"


@pytest.mark.deviates("runc", "1.1 needs these two itself, and the host's devices", only=["null", "ptmx", "userns-"])
@pytest.mark.deviates("crun", "1.8 needs these two itself, and the host's devices", only=["null", "ptmx", "userns-"])
@pytest.mark.parametrize("place", ["/dev/null", "/dev/fd", "/dev/stdin", "/dev/ptmx", "/dev/mine", "/dev/core/deep"])
@pytest.mark.parametrize("folder", [False, True], ids=["file", "directory"])
@pytest.mark.parametrize("userns", [False, True], ids=["", "userns"])
def test_what_the_configuration_mounts_in_dev_is_there(box: Box, place: str, *, folder: bool, userns: bool) -> None:
    """Beside the standard devices and links, or in place of one."""
    if userns:
        config.with_user_namespace(box.config)
        for path in (box.rootfs, *box.rootfs.rglob("*")):
            os.chown(path, 100_000, 100_000, follow_symlinks=False)
    source = box.directory / "source"
    source.mkdir() if folder else source.touch()
    box.mount(place, "bind", source, "bind")
    box.linux["maskedPaths"] = []
    if place != "/dev/mine":
        box.linux["devices"] = [{"path": "/dev/mine", "type": "c", "major": 1, "minor": 3}]
    done = box.sh(f"grep -c ' {place} ' /proc/self/mountinfo; ls -d /dev/zero /dev/stdout /dev/stderr")
    assert done.ok().lines == ["1", "/dev/stderr", "/dev/stdout", "/dev/zero"]
