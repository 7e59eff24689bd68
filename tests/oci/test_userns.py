"""User namespaces: who is who, inside and outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.oci import config
from tests.oci.harness import Box
from tests.oci.rootless import USER

FIRST = 100_000


@pytest.fixture
def mapped(box: Box) -> Box:
    """The bundle with 65536 ids mapped, its root filesystem owned by them."""
    config.with_user_namespace(box.config, first=FIRST)
    for path in (box.rootfs, *box.rootfs.rglob("*")):
        os.chown(path, FIRST, FIRST, follow_symlinks=False)
    return box


def test_root_inside_is_nobody_outside(mapped: Box) -> None:
    mapped.live()
    pid = mapped.state()["pid"]
    assert f"\nUid:\t{FIRST}\t" in Path(f"/proc/{pid}/status").read_text()
    done = mapped.exec("/bin/sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map").ok()
    assert done.lines[:2] == ["0", "0"]
    assert [line.split() for line in done.lines[2:]] == [["0", str(FIRST), "65536"]] * 2
    assert Path(f"/proc/{pid}/ns/user").readlink() != Path("/proc/self/ns/user").readlink()


def test_files_are_made_as_the_mapped_user(mapped: Box) -> None:
    mapped.process["user"] = {"uid": 5, "gid": 6}
    mapped.run("/bin/touch", "/tmp/made").ok()
    status = (mapped.rootfs / "tmp" / "made").stat()
    assert (status.st_uid, status.st_gid) == (FIRST + 5, FIRST + 6)


def test_capabilities_hold_inside_alone(mapped: Box) -> None:
    """CAP_SYS_TIME in a user namespace sets no clock."""
    mapped.process["capabilities"] = config.capabilities("CAP_SYS_TIME", "CAP_SYS_ADMIN", "CAP_CHOWN")
    done = mapped.sh(
        "grep CapEff /proc/self/status; inside call settimeofday acct swapon; mount -t tmpfs x /tmp && echo ok"
    )
    assert done.lines[0].endswith(f"{1 << 25 | 1 << 21 | 1:016x}")
    assert "settimeofday EPERM" in done.lines
    assert "acct EPERM" in done.lines
    assert "swapon EPERM" in done.lines
    assert done.lines[-1] == "ok"


def test_standard_devices_work(mapped: Box) -> None:
    """mknod is not allowed in a user namespace: they are the host's, bound."""
    script = (
        "for d in null zero full random urandom tty; do [ -c /dev/$d ] && echo $d; done; head -c 3 /dev/zero | wc -c"
    )
    assert mapped.sh(script).ok().lines == ["null", "zero", "full", "random", "urandom", "tty", "3"]


def test_every_standard_mount_is_there(mapped: Box) -> None:
    lines = mapped.run("/bin/cat", "/proc/self/mountinfo").ok().lines
    targets = {line.split(" ")[4] for line in lines}
    assert {"/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"} <= targets


def test_masks_and_limits_hold(mapped: Box) -> None:
    mapped.resources["pids"] = {"limit": 50}
    done = mapped.sh("cat /proc/keys /proc/timer_list | wc -c; echo x > /proc/sys/kernel/hostname")
    assert done.lines == ["0"]
    assert done.err.strip()


@pytest.mark.deviates("runc", "1.1 has no mapped mounts")
def test_mapped_mount(mapped: Box) -> None:
    """mount_setattr(2): files of the host's root are root's inside, and stay so outside."""
    outside = mapped.directory / "outside"
    outside.mkdir(mode=0o700)
    (outside / "file").write_text("root's\n")
    mapped.mount("/plain", "bind", outside, "bind")
    mapped.mount("/mapped", "bind", outside, "bind", "idmap")
    mapped.config["mounts"][-1] |= {
        "uidMappings": [{"containerID": 0, "hostID": FIRST, "size": 65536}],
        "gidMappings": [{"containerID": 0, "hostID": FIRST, "size": 65536}],
    }
    done = mapped.sh("stat -c %u /plain /mapped /mapped/file; touch /mapped/made && cat /mapped/file").ok()
    assert done.lines == ["65534", "0", "0", "root's"]
    assert (outside / "made").stat().st_uid == 0


def test_two_ranges(mapped: Box) -> None:
    mapped.linux["uidMappings"] = [
        {"containerID": 0, "hostID": FIRST, "size": 1000},
        {"containerID": 1000, "hostID": USER, "size": 1},
    ]
    mapped.process["user"] = {"uid": 1000, "gid": 0}
    mapped.run("/bin/touch", "/tmp/made").ok()
    assert (mapped.rootfs / "tmp" / "made").stat().st_uid == USER


def test_additional_groups(mapped: Box) -> None:
    mapped.process["user"] = {"uid": 1, "gid": 2, "additionalGids": [10, 20]}
    groups = mapped.run("/bin/grep", "Groups", "/proc/self/status").ok().out.split()[1:]
    assert set(groups) - {"2"} == {"10", "20"}


@pytest.mark.parametrize(
    "mappings",
    [
        [],
        [{"containerID": 0, "hostID": FIRST, "size": 0}],
        [{"containerID": 0, "hostID": FIRST, "size": 10}, {"containerID": 5, "hostID": USER, "size": 10}],
    ],
    ids=["none", "empty", "overlapping"],
)
@pytest.mark.deviates("crun", "1.8 leaves its cgroups", only=["none"])
def test_mappings_that_cannot_be_are_refused(mapped: Box, mappings: list[dict[str, int]]) -> None:
    mapped.linux["uidMappings"] = mapped.linux["gidMappings"] = mappings
    done = mapped.run("/bin/true")
    assert done.status != 0
    if mapped.runtime.ours:
        done.refused()


def test_exec_joins_it(mapped: Box) -> None:
    mapped.live()
    done = mapped.exec("/bin/sh", "-c", "id -u; readlink /proc/self/ns/user").ok()
    assert done.lines == ["0", os.fspath(Path(f"/proc/{mapped.state()['pid']}/ns/user").readlink())]
