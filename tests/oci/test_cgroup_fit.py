"""Cgroups that a container cannot be put into, frozen ones, those that it makes: nothing waits, nothing stays."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.oci import leftovers
from tests.oci.harness import DEADLINE_S, Box
from tests.oci.test_cgroups import V2, group, value

TOP = Path("/sys/fs/cgroup") if V2 else Path("/sys/fs/cgroup/freezer")
FILE, FROZEN, THAWED = ("cgroup.freeze", "1", "0") if V2 else ("freezer.state", "FROZEN", "THAWED")
#: With these a container makes cgroups of its own, as systemd in one does.
RIGHTS = {kind: ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"] for kind in ("bounding", "effective", "permitted")}


@contextmanager
def frozen(path: str) -> Iterator[Path]:
    directory = TOP / path
    directory.mkdir(parents=True)
    try:
        (directory / FILE).write_text(FROZEN)
        yield directory
    finally:
        (directory / FILE).write_text(THAWED)


@pytest.mark.parametrize("verb", ["run", "create"])
@pytest.mark.parametrize("below", ["", "/c", "/a/b/c"])
def test_below_a_frozen_cgroup_nothing_is_made(our_box: Box, verb: str, below: str) -> None:
    """It would never return: the first process stands still before it has done anything."""
    our_box.linux["cgroupsPath"] = f"/{our_box.name}{below}"
    our_box.process["args"] = ["/bin/true"]
    our_box.save()
    with frozen(our_box.name) as directory:
        done = our_box.call(verb, "--bundle", str(our_box.bundle), our_box.name)
        done.refused()
        assert f"container's cgroup unexpectedly frozen: /{our_box.name};" in done.err
        assert our_box.gone()
        assert [path for path in directory.iterdir() if path.is_dir()] == []
    our_box.run().ok()
    leftovers.sweep(our_box.name)


@pytest.mark.skipif(V2, reason="v1's files")
@pytest.mark.parametrize("verb", ["run", "create"])
def test_a_cgroup_in_use_is_refused(our_box: Box, verb: str) -> None:
    """What is in there is no container's, and would be killed with the new one."""
    directory = Path("/sys/fs/cgroup/pids", our_box.name)
    directory.mkdir()
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            (directory / "cgroup.procs").write_text(str(other.pid))
            our_box.save()
            done = our_box.call(verb, "--bundle", str(our_box.bundle), our_box.name)
            done.refused()
            assert f"container's cgroup is not empty: /{our_box.name} has 1 process" in done.err
            assert other.poll() is None
        finally:
            other.kill()
    wait_until(lambda: not (directory / "cgroup.procs").read_text(), DEADLINE_S)
    directory.rmdir()


@pytest.mark.parametrize("path", ["{}-ü/Größe 日本", "{}.slice:tare:one", "{}/a:b"])
def test_names_of_any_letters(our_box: Box, path: str) -> None:
    our_box.linux["cgroupsPath"] = path.format(our_box.name)
    our_box.live()
    words = Path(f"/proc/{our_box.state()['pid']}/cgroup").read_text(encoding="utf-8")
    assert f":/{our_box.linux['cgroupsPath']}\n" in words
    our_box.exec("/bin/true").ok()
    our_box.delete("--force").ok()
    leftovers.sweep(our_box.name)


# -- paused containers


def test_nothing_is_executed_in_a_paused_container(box: Box) -> None:
    if box.runtime.name == "crun":
        pytest.skip("1.8 does, and waits")
    box.live()
    box.call("pause", box.name).ok()
    done = box.exec("/bin/true")
    assert done.status == 255
    assert "cannot exec in a paused container" in done.err
    waiting = box.begin("exec", "--ignore-paused", box.name, "/bin/echo", "there")
    time.sleep(0.3)
    assert waiting.child.poll() is None
    box.call("resume", box.name).ok()
    assert waiting.wait().ok().out == "there\n"


def test_a_created_container_is_paused_resumed_and_started(our_box: Box) -> None:
    made = our_box.create("/bin/sh", "-c", "echo through; exec sleep 1000")
    our_box.call("pause", our_box.name).ok()
    assert our_box.status() == "paused"
    done = our_box.call("start", our_box.name)
    done.refused()
    assert "it is paused" in done.err
    our_box.call("resume", our_box.name).ok()
    assert our_box.status() == "created"
    our_box.call("start", our_box.name).ok()
    made.until("through")


def test_a_container_below_a_cgroup_that_is_frozen_later(our_box: Box) -> None:
    """All that would wait for it says which cgroup is frozen; nothing is done to that one."""
    our_box.linux["cgroupsPath"] = f"/{our_box.name}/c"
    our_box.create("/bin/sleep", "1000")
    above = TOP / our_box.name
    (above / FILE).write_text(FROZEN)
    try:
        assert our_box.status() == "paused"
        for words in (("start", our_box.name), ("exec", our_box.name, "true"), ("resume", our_box.name)):
            done = our_box.call(*words)
            assert done.status != 0, words
            assert our_box.name in done.err
        assert (above / FILE).read_text().strip() == FROZEN
        if not V2:  # who is killed there dies all the same
            done = our_box.delete("--force")
            done.refused()
            assert f"/{our_box.name} (frozen): processes survive SIGKILL" in done.err
    finally:
        (above / FILE).write_text(THAWED)
    our_box.delete("--force").ok()
    leftovers.sweep(our_box.name)


# -- no task left


@pytest.mark.parametrize("more", [0, 1, 2])
def test_a_container_at_its_limit_of_tasks_can_be_looked_into(box: Box, more: int) -> None:
    """Moving in is not limited, only forking inside is."""
    if box.runtime.name == "runc":
        pytest.skip("its threads are inside, more or fewer: it crashes now and then")
    box.live("sleep 1000 & sleep 1000 &")
    box.call("update", "--pids-limit", str(3 + more), box.name) if box.runtime.ours else (
        group("pids", box) / "pids.max"
    ).write_text(str(3 + more))
    assert value(box, "pids", "pids.current", "pids.current") == "3"
    assert box.exec("/bin/echo", "there").ok().out == "there\n"


def test_a_container_of_one_task(our_box: Box) -> None:
    our_box.resources["pids"] = {"limit": 1}
    assert our_box.run("/bin/echo", "there").ok().out == "there\n"


@pytest.mark.skipif(V2, reason="there is one hierarchy")
def test_a_hierarchy_without_a_cgroup_of_the_container(our_box: Box) -> None:
    """As one that was mounted later, or one in which the runtime might make none."""
    our_box.live()
    directory = group("blkio", our_box)
    for pid in (directory / "cgroup.procs").read_text().split():
        (directory.parent / "cgroup.procs").write_text(pid)
    wait_until(lambda: not (directory / "cgroup.procs").read_text(), DEADLINE_S)
    directory.rmdir()
    seen = our_box.exec("/bin/cat", "/proc/self/cgroup").ok().out
    assert ":pids:/\n" in seen


# -- what the container makes itself


def _nested(box: Box, script: str) -> list[Path]:
    """A live container that made cgroups below its own, by *script*; those that it made."""
    box.process["capabilities"] = RIGHTS
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "rw")
    box.live(script)
    return [path for path in leftovers.cgroups(box.name) if path.name in ("foo", "bar")]


@pytest.mark.skipif(V2, reason="v1's files; v2's are made in the guest of test_v2_guest.py")
@pytest.mark.parametrize("namespaces", [("pid",), ()], ids=["shared pids", "own pids"])
@pytest.mark.parametrize("freeze", [False, True], ids=["running", "frozen"])
def test_delete_by_force_ends_what_is_in_cgroups_below(
    our_box: Box, namespaces: tuple[str, ...], *, freeze: bool
) -> None:
    our_box.without(*namespaces)
    script = "sleep 1000 & p=$!\nfor s in memory freezer pids; do\n"
    script += " mkdir -p /sys/fs/cgroup/$s/foo/bar && echo $p > /sys/fs/cgroup/$s/foo/bar/tasks || exit 9\ndone\n"
    script += "echo FROZEN > /sys/fs/cgroup/freezer/foo/freezer.state\n" if freeze else ""
    made = _nested(our_box, script)
    assert len(made) == 6
    assert all((path / "tasks").read_text() for path in made if path.name == "bar")
    start = time.monotonic()
    our_box.delete("--force").ok()
    assert time.monotonic() - start < 10
    assert not any(path.exists() for path in made)


# -- a runtime that lacks rights


def _without_rights(box: Box, readonly: str, *words: str) -> Any:
    """Call the runtime where these hierarchies are read-only, as in a container that has not been given them."""
    mounts = " && ".join(f"mount -o bind {path} {path} && mount -o remount,bind,ro {path}" for path in readonly.split())
    script = f'mount --make-rprivate / && {mounts} && exec "$@"'
    return box.call(*words, prefix=["unshare", "--mount", "sh", "-c", script, "sh"])


def _hierarchies() -> str:
    return " ".join(leftovers.hierarchies())


def test_hierarchies_that_cannot_be_written_and_nothing_asked(our_box: Box) -> None:
    """The container runs without a cgroup, and that is said."""
    del our_box.linux["cgroupsPath"]
    del our_box.linux["resources"]
    our_box.process["args"] = ["/bin/echo", "there"]
    our_box.save()
    done = _without_rights(our_box, _hierarchies(), "run", "--bundle", str(our_box.bundle), our_box.name).ok()
    assert done.out == "there\n"
    assert "the container is without a cgroup" in done.err
    assert "Read-only file system" in done.err


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"resources": {"pids": {"limit": 5}}}, "linux.resources.pids"),
        ({"resources": {"devices": [{"allow": False}]}}, "linux.resources.devices"),
        ({"resources": {"memory": {"limit": 1 << 25}}}, "linux.resources.memory"),
        ({"resources": {"cpu": {"cpus": "0"}}}, "linux.resources.cpu.cpus"),
        ({"cgroupsPath": "/tare-asked"}, "linux.cgroupsPath"),
    ],
    ids=json.dumps,
)
def test_hierarchies_that_cannot_be_written_and_something_asked(our_box: Box, changes: Any, where: str) -> None:
    del our_box.linux["cgroupsPath"]
    del our_box.linux["resources"]
    our_box.linux.update(changes)
    our_box.save()
    done = _without_rights(our_box, _hierarchies(), "run", "--bundle", str(our_box.bundle), our_box.name)
    done.refused()
    assert where in done.err
    assert "Read-only file system" in done.err
    assert our_box.gone()


@pytest.mark.skipif(V2, reason="there is one hierarchy")
def test_one_hierarchy_that_cannot_be_written(our_box: Box) -> None:
    our_box.resources.update({"pids": {"limit": 9}})
    our_box.process["args"] = ["/bin/cat", "/proc/self/cgroup"]
    our_box.save()
    readonly = "/sys/fs/cgroup/blkio /sys/fs/cgroup/cpu"
    words = ("run", "--bundle", str(our_box.bundle), our_box.name)
    done = _without_rights(our_box, readonly, *words).ok()
    assert done.err.count("the container is without cgroups of blkio, cpu: ") == 1 or done.err.count("cpu, blkio") == 1
    our_box.resources["cpu"] = {"shares": 100}
    our_box.save()
    done = _without_rights(our_box, readonly, *words)
    done.refused()
    assert "linux.resources.cpu: cannot be in force: /sys/fs/cgroup/cpu/" in done.err
    assert our_box.gone()


@pytest.mark.skipif(V2, reason="of v1 a part is bound, as engines do it that prepare a container")
@pytest.mark.skipif(os.geteuid() != 0, reason="it mounts")
def test_limits_land_in_the_whole_hierarchy_where_a_part_is_bound_first(our_box: Box) -> None:
    """Also where the part lies in front of it in mountinfo."""
    part = Path("/sys/fs/cgroup/memory", f"{our_box.name}-part")
    part.mkdir()
    our_box.resources["memory"] = {"limit": 1 << 25}
    our_box.process["args"] = ["/bin/sleep", "1000"]
    our_box.save()
    # The hierarchy is mounted anew, so that it comes after the part.
    script = (
        f"mount --make-rprivate / && mkdir {our_box.directory}/part && mount --bind $0 {our_box.directory}/part"
        ' && umount /sys/fs/cgroup/memory && mount -t cgroup -o memory none /sys/fs/cgroup/memory && exec "$@"'
    )
    prefix = ["unshare", "--mount", "sh", "-c", script, str(part)]
    our_box.call("create", "--bundle", str(our_box.bundle), our_box.name, prefix=prefix).ok()
    assert value(our_box, "memory", "memory.limit_in_bytes", "") == str(1 << 25)
    assert [path for path in part.iterdir() if path.is_dir()] == []
    our_box.delete("--force").ok()
    part.rmdir()


# -- exec --cgroup


@pytest.mark.skipif(V2, reason="v1's hierarchies; v2's is in the guest of test_v2_guest.py")
def test_exec_in_a_cgroup_below(box: Box) -> None:
    """In one of all hierarchies, or by controller; never outside of the container's own."""
    if box.runtime.name == "crun":
        pytest.skip("1.8 takes one path for all")
    box.without("cgroup")
    box.live()
    for path in leftovers.hierarchies():
        Path(path, box.name, "sub/deep").mkdir(parents=True)
        for each in (Path(path, box.name, "sub"), Path(path, box.name, "sub/deep")):
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (each / file).exists():
                    (each / file).write_text("0")

    def places(*words: str) -> dict[str, str]:
        options = [word for each in words for word in ("--cgroup", each)]
        out = box.exec("/bin/cat", "/proc/self/cgroup", options=options).ok().out
        return {line.split(":")[1]: line.split(":")[2] for line in out.splitlines()}

    assert set(places("/").values()) >= {f"/{box.name}"}
    assert places("sub/deep")["memory"] == places("sub/deep")["pids"] == f"/{box.name}/sub/deep"
    found = places("memory:sub", "pids,freezer:/sub/deep")
    assert (found["memory"], found["pids"], found["freezer"]) == tuple(
        f"/{box.name}/{p}" for p in ("sub", *["sub/deep"] * 2)
    )
    assert found["blkio"] == f"/{box.name}"
    for words, said in (
        ([".."], ".. is not a sub cgroup path"),
        (["sub/../.."], "is not a sub cgroup path"),
        (["memory:../x"], "is not a sub cgroup path"),
        (["nope"], "/nope/cgroup.procs: no such file or directory"),
        (["pids:nope"], "/nope/cgroup.procs: no such file or directory"),
        (["whaaat:/"], "unknown controller whaaat"),
        (["sub", "memory:sub"], "--cgroup"),
    ):
        done = box.exec("/bin/true", options=[word for each in words for word in ("--cgroup", each)])
        assert done.status == 255, words
        assert said in done.err
