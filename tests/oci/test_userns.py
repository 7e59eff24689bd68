"""User namespaces: who is who, inside and outside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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
        [{"containerID": 0, "hostID": FIRST, "size": 0}],
        [{"containerID": 0, "hostID": FIRST, "size": 10}, {"containerID": 5, "hostID": USER, "size": 10}],
    ],
    ids=["empty", "overlapping"],
)
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


@pytest.mark.deviates("runc", "refuses it")
@pytest.mark.deviates("crun", "1.8 maps all that /etc/subuid gives")
def test_no_mappings_map_the_caller(box: Box) -> None:
    box.linux["namespaces"].append({"type": "user"})
    done = box.sh("id -u; cat /proc/self/uid_map; touch /tmp/made").ok()
    assert [done.lines[0], done.lines[1].split()] == ["0", ["0", "0", "1"]]
    assert (box.rootfs / "tmp" / "made").stat().st_uid == 0


# -- what the kernel lets nobody do in a user namespace: another way is found, as the peers do, and said


def logged(box: Box) -> str:
    """The log of another run."""
    log = box.directory / "log"
    box.call("--log", str(log), "run", "--bundle", str(box.bundle), box.name).ok()
    return log.read_text()


@pytest.mark.deviates("runc", "1.1 does not find another way")
@pytest.mark.deviates("crun", "1.8 leaves what is below writable")
def test_sysfs_on_the_hosts_network(mapped: Box) -> None:
    """Only who owns the network namespace may mount sysfs: it is the host's, read-only to the bottom."""
    mapped.without("network")
    done = mapped.sh("ls /sys/class/net; grep ' /sys' /proc/self/mountinfo | cut -d' ' -f5,6").ok()
    assert set(os.listdir("/sys/class/net")) <= set(done.lines)
    lines = [line.split() for line in done.lines if line.startswith("/sys")]
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(lines[0][1].split(","))
    if mapped.runtime.ours:
        assert all("ro" in options.split(",") for _, options in lines)
        assert logged(mapped).count("/sys is bound instead") == 1


@pytest.mark.deviates("runc", "1.1 does not find another way")
@pytest.mark.deviates("crun", "1.8 does not find another way")
def test_proc_of_the_hosts_processes(mapped: Box) -> None:
    mapped.without("pid")
    mapped.linux["maskedPaths"] = mapped.linux["readonlyPaths"] = []
    assert mapped.sh("[ -d /proc/1 ] && echo $$").ok().out.strip().isdigit()


@pytest.mark.deviates("runc", "1.1 does not find another way")
@pytest.mark.deviates("crun", "1.8 does not find another way")
def test_message_queues_of_the_host(mapped: Box) -> None:
    """Where the host shows its own, they are bound; elsewhere it is said that they are missing."""
    mapped.without("ipc")
    done = mapped.run("/bin/true")
    if Path("/dev/mqueue").is_dir():
        done.ok()
    else:
        assert "/dev/mqueue" in done.refused().err
        if mapped.runtime.ours:
            assert "not permitted" in done.err


@pytest.mark.deviates("runc", "1.1 does not find another way")
@pytest.mark.deviates("crun", "1.8 does not find another way")
@pytest.mark.parametrize("kind", ["devpts", "tmpfs"])
def test_owners_that_are_not_mapped(box: Box, kind: str) -> None:
    """A container with one user has no group 5 for its terminals."""
    box.linux["namespaces"].append({"type": "user"})
    one = [{"containerID": 0, "hostID": 0, "size": 1}]
    box.linux["uidMappings"] = box.linux["gidMappings"] = one
    if kind == "tmpfs":
        box.config["mounts"][2]["options"].remove("gid=5")
        box.mount("/target", "tmpfs", "tmpfs", "uid=7", "gid=0", "mode=700")
        assert box.run("/bin/stat", "-c", "%u:%g %a", "/target").ok().out == "0:0 700\n"
    else:
        assert box.run("/bin/stat", "-c", "%a", "/dev/pts").ok().out == "755\n"
    if box.runtime.ours:
        assert logged(box).count("not mapped") == 1


def test_a_fifo_is_made(mapped: Box) -> None:
    """Anybody may make one; the host's is another."""
    mapped.linux["devices"] = [{"path": "/dev/made", "type": "p", "fileMode": 0o640, "uid": 3, "gid": 4}]
    done = mapped.run("/bin/stat", "-c", "%F %a %u:%g", "/dev/made")
    if mapped.runtime.ours:
        assert done.ok().out == "fifo 640 3:4\n"


@pytest.mark.deviates("runc", "1.1 binds the host's, which there must be")
@pytest.mark.deviates("crun", "1.8 binds the host's, if there is one")
@pytest.mark.parametrize("path", ["/dev/nothing-like-this", "/dev/zero", "/deep/node"])
def test_a_device_that_the_host_has_otherwise(mapped: Box, path: str) -> None:
    """It is made outside, with its owner and mode, and can be opened."""
    mapped.linux["devices"] = [
        {"path": path, "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/block", "type": "b", "major": 7, "minor": 200},
    ]
    done = mapped.sh(f"stat -c '%t:%T %a %u:%g %F' {path} /dev/block; echo x > {path} && wc -c < {path}").ok()
    assert done.lines == ["1:3 640 3:4 character special file", "7:c8 666 0:0 block special file", "0"]


@pytest.mark.deviates("crun", "1.8 leaves its cgroups")
def test_a_device_that_nobody_can_make_is_refused(mapped: Box) -> None:
    """A runtime without CAP_MKNOD has the host's alone, and here is none."""
    mapped.linux["devices"] = [{"path": "/dev/nothing-like-this", "type": "c", "major": 1, "minor": 3}]
    prefix = ("setpriv", "--bounding-set=-mknod", "--inh-caps=-mknod")
    for kind in mapped.process["capabilities"].values():
        kind.remove("CAP_MKNOD")
    done = mapped.run("/bin/true", prefix=prefix).refused()
    assert "/dev/nothing-like-this" in done.err or not mapped.runtime.ours


@pytest.mark.deviates("runc", "1.1 binds with all rights")
def test_bound_devices_have_no_rights_that_devices_do_not_need(mapped: Box) -> None:
    lines = mapped.run("/bin/cat", "/proc/self/mountinfo").ok().lines
    found = {line.split(" ")[4]: line.split(" ")[5].split(",") for line in lines}
    assert {"nosuid", "noexec"} <= set(found["/dev/null"])


# -- a user namespace that exists


@contextmanager
def namespace(first: int) -> Iterator[str]:
    """The path of a user namespace whose ids start at *first*."""
    with subprocess.Popen(
        ["unshare", "--user", "sh", "-c", "echo there; exec sleep 1000"], stdout=subprocess.PIPE
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == b"there\n"
            for which in ("uid", "gid"):
                Path(f"/proc/{child.pid}/{which}_map").write_text(f"{first} {FIRST} 1000\n")
            yield f"/proc/{child.pid}/ns/user"
        finally:
            child.kill()


@pytest.mark.parametrize("first", [0, 1, 500])
@pytest.mark.deviates("runc", "1.1 wants mappings, too")
@pytest.mark.deviates("crun", "1.8 is user 0 while it sets up")
def test_joined_by_path(mapped: Box, first: int) -> None:
    """Who sets up is the first user that there is; `exec` too."""
    with namespace(first) as path:
        mapped.linux["namespaces"][-1]["path"] = path
        del mapped.linux["uidMappings"], mapped.linux["gidMappings"]
        mapped.process["user"] = {"uid": first + 1, "gid": first + 2}
        mapped.process["capabilities"] = {}
        mapped.live("id -u; id -g; touch /tmp/made")
        assert (mapped.rootfs / "tmp" / "made").stat().st_uid == FIRST + 1
        done = mapped.exec("/bin/sh", "-c", "id -u; id -g; readlink /proc/self/ns/user").ok()
        assert done.lines == [str(first + 1), str(first + 2), os.fspath(Path(path).readlink())]


@pytest.mark.deviates("runc", "1.1 has no mapped mounts")
@pytest.mark.deviates("crun", "1.8 takes no namespace by path", only=["idmap"])
def test_idmap_by_a_joined_namespace(mapped: Box) -> None:
    source = mapped.directory / "source"
    source.mkdir()
    with namespace(0) as path:
        mapped.linux["namespaces"][-1]["path"] = path
        del mapped.linux["uidMappings"], mapped.linux["gidMappings"]
        mapped.mount("/target", "bind", source, "bind", "idmap")
        assert mapped.run("/bin/stat", "-c", "%u:%g", "/target").ok().out == "0:0\n"
