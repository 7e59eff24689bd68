"""Mount namespaces that are not new: none, so the caller's; by path; and a new one entered without pivot_root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.oci.harness import READY, Box, Done
from tests.oci.test_namespaces import another

LOOK = "readlink /proc/self/ns/mnt; echo /*; ls /dev/null; cat /proc/1/comm; true"
#: All that a container's root directory has here.
ROOT = "/bin /dev /etc /proc /sys /tmp"


def mounts(box: Box) -> list[str]:
    """The mounts of this namespace; those of other tests come and go."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if "tare-" not in line or box.name in line]


def namespace(pid: int | str = "self") -> str:
    return os.fspath(Path(f"/proc/{pid}/ns/mnt").readlink())


def without(box: Box) -> Box:
    """*box* in the caller's mount namespace; runc masks nothing there."""
    box.without("mount")
    del box.linux["maskedPaths"], box.linux["readonlyPaths"]
    return box


@contextmanager
def joining(box: Box, pid: int, *, kind: str = "mount") -> Iterator[None]:
    box.without(kind)
    box.linux["namespaces"].append({"type": kind, "path": f"/proc/{pid}/ns/mnt"})
    yield


def apart(box: Box, script: str) -> Done:
    """Run *script* in a mount namespace where a peer, which may change its mounts, can do no harm."""
    return box.sh(script, prefix=("unshare", "--mount", "sh", "-c", 'readlink /proc/self/ns/mnt; exec "$@"', "sh"))


# -- none


def test_none_is_the_callers(box: Box) -> None:
    done = apart(without(box), LOOK).ok()
    assert done.lines == [done.lines[0], done.lines[0], ROOT, "/dev/null", "sh"]


def test_nothing_is_left_in_the_callers(our_box: Box) -> None:
    before = mounts(our_box)
    our_box.without("mount")
    our_box.mount("/tmp", "bind", "/etc", "rbind", "ro")
    our_box.config["root"]["readonly"] = True
    made = our_box.live("touch /new || touch /tmp/new || echo refused; wc -c < /proc/keys; readlink /proc/self/ns/mnt")
    assert made.out.split() == ["refused", "0", namespace(), *READY.split()]
    # The host sees them meanwhile, as was asked for.
    assert sum(str(our_box.rootfs) in line for line in mounts(our_box)) > 10
    our_box.call("delete", "--force", our_box.name).ok()
    assert mounts(our_box) == before
    assert "chroot" in made.err


def test_run_leaves_nothing_in_the_callers(our_box: Box) -> None:
    before = mounts(our_box)
    our_box.without("mount")
    our_box.run("/bin/true").ok()
    assert mounts(our_box) == before


def test_a_failure_leaves_nothing_in_the_callers(our_box: Box) -> None:
    before = mounts(our_box)
    our_box.without("mount")
    our_box.mount("/tmp", "bind", "/no/such/source", "bind")
    our_box.run("/bin/true").refused()
    our_box.config["mounts"].pop()
    our_box.run("/no/such/program").refused()
    assert mounts(our_box) == before


@pytest.mark.parametrize("path", ["/proc/self/ns/mnt", f"/proc/{os.getpid()}/ns/mnt"], ids=["self", "pid"])
def test_the_callers_by_path_is_as_none(our_box: Box, path: str) -> None:
    before = mounts(our_box)
    our_box.without("mount")
    our_box.linux["namespaces"].append({"type": "mount", "path": path})
    done = our_box.sh(LOOK).ok()
    assert done.lines == [namespace(), ROOT, "/dev/null", "sh"]
    assert mounts(our_box) == before


#: A host with shared mounts: a peer of its namespace, a root filesystem with a mount in it, a directory to be shared.
SHARED = """
set -e
mount -t tmpfs top "$1/host"; mount --make-shared "$1/host"
mkdir -p "$1/host/given/below"; mount -t tmpfs given "$1/host/given"; mkdir -p "$1/host/given/below"
mount -t tmpfs below "$1/host/given/below"
mkdir "$1/host/bundle"; mv "$1/bundle/rootfs" "$1/host/bundle/rootfs"
mkdir "$1/host/bundle/rootfs/more"; mount -t tmpfs more "$1/host/bundle/rootfs/more"
unshare --mount --propagation unchanged sh -c 'echo ready; exec sleep 1000' > "$1/peer" & peer=$!
until grep -q ready "$1/peer"; do sleep 0.05; done
look() { cat /proc/self/mountinfo; echo; cat /proc/$peer/mountinfo; }
look > "$1/before"
shift_to="$1"; shift
"$@" || failed=1
look > "$shift_to/after"
kill $peer
exit ${failed:-0}
"""


@pytest.mark.parametrize("word", ["rshared", "rslave", "rprivate"])
def test_no_other_namespace_and_no_mount_of_the_host_changes(our_box: Box, word: str) -> None:
    """A lazy unmount goes out to the peers of all that lies below."""
    (our_box.directory / "host").mkdir()
    our_box.without("mount")
    our_box.config["root"]["path"] = os.fspath(our_box.directory / "host/bundle/rootfs")
    our_box.mount("/given", "bind", our_box.directory / "host/given", "rbind", word)
    prefix = ("unshare", "--mount", "--propagation", "private", "sh", "-c", SHARED, "sh", str(our_box.directory))
    done = our_box.sh("grep -c ' /given' /proc/self/mountinfo; grep -c ' /more ' /proc/self/mountinfo", prefix=prefix)
    assert done.ok().lines == ["2", "1"]
    before, after = ((our_box.directory / name).read_text() for name in ("before", "after"))
    assert "/host/given/below" in before.split("\n\n")[1]
    assert after == before


def test_a_root_that_is_covered_is_not_unmounted(our_box: Box) -> None:
    before = mounts(our_box)
    our_box.without("mount")
    our_box.create("/bin/true")
    subprocess.run(["mount", "-t", "tmpfs", "cover", our_box.rootfs], check=True)
    try:
        assert f"something is mounted over {our_box.rootfs}" in our_box.delete().refused().err
    finally:
        subprocess.run(["umount", our_box.rootfs], check=True)
    our_box.delete().ok()
    assert mounts(our_box) == before


def test_what_somebody_has_unmounted_is_no_error(our_box: Box) -> None:
    before = mounts(our_box)
    our_box.without("mount")
    our_box.create("/bin/true")
    for _ in range(2):
        subprocess.run(["umount", "--lazy", our_box.rootfs], check=True)
    our_box.delete().ok()
    assert mounts(our_box) == before


@pytest.mark.parametrize("what", ["bundle", "rootfs", "all"])
def test_renamed_directories_are_unmounted_all_the_same(our_box: Box, what: str) -> None:
    """A mount goes with the directory above it; the place that the state has is another then."""
    before = mounts(our_box)
    our_box.without("mount")
    place = {"bundle": our_box.bundle, "rootfs": our_box.rootfs, "all": our_box.directory}[what]
    other = place.with_name(f"{place.name}-renamed")
    if what == "rootfs":  # which is a mount itself now: the directory above moves
        place, other = our_box.directory / "above", our_box.directory / "above-renamed"
        place.mkdir()
        our_box.rootfs.rename(place / "rootfs")
        our_box.config["root"]["path"] = os.fspath(place / "rootfs")
    our_box.live()
    place.rename(other)
    try:
        state = other / "state" if what == "all" else our_box.state_directory
        words = [our_box.runtime.binary, "--root", os.fspath(state), "delete", "--force", our_box.name]
        subprocess.run(words, check=True, timeout=20, env=our_box.environment)
        assert mounts(our_box) == before
    finally:
        other.rename(place)


def test_a_mount_that_has_got_the_number_meanwhile_stays(our_box: Box) -> None:
    our_box.without("mount")
    our_box.create("/bin/true")
    for _ in range(2):
        subprocess.run(["umount", "--lazy", our_box.rootfs], check=True)
    places = [our_box.directory / f"other{number}" for number in range(8)]
    try:
        for place in places:
            place.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
        our_box.delete().ok()
        assert all(place.is_mount() for place in places)
    finally:
        for place in places:
            subprocess.run(["umount", place], check=False)


def test_deleted_from_another_namespace_it_says_what_stays(our_box: Box) -> None:
    before = mounts(our_box)
    our_box.without("mount")
    our_box.create("/bin/true")
    done = our_box.call("delete", our_box.name, prefix=("unshare", "--mount")).ok()
    assert f"the mounts at {our_box.rootfs} are in another mount namespace ({namespace()})" in done.err
    for _ in range(2):
        subprocess.run(["umount", "--lazy", our_box.rootfs], check=True)
    assert mounts(our_box) == before


@pytest.mark.parametrize("what", ["user namespace", "root", "mount on /"])
def test_what_cannot_be_without_a_mount_namespace(our_box: Box, what: str) -> None:
    before = mounts(our_box)
    our_box.without("mount")
    if what == "user namespace":
        our_box.linux["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            our_box.linux[kind] = [{"containerID": 0, "hostID": 0, "size": 1}]
    elif what == "root":
        (our_box.directory / "link").symlink_to("/")
        our_box.config["root"]["path"] = os.fspath(our_box.directory / "link")
    else:
        our_box.mount("/", "tmpfs", "tmpfs")
    assert '{"type": "mount"}' in our_box.run("/bin/true").refused().err
    assert mounts(our_box) == before


# -- by path


def test_joined_by_path(box: Box) -> None:
    with another("--mount") as pid, joining(box, pid):
        done = box.sh(LOOK).ok()
        assert done.lines == [namespace(pid), ROOT, "/dev/null", "sh"]
        assert namespace(pid) != namespace()


@pytest.mark.deviates("runc", "1.1 wants mappings for one that is joined, too")
def test_joined_by_path_with_a_user_namespace(box: Box) -> None:
    """The mount namespace belongs to the user namespace: only who is in that may join it."""
    with another("--mount", "--user", "--map-root-user") as pid, joining(box, pid):
        box.linux["namespaces"].append({"type": "user", "path": f"/proc/{pid}/ns/user"})
        box.config["mounts"] = [each for each in box.config["mounts"] if each["type"] in ("proc", "tmpfs")]
        done = box.sh("readlink /proc/self/ns/mnt; readlink /proc/self/ns/user; echo /*").ok()
        assert done.lines == [namespace(pid), os.fspath(Path(f"/proc/{pid}/ns/user").readlink()), ROOT]


def test_the_host_is_as_before_by_path(our_box: Box) -> None:
    before = mounts(our_box)
    with another("--mount", "--propagation", "unchanged") as pid, joining(our_box, pid):
        our_box.linux["namespaces"].append({"type": "time"})
        our_box.linux["timeOffsets"] = {"boottime": {"secs": 100}, "monotonic": {"secs": 50}}
        our_box.sh("cut -d. -f1 /proc/uptime; wc -c < /proc/keys").ok()
    assert mounts(our_box) == before


def test_the_namespace_of_process_1_is_not_joined_from_another(our_box: Box) -> None:
    """pivot_root in it would take the root of the whole host away."""
    before = mounts(our_box)
    our_box.without("mount")
    our_box.linux["namespaces"].append({"type": "mount", "path": "/proc/1/ns/mnt"})
    inner = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", 'unshare --mount "$@"; exit $?', "sh")
    assert "process 1" in our_box.sh(LOOK, prefix=inner).refused().err
    assert mounts(our_box) == before


@pytest.mark.parametrize("path", ["/no/such/namespace", "/etc/passwd", "/proc/self/ns/net"])
def test_a_path_that_is_no_mount_namespace_is_refused(box: Box, path: str) -> None:
    box.without("mount")
    box.linux["namespaces"].append({"type": "mount", "path": path})
    done = box.run("/bin/true").refused()
    assert path in done.err or not box.runtime.ours


# -- --no-pivot


def test_no_pivot(box: Box) -> None:
    done = box.run("/bin/sh", "-c", f"{LOOK}; wc -c < /proc/keys; touch /proc/sys/x || echo no", options=["--no-pivot"])
    assert done.ok().lines == [done.lines[0], ROOT, "/dev/null", "sh", "0", "no"]
    assert done.lines[0] != namespace()


@pytest.mark.parametrize("kind", ["proc", "sysfs"])
@pytest.mark.parametrize("options", [[], ["--no-pivot"]], ids=["pivot", "no-pivot"])
def test_a_bare_one_cannot_be_mounted(box: Box, kind: str, options: list[str]) -> None:
    """In a user namespace the kernel lets who sees a whole one mount another: all masks would be void."""
    script = f"unshare -m -p -f -r {'' if kind == 'proc' else '-n'} mount -t {kind} none /{kind[:4].rstrip('f')}"
    for name in ("bounding", "permitted", "effective"):
        box.process["capabilities"][name].append("CAP_SYS_ADMIN")
    done = box.run("/bin/sh", "-c", script, options=options)
    assert "permission denied" in done.refused().err


# -- exec


@pytest.mark.parametrize("way", ["none", "path", "no-pivot", "none, nothing new"])
def test_exec_has_the_same_root(our_box: Box, way: str) -> None:
    with another("--mount") as pid:
        options = ["--no-pivot"] if way == "no-pivot" else []
        if way != "no-pivot":
            our_box.without("mount")
        if way == "path":
            our_box.linux["namespaces"].append({"type": "mount", "path": f"/proc/{pid}/ns/mnt"})
        if way == "none, nothing new":
            our_box.without("pid", "network", "ipc", "uts", "cgroup")
            our_box.config["mounts"] = [
                each for each in our_box.config["mounts"] if each["type"] not in ("sysfs", "mqueue")
            ]
        made = our_box.live("readlink /proc/self/ns/mnt", options=options)
        done = our_box.exec("/bin/sh", "-c", "readlink /proc/self/ns/mnt; echo /*; echo /../*; pwd").ok()
        assert done.lines == [made.out.split()[0], ROOT, " ".join(f"/..{each}" for each in ROOT.split()), "/"]
        our_box.delete("--force").ok()
