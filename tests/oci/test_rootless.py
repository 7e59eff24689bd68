"""A runtime that is not root itself: an ordinary user's containers, with the user's own id and with more."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oci import rootless as ordinary
from tests.oci.harness import Box
from tests.oci.rootless import USER
from tests.oci.test_mounts import mountinfo, options

#: Further ids that the user is granted in these tests, as in /etc/subuid.
GRANTS = ("200000:1000", "300000:50")


@pytest.fixture
def rootless(box: Box) -> Box:
    return ordinary.belongs(box)


def test_run(rootless: Box) -> None:
    done = rootless.sh("id -u; cat /proc/self/uid_map; hostname; readlink /proc/self/ns/net; touch /made").ok()
    assert done.lines[0] == "0"
    assert done.lines[1].split() == ["0", str(USER), "1"]
    assert done.lines[2] == "inside"
    assert done.lines[3] != os.fspath(Path("/proc/self/ns/net").readlink())
    assert (rootless.rootfs / "made").stat().st_uid == USER


def test_is_no_root_outside(rootless: Box) -> None:
    rootless.mount("/host-etc", "bind", "/etc", "rbind")
    done = rootless.sh("cat /host-etc/shadow; echo x > /host-etc/tare-made; inside call settimeofday")
    assert "settimeofday EPERM" in done.out
    assert done.err.count("Permission denied") == 2
    assert not Path("/etc/tare-made").exists()


def test_lifecycle(rootless: Box) -> None:
    rootless.live("trap 'exit 0' TERM")
    assert rootless.status() == "running"
    assert rootless.exec("/bin/echo", "more").ok().out == "more\n"
    rootless.kill().ok()
    rootless.until_stopped()
    rootless.delete().ok()


def test_limits_are_refused_or_in_force(rootless: Box) -> None:
    """A limit that cannot be set is said, never dropped in silence; ours refuses."""
    rootless.linux["resources"] = {"pids": {"limit": 5}}
    done = rootless.sh("i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i+1)); done")
    if rootless.runtime.ours:
        assert "resources" in done.refused().err or "cgroup" in done.err


def test_a_path_for_a_cgroup_alone_is_what_is_refused(rootless: Box) -> None:
    """Not limits that nobody asked for."""
    rootless.linux["cgroupsPath"] = f"/{rootless.name}"
    rootless.linux["resources"] = {}
    done = rootless.run("/bin/true")
    if rootless.runtime.ours:
        assert "linux.cgroupsPath: cannot be in force" in done.refused().err


def test_with_another_users_id_is_refused(rootless: Box) -> None:
    """Without newuidmap's leave nobody maps but himself."""
    rootless.linux["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
    done = rootless.run("/bin/true")
    assert done.status != 0


# ---- with more ids than one ------------------------------------------------------------------------------------------


def mapped(box: Box, *ranges: tuple[int, int, int], kinds: tuple[str, ...] = ("uidMappings", "gidMappings")) -> None:
    """Add *ranges*, (inside, outside, size), to the user's own id."""
    for kind in kinds:
        box.linux[kind] += [{"containerID": inside, "hostID": host, "size": size} for inside, host, size in ranges]


@pytest.fixture
def granted(rootless: Box) -> tuple[str, ...]:
    """The command that makes another the user's, who has GRANTS."""
    rootless.uid = None  # the command changes to it
    return ordinary.granted(rootless.directory, GRANTS)


def test_subordinate_ids(rootless: Box, granted: tuple[str, ...]) -> None:
    """newuidmap and newgidmap give what /etc/subuid and /etc/subgid grant."""
    mapped(rootless, (1, 200000, 1000))
    done = rootless.sh("touch /made && chown 5:6 /made && stat -c %u:%g /made", prefix=granted)
    assert done.ok().lines == ["5:6"]
    status = (rootless.rootfs / "made").stat()
    assert (status.st_uid, status.st_gid) == (200004, 200005)


def test_several_ranges(rootless: Box, granted: tuple[str, ...]) -> None:
    """Each id is the one that the table says, in a file's owner and in a process; those between do not exist."""
    mapped(rootless, (1, 200000, 10), (100, 200500, 20), (1000, 300000, 50))
    script = """
        cat /proc/self/uid_map /proc/self/gid_map
        for id in 0 1 10 100 119 1000 1049; do touch /made-$id && chown $id:$id /made-$id || exit 1; done
        for id in 11 99 120 999 1050; do chown $id /made-0 && exit 2; chown :$id /made-0 && exit 3; done; exit 0
    """
    done = rootless.sh(script, prefix=granted).ok()
    table = [["0", str(USER), "1"], ["1", "200000", "10"], ["100", "200500", "20"], ["1000", "300000", "50"]]
    assert [line.split() for line in done.lines] == table * 2
    outside = {0: USER, 1: 200000, 10: 200009, 100: 200500, 119: 200519, 1000: 300000, 1049: 300049}
    for inside, host in outside.items():
        status = (rootless.rootfs / f"made-{inside}").stat()
        assert (status.st_uid, status.st_gid) == (host, host)


def test_users_and_groups_differ(rootless: Box, granted: tuple[str, ...]) -> None:
    mapped(rootless, (1, 200000, 5), kinds=("uidMappings",))
    mapped(rootless, (7, 300000, 5), kinds=("gidMappings",))
    rootless.sh("touch /made && chown 2:8 /made", prefix=granted).ok()
    status = (rootless.rootfs / "made").stat()
    assert (status.st_uid, status.st_gid) == (200001, 300001)


@pytest.mark.deviates("runc", "1.1 refuses additional groups of an ordinary user's containers")
def test_the_program_is_another_of_the_users(rootless: Box, granted: tuple[str, ...]) -> None:
    """As a subordinate id with further groups, from its first process to its end by a runtime with one id alone."""
    mapped(rootless, (1, 200000, 1000))
    (rootless.rootfs / "tmp").chmod(0o1777)
    rootless.process["user"] = {"uid": 7, "gid": 8, "additionalGids": [20, 30]}
    script = "touch /tmp/made; id -u; id -g; grep Groups /proc/self/status"
    made = rootless.create("/bin/sh", "-c", f"{script}; echo up; exec sleep 1000", prefix=granted)
    rootless.uid = USER
    rootless.call("start", rootless.name).ok()
    lines = made.until("up").splitlines()
    assert lines[:2] == ["7", "8"]
    assert set(lines[2].split()[1:]) - {"8"} == {"20", "30"}
    status = (rootless.rootfs / "tmp" / "made").stat()
    assert (status.st_uid, status.st_gid) == (200006, 200007)
    pid = rootless.state()["pid"]
    assert "\nUid:\t200006\t" in Path(f"/proc/{pid}/status").read_text()
    done = rootless.exec("/bin/sh", "-c", "id -u; cat /proc/self/uid_map", options=("--user", "9")).ok()
    assert done.lines[0] == "9"
    assert len(done.lines) == 3
    rootless.kill().ok()
    rootless.until_stopped()
    rootless.delete().ok()


REFUSED = {
    "another user's": (1, 400000, 10),
    "one more than granted": (1, 200000, 1001),
    "begins before it": (1, 199999, 10),
    "over two grants": (1, 200990, 99061),
    "root": (1, 0, 1),
    "the next user": (1, USER + 1, 1),
}


@pytest.mark.parametrize("wrong", REFUSED.values(), ids=list(REFUSED))
@pytest.mark.parametrize("kind", ["uidMappings", "gidMappings"])
def test_ids_of_others_are_refused(
    rootless: Box, granted: tuple[str, ...], kind: str, wrong: tuple[int, int, int]
) -> None:
    """With the name of the program that refuses and the range; nothing is left, as the fixture sees."""
    mapped(rootless, wrong, kinds=(kind,))
    done = rootless.sh("touch /made", prefix=granted)
    assert done.status != 0
    assert not (rootless.rootfs / "made").exists()
    if rootless.runtime.ours:
        said = done.refused().err
        assert f"new{kind[0]}idmap" in said
        assert str(wrong[1]) in said


def test_a_user_without_a_grant_is_refused(rootless: Box) -> None:
    rootless.uid = None
    nothing = ordinary.granted(rootless.directory, ())
    mapped(rootless, (1, 200000, 10))
    done = rootless.run("/bin/true", prefix=nothing)
    assert done.status != 0
    if rootless.runtime.ours:
        assert "newgidmap" in done.refused().err


def test_users_without_groups_are_refused(rootless: Box) -> None:
    """A grant of users is none of groups."""
    rootless.uid = None
    users = ordinary.granted(rootless.directory, GRANTS, ())
    mapped(rootless, (1, 200000, 10))
    done = rootless.run("/bin/true", prefix=users)
    assert done.status != 0
    if rootless.runtime.ours:
        assert "newgidmap" in done.refused().err


def test_without_the_programs_it_says_what_to_install(rootless: Box, granted: tuple[str, ...]) -> None:
    mapped(rootless, (1, 200000, 10))
    programs = rootless.directory / "empty"
    programs.mkdir()
    rootless.save()
    words = ("run", "--bundle", os.fspath(rootless.bundle), rootless.name)
    done = rootless.call(*words, prefix=(*granted, "env", f"PATH={programs}"))
    assert done.status != 0
    if rootless.runtime.ours:
        assert "uidmap" in done.refused().err


@pytest.fixture
def locked(rootless: Box) -> Iterator[Path]:
    """A mount of the host's that the user's namespaces may not make weaker."""
    source = rootless.directory / "locked"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,nosuid,nodev,noexec,mode=755", "tmpfs", source], check=True)
    yield source
    subprocess.run(["umount", source], check=True)


@pytest.mark.deviates("runc", "1.1 does not look what is locked below", only=["rrw", "rexec"])
@pytest.mark.deviates("crun", "1.8 asks the kernel for what it refuses")
@pytest.mark.parametrize("word", ["rw", "dev", "suid", "exec", "rrw", "rexec"])
def test_what_is_locked_stays(rootless: Box, locked: Path, word: str) -> None:
    rootless.mount("/target", "bind", locked, "rbind", word)
    assert {"ro", "nosuid", "nodev", "noexec"} <= options(mountinfo(rootless), "/target")
    if rootless.runtime.ours:
        log = rootless.directory / "log"
        rootless.call("--log", str(log), "run", "--bundle", str(rootless.bundle), rootless.name).ok()
        assert log.read_text().count("locked in this user namespace") == 1


@pytest.mark.deviates("runc", "1.1 asks the kernel for what it refuses")
@pytest.mark.deviates("crun", "1.8 asks the kernel for what it refuses")
def test_what_is_locked_stays_when_mounted_anew(rootless: Box, locked: Path) -> None:
    rootless.mount("/target", "bind", locked, "rbind")
    rootless.mount("/target", "bind", locked, "remount", "bind", "rw", "suid")
    assert {"ro", "nosuid"} <= options(mountinfo(rootless), "/target")


@pytest.mark.parametrize("word", ["rshared", "shared", "rslave", "rprivate"])
def test_binds_propagate_as_far_as_they_may(rootless: Box, word: str) -> None:
    """An ordinary user's mounts never reach the host."""
    source = rootless.directory / "source"
    source.mkdir()
    rootless.mount("/target", "bind", source, "rbind", word)
    options(mountinfo(rootless), "/target")


@pytest.mark.deviates("crun", "1.8 does not find its cgroups")
@pytest.mark.deviates("runc", "1.1 cannot join the mount namespace of its parent", only=["True--Ur]"])
@pytest.mark.parametrize("unshare", ["-Ur", "-Urm"])
@pytest.mark.parametrize("nested", [False, True])
def test_root_of_a_user_namespace(box: Box, unshare: str, *, nested: bool) -> None:
    """It may not open mounts of the namespace that it has from its parent: the first process does, in its own."""
    source = box.directory / "source"
    source.mkdir()
    box.mount("/target", "bind", source, "rbind", "rshared")
    if nested:
        box.linux["namespaces"].append({"type": "user"})
        box.linux["uidMappings"] = box.linux["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
    box.linux.pop("resources")
    box.linux.pop("cgroupsPath")
    for mount in box.config["mounts"]:
        mount["options"] = [word for word in mount["options"] if not word.startswith("gid=")]
    done = box.sh("grep -c ' /target ' /proc/self/mountinfo; touch /target/made", prefix=("unshare", unshare))
    assert done.ok().lines == ["1"]
    assert (source / "made").exists()
