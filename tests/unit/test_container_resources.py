"""Limits: read from the configuration, written into the files of either version, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.container import blockio, cgroups, limits, resources
from runners.container.hierarchies import Layout
from runners.container.reader import BundleError, Reader
from runners.container.resources import Resources

CONTROLLERS = ("memory", "cpu", "cpuset", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "devices")
V1_FILES = (
    "memory.limit_in_bytes memory.memsw.limit_in_bytes memory.soft_limit_in_bytes memory.swappiness memory.oom_control"
    " memory.usage_in_bytes memory.kmem.tcp.limit_in_bytes cpu.shares cpu.cfs_period_us cpu.cfs_quota_us"
    " cpu.cfs_burst_us cpu.rt_period_us cpu.rt_runtime_us cpu.idle cpuset.cpus cpuset.mems pids.max"
    " blkio.weight blkio.weight_device"
    " blkio.throttle.read_bps_device blkio.throttle.write_iops_device hugetlb.2MB.limit_in_bytes net_cls.classid"
    " net_prio.ifpriomap"
).split()
V2_FILES = (
    "memory.max memory.swap.max memory.low memory.high memory.current cpu.max cpu.max.burst cpu.weight cpu.idle"
    " cpuset.cpus cpuset.mems pids.max io.max io.weight hugetlb.2MB.max"
).split()


@pytest.fixture
def v1(tmp_path: Path) -> cgroups.V1:
    """All hierarchies as one plain directory with a group g."""
    (tmp_path / "g").mkdir(exist_ok=True)
    for file in V1_FILES:
        (tmp_path / "g" / file).write_text("0\n")
    (tmp_path / "g/memory.memsw.limit_in_bytes").write_text(f"{1 << 62}\n")
    layout = Layout("v1", dict.fromkeys(CONTROLLERS, str(tmp_path)), (str(tmp_path),), None)
    return cgroups.V1("g", layout, CONTROLLERS)


@pytest.fixture
def v2(tmp_path: Path) -> cgroups.V2:
    (tmp_path / "g").mkdir(exist_ok=True)
    for file in V2_FILES:
        (tmp_path / "g" / file).write_text("0\n")
    return cgroups.V2("g", Layout("v2", {}, (), str(tmp_path)))


def parsed(asked: Any) -> Resources:
    return resources.parse(Reader(asked, "linux.resources"))


def written(group: cgroups.V1 | cgroups.V2, asked: Any) -> list[tuple[str, str]]:
    return [(each.path.rpartition("/")[2], each.text) for each in resources.writes(parsed(asked), group)]


EVERYTHING: dict[str, Any] = {
    "memory": {"limit": 1 << 26, "swap": 1 << 27, "reservation": 1 << 25},
    "cpu": {"shares": 1024, "quota": 50_000, "period": 200_000, "burst": 1000, "cpus": "0-1", "mems": "0", "idle": 1},
    "pids": {"limit": 7},
    "blockIO": {
        "weight": 500,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 5}],
    },
    "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}],
}


def test_everything_in_v1(v1: cgroups.V1) -> None:
    assert written(v1, EVERYTHING) == [
        ("memory.limit_in_bytes", str(1 << 26)),
        ("memory.memsw.limit_in_bytes", str(1 << 27)),
        ("memory.soft_limit_in_bytes", str(1 << 25)),
        ("cpu.shares", "1024"),
        ("cpu.cfs_period_us", "200000"),
        ("cpu.cfs_quota_us", "50000"),
        ("cpu.cfs_burst_us", "1000"),
        ("cpu.idle", "1"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "7"),
        ("hugetlb.2MB.limit_in_bytes", str(4 << 20)),
        ("blkio.weight", "500"),
        ("blkio.weight_device", "8:0 10"),
        ("blkio.throttle.read_bps_device", "8:0 1000"),
        ("blkio.throttle.write_iops_device", "8:16 5"),
    ]


def test_everything_in_v2(v2: cgroups.V2) -> None:
    assert written(v2, EVERYTHING) == [
        ("memory.swap.max", str(1 << 26)),
        ("memory.max", str(1 << 26)),
        ("memory.low", str(1 << 25)),
        ("cpu.idle", "1"),
        ("cpu.weight", "39"),
        ("cpu.max", "50000 200000"),
        ("cpu.max.burst", "1000"),
        ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("pids.max", "7"),
        ("hugetlb.2MB.max", str(4 << 20)),
        ("io.weight", "4950"),
        ("io.weight", "8:0 1"),
        ("io.max", "8:0 rbps=1000"),
        ("io.max", "8:16 wiops=5"),
    ]


def test_v1_only_words(v1: cgroups.V1) -> None:
    asked = {
        "memory": {"swappiness": 0, "disableOOMKiller": True, "kernelTCP": 4096},
        "cpu": {"realtimePeriod": 10, "realtimeRuntime": 5},
        "network": {"classID": 17, "priorities": [{"name": "lo", "priority": 2}]},
    }
    assert written(v1, asked) == [
        ("memory.kmem.tcp.limit_in_bytes", "4096"),
        ("memory.swappiness", "0"),
        ("memory.oom_control", "1"),
        ("cpu.rt_period_us", "10"),
        ("cpu.rt_runtime_us", "5"),
        ("net_cls.classid", "17"),
        ("net_prio.ifpriomap", "lo 2"),
    ]


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"memory": {"swappiness": 0}}, "memory.swappiness"),
        ({"memory": {"disableOOMKiller": True}}, "memory.disableOOMKiller"),
        ({"memory": {"kernelTCP": 1}}, "memory.kernelTCP"),
        ({"cpu": {"realtimePeriod": 10}}, "cpu.realtimeRuntime"),
        ({"network": {"classID": 1}}, "network"),
    ],
)
def test_v2_refuses_what_it_lacks(v2: cgroups.V2, asked: Any, where: str) -> None:
    with pytest.raises(BundleError) as caught:
        written(v2, asked)
    assert caught.value.where == f"linux.resources.{where}"


def test_no_limit(v1: cgroups.V1, v2: cgroups.V2) -> None:
    asked = {"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}
    assert written(v1, asked) == [
        ("memory.limit_in_bytes", "-1"),
        ("memory.memsw.limit_in_bytes", "-1"),
        ("cpu.cfs_quota_us", "-1"),
        ("pids.max", "max"),
    ]
    assert written(v2, asked) == [
        ("memory.swap.max", "max"),
        ("memory.max", "max"),
        ("cpu.max", "max 100000"),
        ("pids.max", "max"),
    ]


#: What docker 20 writes for a container without limits, and null, which podman writes.
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {
            "memory": {"limit": 0, "swappiness": (1 << 64) - 1, "disableOOMKiller": False},
            "cpu": {"shares": 0, "quota": 0},
            "pids": {"limit": 0},
            "blockIO": {"weight": 0},
        },
    ],
)
def test_zeros_ask_for_nothing(v1: cgroups.V1, v2: cgroups.V2, asked: Any) -> None:
    assert written(v1, asked) == written(v2, asked) == []
    assert not parsed(asked).anything


def test_a_device_rule_is_something() -> None:
    assert parsed({"devices": [{"allow": False}]}).anything
    assert not parsed({"devices": [{"allow": False}]}).limits
    assert parsed({"devices": [{"allow": False}], "pids": {"limit": 1}}).limits


def test_unified_overrules_in_v2_and_is_refused_in_v1(v1: cgroups.V1, v2: cgroups.V2) -> None:
    asked = {"memory": {"limit": 4096}, "unified": {"memory.high": "1024", "memory.max": "2048"}}
    assert written(v2, asked) == [("memory.max", "4096"), ("memory.high", "1024"), ("memory.max", "2048")]
    with pytest.raises(BundleError, match=r"linux\.resources\.unified"):
        written(v1, asked)


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"memory": {"limit": "64m"}}, "memory.limit"),
        ({"memory": {"limit": -2}}, "memory.limit"),
        ({"memory": {"swap": 4096}}, "memory.swap"),
        ({"memory": {"limit": 8192, "swap": 4096}}, "memory.swap"),
        ({"memory": {"kernel": 4096}}, "memory.kernel"),
        ({"memory": {"swappiness": 101}}, "memory.swappiness"),
        ({"cpu": {"cpus": "zero"}}, "cpu.cpus"),
        ({"cpu": {"mems": "0;1"}}, "cpu.mems"),
        ({"cpu": {"idle": 2}}, "cpu.idle"),
        ({"cpu": {"shares": -1}}, "cpu.shares"),
        ({"pids": {"limit": True}}, "pids.limit"),
        ({"blockIO": {"weight": 5}}, "blockIO.weight"),
        ({"blockIO": {"leafWeight": 100}}, "blockIO.leafWeight"),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": -1}]}},
            "throttleReadBpsDevice[0].rate",
        ),
        ({"blockIO": {"throttleReadBpsDevice": [{"major": 8, "rate": 1}]}}, "throttleReadBpsDevice[0].minor"),
        ({"hugepageLimits": [{"pageSize": "huge", "limit": 1}]}, "hugepageLimits[0].pageSize"),
        ({"unified": {"../memory.max": "1"}}, "unified.../memory.max"),
        ({"unified": {"memory": "1"}}, "unified.memory"),
        ({"unified": {"memory.max": 1}}, "unified.memory.max"),
        (["memory"], "linux.resources"),
    ],
)
def test_refused_by_name(asked: Any, where: str) -> None:
    with pytest.raises(BundleError) as caught:
        parsed(asked)
    assert caught.value.where.endswith(where)
    assert caught.value.fix


def test_apply_writes_the_files(v1: cgroups.V1, tmp_path: Path) -> None:
    resources.update(parsed({"pids": {"limit": 7}, "cpu": {"shares": 2}}), v1)
    assert (tmp_path / "g/pids.max").read_text().startswith("7")
    assert (tmp_path / "g/cpu.shares").read_text().startswith("2")


def test_a_file_that_the_kernel_lacks_is_named(v1: cgroups.V1, tmp_path: Path) -> None:
    (tmp_path / "g/memory.memsw.limit_in_bytes").unlink()
    with pytest.raises(BundleError) as caught:
        resources.update(parsed({"memory": {"limit": 4096, "swap": 4096}}), v1)
    assert caught.value.where == "linux.resources.memory.swap"
    assert str(tmp_path / "g/memory.memsw.limit_in_bytes") in caught.value.why


def test_a_hierarchy_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    group = cgroups.V1("g", Layout("v1", {"memory": str(tmp_path)}, (str(tmp_path),), None), ("memory",))
    for asked, controller in (({"pids": {"limit": 1}}, "pids"), ({"blockIO": {"weight": 10}}, "blkio")):
        with pytest.raises(BundleError, match=f"no cgroup v1 hierarchy of {controller} is mounted"):
            resources.writes(parsed(asked), group)


@pytest.mark.parametrize(
    ("now", "swap", "first"),
    [
        (1 << 62, 8192, "memory.limit_in_bytes"),  # fresh: memory+swap comes down to it after memory did
        (4096, 8192, "memory.memsw.limit_in_bytes"),  # raised: memory could not go above memory+swap
        (4096, -1, "memory.memsw.limit_in_bytes"),
        (16384, 8192, "memory.limit_in_bytes"),
    ],
)
def test_v1_memory_is_never_above_memory_and_swap(
    v1: cgroups.V1, tmp_path: Path, now: int, swap: int, first: str
) -> None:
    (tmp_path / "g/memory.memsw.limit_in_bytes").write_text(f"{now}\n")
    order: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "write", lambda path, _text: order.append(path.rpartition("/")[2]))
        resources.update(parsed({"memory": {"limit": 8192, "swap": swap}}), v1)
    assert order[0] == first
    assert sorted(order) == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]


def test_check_before_update(v2: cgroups.V2, tmp_path: Path) -> None:
    (tmp_path / "g/memory.current").write_text("8192\n")
    asked = {"memory": {"limit": 4096, "checkBeforeUpdate": True}}
    with pytest.raises(BundleError, match="below what is in use"):
        resources.update(parsed(asked), v2)
    assert (tmp_path / "g/memory.max").read_text() == "0\n"


def test_bfq_weights_are_taken_as_they_are(v1: cgroups.V1, v2: cgroups.V2, tmp_path: Path) -> None:
    for name in ("blkio.bfq.weight", "io.bfq.weight"):
        (tmp_path / "g" / name).touch()
    asked = {"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 20}]}}
    assert written(v1, asked) == [("blkio.bfq.weight", "500"), ("blkio.bfq.weight", "8:0 20")]
    assert written(v2, asked) == [("io.bfq.weight", "500"), ("io.bfq.weight", "8:0 20")]


@given(st.integers(0, 1 << 20))
def test_weights_are_within_what_v2_takes(shares: int) -> None:
    assert 1 <= limits.weight_of_shares(shares) <= 10_000


@given(st.integers(10, 1000))
def test_io_weights_are_within_what_v2_takes(weight: int) -> None:
    assert 1 <= blockio.weight_of_blkio(weight) <= 10_000
