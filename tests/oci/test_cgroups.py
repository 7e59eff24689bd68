"""Control groups: limits as configured, in force, and gone with the container. Files of v1 and of v2."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.oci import leftovers
from tests.oci.harness import DEADLINE_S, Box

MIB = 1 << 20
SWAP = Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()


def group(controller: str, box: Box) -> Path:
    return Path("/sys/fs/cgroup", "" if V2 else controller, box.name)


def value(box: Box, controller: str, v1: str, v2: str) -> str:
    """What the kernel's file of this container says."""
    path = group(controller, box) / (v2 if V2 else v1)
    if not path.parent.exists():
        pytest.fail(f"{path.parent} was not made")
    if not path.exists():
        pytest.skip(f"this kernel has no {path.name}")
    return path.read_text().strip()


def _has_weights(box: Box) -> bool:
    """The root has none, so a cgroup is made to see."""
    directory = group("blkio", box)
    directory.mkdir()
    try:
        return (directory / "blkio.bfq.weight").exists()
    finally:
        directory.rmdir()


@pytest.mark.deviates("crun", "1.8 does not know BFQ's files of v1", only=["blkio"])
@pytest.mark.parametrize(
    ("resources", "controller", "v1", "v2"),
    [
        (
            {"memory": {"limit": 32 * MIB}},
            "memory",
            ("memory.limit_in_bytes", str(32 * MIB)),
            ("memory.max", str(32 * MIB)),
        ),
        (
            {"memory": {"limit": 64 * MIB, "reservation": 16 * MIB}},
            "memory",
            ("memory.soft_limit_in_bytes", str(16 * MIB)),
            ("memory.low", str(16 * MIB)),
        ),
        (
            {"memory": {"limit": 32 * MIB, "swap": 64 * MIB}},
            "memory",
            ("memory.memsw.limit_in_bytes", str(64 * MIB)),
            ("memory.swap.max", str(32 * MIB)),
        ),
        ({"pids": {"limit": 77}}, "pids", ("pids.max", "77"), ("pids.max", "77")),
        ({"cpu": {"shares": 512}}, "cpu", ("cpu.shares", "512"), ("cpu.weight", "20")),
        ({"cpu": {"quota": 5000, "period": 100000}}, "cpu", ("cpu.cfs_quota_us", "5000"), ("cpu.max", "5000 100000")),
        ({"cpu": {"quota": 20000, "period": 50000}}, "cpu", ("cpu.cfs_period_us", "50000"), ("cpu.max", "20000 50000")),
        ({"cpu": {"cpus": "0"}}, "cpuset", ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
        ({"cpu": {"cpus": "0", "mems": "0"}}, "cpuset", ("cpuset.mems", "0"), ("cpuset.mems", "0")),
        ({"blockIO": {"weight": 500}}, "blkio", ("blkio.bfq.weight", "500"), ("io.bfq.weight", "default 500")),
    ],
    ids=lambda each: json.dumps(each) if isinstance(each, dict) else None,
)  # fmt: skip
def test_limits(box: Box, resources: dict[str, Any], controller: str, v1: tuple[str, str], v2: tuple[str, str]) -> None:
    box.resources.update(resources)
    if controller == "blkio" and not V2 and not _has_weights(box):
        pytest.skip("this kernel has no weights for block devices")
    if "swap" in resources.get("memory", {}) and not (V2 or SWAP.exists()):
        pytest.skip("this kernel does not count swap")
    box.create("/bin/sleep", "1000")
    assert value(box, controller, v1[0], v2[0]) == (v2 if V2 else v1)[1]


def test_throttling_of_block_devices(box: Box) -> None:
    """A rate in bytes and in operations, for a disk that exists."""
    disk = next((Path(entry) for entry in sorted(Path("/sys/block").glob("[vs]d?"))), None)
    if disk is None or not (V2 or Path("/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device").exists()):
        pytest.skip("no disk, or no throttling")
    major, minor = map(int, (disk / "dev").read_text().split(":"))
    box.resources["blockIO"] = {
        "throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": MIB}],
        "throttleWriteIOPSDevice": [{"major": major, "minor": minor, "rate": 100}],
    }
    box.create("/bin/sleep", "1000")
    rate = value(box, "blkio", "blkio.throttle.read_bps_device", "io.max")
    assert f"{major}:{minor}" in rate
    assert str(MIB) in rate
    assert "100" in value(box, "blkio", "blkio.throttle.write_iops_device", "io.max")


@pytest.fixture
def bfq(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """The numbers of a block device with the scheduler BFQ, which has weights."""
    backing = tmp_path / "backing"
    backing.write_bytes(bytes(1 << 20))
    made = subprocess.run(["losetup", "--find", "--show", backing], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    device = Path(made.stdout.strip())
    scheduler = Path("/sys/block", device.name, "queue/scheduler")
    before = scheduler.read_text()
    try:
        if "bfq" not in before:
            pytest.skip("this kernel has no BFQ")
        scheduler.write_text("bfq")
        number = device.stat().st_rdev
        yield os.major(number), os.minor(number)
    finally:
        scheduler.write_text(before.partition("[")[2].partition("]")[0] or "none")
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.deviates("crun", "1.8 does not know BFQ's files of v1")
def test_a_weight_for_one_device(box: Box, bfq: tuple[int, int]) -> None:
    """It goes into a file of its own in v1, and into the one of all devices in v2."""
    major, minor = bfq
    box.resources["blockIO"] = {
        "weight": 333,
        "weightDevice": [{"major": major, "minor": minor, "weight": 444}],
    }
    box.create("/bin/sleep", "1000")
    said = value(box, "blkio", "blkio.bfq.weight_device", "io.bfq.weight")
    assert "default 333" in said
    assert f"{major}:{minor} 444" in said


def test_the_process_is_in_every_hierarchy(box: Box) -> None:
    """A container that is left out of one can be limited, frozen or counted by nobody there."""
    box.live()
    lines = Path(f"/proc/{box.state()['pid']}/cgroup").read_text().splitlines()
    for controller in ("memory", "cpu", "cpuacct", "cpuset", "devices", "freezer", "pids", "blkio"):
        paths = [line.split(":")[2] for line in lines if controller in line.split(":")[1].split(",")]
        assert paths == ([] if V2 else [f"/{box.name}"]), controller
    assert not V2 or lines == [f"0::/{box.name}"]


def test_memory_limit_kills(box: Box) -> None:
    """128 + SIGKILL, and the host is none the worse."""
    box.resources["memory"] = {"limit": 32 * MIB, "swap": 32 * MIB}
    done = box.run("/bin/inside", "touch", "128")
    assert (done.status, done.out) == (137, "")


def test_memory_below_the_limit(box: Box) -> None:
    box.resources["memory"] = {"limit": 64 * MIB, "swap": 64 * MIB}
    assert box.run("/bin/inside", "touch", "16").ok().out == "touched\n"


def test_the_limit_of_tasks(box: Box) -> None:
    box.resources["pids"] = {"limit": 10}
    done = box.sh("i=0; while [ $i -lt 30 ]; do sleep 1000 & i=$((i+1)); done")
    assert "can't fork" in done.err


@pytest.mark.deviates("crun", "1.8 writes -1 as it is, fails, and leaves its cgroups", only=["-1"])
@pytest.mark.parametrize("limit", [0, -1])
def test_no_limit_of_tasks(box: Box, limit: int) -> None:
    """docker and podman write 0 or -1 for no limit."""
    box.resources["pids"] = {"limit": limit}
    box.create("/bin/sleep", "1000")
    assert value(box, "pids", "pids.max", "pids.max") == "max"


def test_memory_without_limit(box: Box) -> None:
    box.resources["memory"] = {"limit": -1}
    box.run("/bin/true").ok()


def test_processors(box: Box) -> None:
    box.resources["cpu"] = {"cpus": "0"}
    assert "Cpus_allowed_list:\t0\n" in box.run("/bin/grep", "Cpus_allowed_list", "/proc/self/status").ok().out


@pytest.mark.deviates(
    "crun", "1.8 takes text for numbers, and leaves the cgroups of a container that it could not make"
)
@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"limit": "32m"}},
        {"cpu": {"cpus": "900-901"}},
        {"cpu": {"cpus": "nope"}},
        {"cpu": {"quota": 1, "period": 1}},
        {"pids": {"limit": "many"}},
    ],
    ids=json.dumps,
)
def test_limits_that_cannot_be_are_refused(box: Box, resources: dict[str, Any]) -> None:
    """And nothing is left: the cgroup that was made for it goes again."""
    box.resources.update(resources)
    done = box.run("/bin/true")
    assert done.status != 0
    if box.runtime.ours:
        done.refused()
    assert box.gone()
    assert list(leftovers.cgroups(box.name)) == []


def test_a_nested_path(box: Box) -> None:
    box.linux["cgroupsPath"] = f"/{box.name}/below/deep"
    box.live()
    assert f"/{box.name}/below/deep" in Path(f"/proc/{box.state()['pid']}/cgroup").read_text()
    box.delete("--force").ok()
    assert not [path for path in leftovers.cgroups(box.name) if path.name == "deep"]
    leftovers.sweep(box.name)  # the parents are the caller's: engines share them


def test_without_a_path(box: Box) -> None:
    """The container has a cgroup all the same, named after it, or limits could not be kept."""
    del box.linux["cgroupsPath"]
    box.resources["pids"] = {"limit": 77}
    box.live()
    text = Path(f"/proc/{box.state()['pid']}/cgroup").read_text()
    assert box.name in text
    (line,) = [line for line in text.splitlines() if V2 or line.split(":")[1] == "pids"]
    path = Path("/sys/fs/cgroup", "" if V2 else "pids", line.split(":")[2].lstrip("/"))
    assert (path / "pids.max").read_text() == "77\n"


@pytest.mark.parametrize("path", ["../../out", "/../out"])
def test_a_path_does_not_lead_out(box: Box, path: str) -> None:
    """Refused, or taken below the root of the hierarchies."""
    if box.runtime.name == "crun":
        pytest.skip("1.8 follows it, and makes files and directories beside the hierarchies")
    box.linux["cgroupsPath"] = f"{path}/{box.name}"
    outside = Path("/sys/fs/out"), Path("/sys/out")
    box.run("/bin/true")
    assert not any(each.exists() for each in outside)
    leftovers.sweep(box.name)
    for parent in Path("/sys/fs/cgroup").glob("*/out"):
        parent.rmdir()


def test_a_child_cgroup_made_inside_goes_too(box: Box) -> None:
    """systemd in a container makes cgroups of its own; with a writable mount they are there at the end."""
    if V2:
        pytest.skip("v1's mount is what this makes")
    box.process["capabilities"] = {kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}
    box.mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "rw")
    box.live(
        "mkdir /sys/fs/cgroup/pids/child && sh -c 'echo 0 > /sys/fs/cgroup/pids/child/cgroup.procs; exec sleep 1000' &"
    )
    child = group("pids", box) / "child"
    wait_until(lambda: child.exists() and (child / "cgroup.procs").read_text().strip(), DEADLINE_S)
    box.delete("--force").ok()
    assert not child.exists()


def test_a_second_container_does_not_inherit(box: Box) -> None:
    """The same name again starts with no limit of the one before."""
    box.resources["memory"] = {"limit": 32 * MIB}
    box.run("/bin/true").ok()
    del box.resources["memory"]
    box.create("/bin/sleep", "1000")
    assert value(box, "memory", "memory.limit_in_bytes", "memory.max") in (
        "max",
        str((1 << 63) - os.sysconf("SC_PAGESIZE")),
    )
