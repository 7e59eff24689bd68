"""User namespaces: who is who, inside and outside; and a runtime that is not root itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import require
from tests.oci import config
from tests.oci.harness import OURS, Box, Runtime

FIRST = 100_000
PACKAGE = Path(__file__).parents[2] / "runners" / "container"
#: Any user: it need not be in /etc/passwd.
USER = 61234


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


# ---- not root --------------------------------------------------------------------------------------------------------


def readable(box: Box) -> Runtime:
    """A copy of ours that an ordinary user may run: a checkout and its environment are often root's alone."""
    shutil.copytree(PACKAGE, box.directory / "program" / "container", ignore=shutil.ignore_patterns("__pycache__"))
    for python in (sys.executable, "/usr/bin/python3"):
        check = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        with suppress(OSError):
            if subprocess.run(check, user=USER, group=USER, capture_output=True, check=False).returncode == 0:
                break
    else:
        pytest.skip("no Python 3.11 that an ordinary user may run: apt-get install python3")
    program = box.directory / "program" / OURS
    program.write_text(f'#!/bin/sh\nexec {python} -I -S "${{0%/*}}/container/__main__.py" "$@"\n')
    program.chmod(0o755)
    return Runtime(name=OURS, binary=os.fspath(program))


@pytest.fixture
def rootless(box: Box) -> Box:
    """A bundle that belongs to an ordinary user, who calls the runtime; one id is mapped: the user's own."""
    require("userns", Path("/proc/sys/user/max_user_namespaces").read_text() != "0\n", "user.max_user_namespaces is 0")
    if box.runtime.ours:
        box.runtime = readable(box)
    box.linux["namespaces"].append({"type": "user"})
    box.linux["uidMappings"] = [{"containerID": 0, "hostID": USER, "size": 1}]
    box.linux["gidMappings"] = [{"containerID": 0, "hostID": USER, "size": 1}]
    box.linux.pop("resources")
    box.linux.pop("cgroupsPath")
    for mount in box.config["mounts"]:
        mount["options"] = [word for word in mount["options"] if not word.startswith("gid=")]
    box.uid = USER
    runtime_directory = box.directory / "run"
    runtime_directory.mkdir(mode=0o700)
    box.environment |= {"XDG_RUNTIME_DIR": os.fspath(runtime_directory), "HOME": os.fspath(box.directory)}
    for path in (box.directory, *box.directory.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
    return box


def test_rootless_run(rootless: Box) -> None:
    done = rootless.sh("id -u; cat /proc/self/uid_map; hostname; readlink /proc/self/ns/net; touch /made").ok()
    assert done.lines[0] == "0"
    assert done.lines[1].split() == ["0", str(USER), "1"]
    assert done.lines[2] == "inside"
    assert done.lines[3] != os.fspath(Path("/proc/self/ns/net").readlink())
    assert (rootless.rootfs / "made").stat().st_uid == USER


def test_rootless_is_no_root_outside(rootless: Box) -> None:
    rootless.mount("/host-etc", "bind", "/etc", "rbind")
    done = rootless.sh("cat /host-etc/shadow; echo x > /host-etc/tare-made; inside call settimeofday")
    assert "settimeofday EPERM" in done.out
    assert done.err.count("Permission denied") == 2
    assert not Path("/etc/tare-made").exists()


def test_rootless_lifecycle(rootless: Box) -> None:
    rootless.live("trap 'exit 0' TERM")
    assert rootless.status() == "running"
    assert rootless.exec("/bin/echo", "more").ok().out == "more\n"
    rootless.kill().ok()
    rootless.until_stopped()
    rootless.delete().ok()


def test_rootless_limits_are_refused_or_in_force(rootless: Box) -> None:
    """A limit that cannot be set is said, never dropped in silence; ours refuses."""
    rootless.linux["resources"] = {"pids": {"limit": 5}}
    done = rootless.sh("i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i+1)); done")
    if rootless.runtime.ours:
        assert "resources" in done.refused().err or "cgroup" in done.err


def test_rootless_with_another_users_id_is_refused(rootless: Box) -> None:
    """Without newuidmap's leave nobody maps but himself."""
    rootless.linux["uidMappings"] = [{"containerID": 0, "hostID": 0, "size": 1}]
    done = rootless.run("/bin/true")
    assert done.status != 0


def test_rootless_with_subordinate_ids(rootless: Box) -> None:
    """newuidmap and newgidmap give what /etc/subuid and /etc/subgid grant; here in a private view of those files."""
    for program in ("newuidmap", "newgidmap"):
        require("userns", shutil.which(program), f"no {program} on PATH: install uidmap")
    grants = rootless.directory / "grants"
    grants.write_text("tare-user:200000:1000\n")
    users = rootless.directory / "passwd"
    users.write_text(f"root:x:0:0::/root:/bin/sh\ntare-user:x:{USER}:{USER}::/:/bin/sh\n")
    binds = (
        f"mount --bind {grants} /etc/subuid && mount --bind {grants} /etc/subgid && mount --bind {users} /etc/passwd"
    )
    switch = f"exec setpriv --reuid {USER} --regid {USER} --clear-groups"
    prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", f'{binds} && {switch} "$@"', "sh")
    for kind in ("uidMappings", "gidMappings"):
        rootless.linux[kind].append({"containerID": 1, "hostID": 200000, "size": 1000})
    rootless.uid = None
    script = "touch /made && chown 5:6 /made && stat -c %u:%g /made"
    done = rootless.sh(script, prefix=prefix)
    assert done.ok().lines == ["5:6"]
    status = (rootless.rootfs / "made").stat()
    assert (status.st_uid, status.st_gid) == (200004, 200005)
