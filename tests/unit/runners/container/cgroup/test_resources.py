"""Limits: read from the configuration, written into the files of either version, or refused by name."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.runners.container.cgroup import apply, blockio, cgroups, limits, resources
from tare.runners.container.cgroup.hierarchies import Layout
from tare.runners.container.cgroup.resources import Resources
from tare.runners.container.reader import BundleError, Reader

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


def read(asked: Any) -> tuple[Resources, list[str]]:
    """With what is warned of."""
    reader = Reader(asked, "linux.resources")
    return resources.parse(reader), reader.warnings


def refuse(line: str) -> None:
    raise AssertionError(f"unexpected warning: {line}")


def written(group: cgroups.V1 | cgroups.V2, asked: Any, warn: Callable[[str], None] = refuse) -> list[tuple[str, str]]:
    parts = limits.plain(limits.writes(parsed(asked), group, warn))
    return [(each.path.rpartition("/")[2], each.text) for each in parts]


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
        ("cpu.idle", "1"),
        ("cpu.cfs_period_us", "200000"),
        ("cpu.cfs_quota_us", "50000"),
        ("cpu.cfs_burst_us", "1000"),
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
        ("cpu.weight", "39"),
        ("cpu.idle", "1"),
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
        ({"cpu": {"realtimePeriod": 10}}, "cpu.realtimePeriod"),
        ({"cpu": {"realtimeRuntime": 10}}, "cpu.realtimeRuntime"),
        ({"network": {"classID": 1}}, "network.classID"),
        ({"network": {"priorities": [{"name": "lo", "priority": 0}]}}, "network.priorities"),
    ],
)
def test_v2_refuses_what_it_lacks(v2: cgroups.V2, asked: Any, where: str) -> None:
    """The specification has what cannot be converted be an error."""
    with pytest.raises(BundleError, match="no counterpart in cgroup v2") as caught:
        written(v2, asked | {"pids": {"limit": 3}})
    assert caught.value.where == f"linux.resources.{where}"


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"memory": {"kernel": 4096}}, "memory.kernel"),
        ({"memory": {"kernel": -1}}, "memory.kernel"),
        ({"memory": {"useHierarchy": False}}, "memory.useHierarchy"),
        ({"blockIO": {"leafWeight": 100}}, "blockIO.leafWeight"),
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 9}]}},
            "blockIO.weightDevice[0].leafWeight",
        ),
        ({"memory": {"future": 1}}, "memory.future"),
        ({"cpu": {"shares": 1}}, "cpu.shares"),
        ({"cpu": {"shares": 1 << 20}}, "cpu.shares"),
        ({"devices": [{"allow": False, "access": "rwa"}]}, "devices[0].access"),
    ],
)
def test_what_kernels_took_away_is_ignored_with_a_warning(asked: Any, where: str) -> None:
    _, said = read(asked)
    assert [line.partition(": ")[0] for line in said] == [f"linux.resources.{where}"]


def test_nothing_is_said_of_what_is_as_it_must_be() -> None:
    ordinary = {
        "memory": {"useHierarchy": True, "kernel": 0, "swappiness": -1},
        "cpu": {"shares": 2},
        "blockIO": {"leafWeight": 0},
    }
    assert read(ordinary)[1] == read({"cpu": {"shares": 262144}})[1] == []


def test_shares_that_the_kernel_would_change_are_changed_here(v1: cgroups.V1, v2: cgroups.V2) -> None:
    for shares, clamped, weight in ((1, "2", "1"), (1 << 40, "262144", "10000")):
        assert written(v1, {"cpu": {"shares": shares}}) == [("cpu.shares", clamped)]
        assert written(v2, {"cpu": {"shares": shares}}) == [("cpu.weight", weight)]


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
        ("cpu.max", "max"),
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
        ({"memory": {"limit": -1, "swap": 4096}}, "memory.swap"),
        ({"memory": {"limit": 1 << 63}}, "memory.limit"),
        ({"memory": {"kernel": "1"}}, "memory.kernel"),
        ({"cpu": {"quota": 1000, "burst": 1001}}, "cpu.burst"),
        ({"pids": {"limit": 1 << 64}}, "pids.limit"),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}, "hugepageLimits[0].limit"),
        ({"rdma": {"mlx5_0": {"hcaHandles": -1}}}, "rdma.mlx5_0.hcaHandles"),
        ({"rdma": {"mlx5_0": 1}}, "rdma.mlx5_0"),
        ({"devices": [{"allow": False, "access": ""}]}, "devices[0].access"),
        ({"devices": [{"allow": False, "access": "x"}]}, "devices[0].access"),
        ({"memory": {"limit": 8192, "swap": 4096}}, "memory.swap"),
        ({"memory": {"swappiness": 101}}, "memory.swappiness"),
        ({"cpu": {"cpus": "zero"}}, "cpu.cpus"),
        ({"cpu": {"mems": "0;1"}}, "cpu.mems"),
        ({"cpu": {"idle": 2}}, "cpu.idle"),
        ({"cpu": {"shares": -1}}, "cpu.shares"),
        ({"pids": {"limit": True}}, "pids.limit"),
        ({"blockIO": {"weight": 5}}, "blockIO.weight"),
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


def update(group: cgroups.V1 | cgroups.V2, asked: Any) -> list[str]:
    """The warnings."""
    said: list[str] = []
    apply.update(parsed(asked), group, said.append)
    return said


def test_apply_writes_the_files(v1: cgroups.V1, tmp_path: Path) -> None:
    assert update(v1, {"pids": {"limit": 7}, "cpu": {"shares": 2}}) == []
    assert (tmp_path / "g/pids.max").read_text().startswith("7")
    assert (tmp_path / "g/cpu.shares").read_text().startswith("2")


def test_an_update_leaves_device_rules_and_says_so(v1: cgroups.V1) -> None:
    (line,) = update(v1, {"devices": [{"allow": False}]})
    assert line.startswith("linux.resources.devices: ignored")


@pytest.mark.parametrize("asked", [{"pids": {"limit": 7}}, {"memory": {"reservation": 1}}, {"cpu": {"burst": 0}}])
def test_a_file_that_the_kernel_lacks_is_named(v1: cgroups.V1, tmp_path: Path, asked: Any) -> None:
    (each,) = limits.plain(limits.writes(parsed(asked), v1, refuse))
    Path(each.path).unlink()
    with pytest.raises(BundleError) as caught:
        update(v1, asked)
    assert caught.value.where == each.where
    assert each.path in caught.value.why


@pytest.mark.parametrize("swaps", ["", "Filename Type\n", "Filename Type\n/dev/sda2 partition\n"])
def test_a_limit_of_swap_where_the_kernel_counts_none(
    v1: cgroups.V1, v2: cgroups.V2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swaps: str
) -> None:
    """Ignored with a warning where there is nothing to be limited; else it is refused."""

    def instead(path: str) -> str:
        if path == "/proc/swaps" and not swaps:
            raise FileNotFoundError(path)
        return swaps if path == "/proc/swaps" else Path(path).read_text()

    monkeypatch.setattr(limits, "read", instead)
    for group, file in ((v1, "memory.memsw.limit_in_bytes"), (v2, "memory.swap.max")):
        (tmp_path / "g" / file).unlink()
        if "partition" in swaps:
            with pytest.raises(BundleError, match=r"memory\.swap"):
                update(group, {"memory": {"limit": 4096, "swap": 8192}})
            continue
        (line,) = update(group, {"memory": {"limit": 4096, "swap": 8192}})
        assert line.startswith("linux.resources.memory.swap: ignored")
        assert update(group, {"memory": {"limit": 4096, "swap": -1}}) == []


def test_a_hierarchy_that_is_not_mounted_is_named(tmp_path: Path) -> None:
    group = cgroups.V1("g", Layout("v1", {"memory": str(tmp_path)}, (str(tmp_path),), None), ("memory",))
    for asked, controller in (({"pids": {"limit": 1}}, "pids"), ({"blockIO": {"weight": 10}}, "blkio")):
        with pytest.raises(BundleError, match=f"no cgroup v1 hierarchy of {controller} is mounted"):
            limits.writes(parsed(asked), group, refuse)


def test_no_memory_limit_is_no_limit_of_swap_either(v1: cgroups.V1, v2: cgroups.V2, tmp_path: Path) -> None:
    """As in runc; where swap is not counted, nothing is said of it."""
    assert written(v1, {"memory": {"limit": -1}}) == [
        ("memory.limit_in_bytes", "-1"),
        ("memory.memsw.limit_in_bytes", "-1"),
    ]
    assert written(v2, {"memory": {"limit": -1}}) == [("memory.swap.max", "max"), ("memory.max", "max")]
    for name in ("memory.memsw.limit_in_bytes", "memory.swap.max"):
        (tmp_path / "g" / name).unlink()
    assert written(v1, {"memory": {"limit": -1}}) == [("memory.limit_in_bytes", "-1")]
    assert written(v2, {"memory": {"limit": -1}}) == [("memory.max", "max")]


def test_swap_alone_is_judged_by_the_memory_limit_in_force(v1: cgroups.V1, v2: cgroups.V2, tmp_path: Path) -> None:
    (tmp_path / "g/memory.max").write_text("4096\n")
    (tmp_path / "g/memory.limit_in_bytes").write_text("4096\n")
    assert written(v2, {"memory": {"swap": 12288}}) == [("memory.swap.max", "8192")]
    assert written(v1, {"memory": {"swap": 12288}}) == [("memory.memsw.limit_in_bytes", "12288")]
    for group in (v1, v2):
        with pytest.raises(BundleError, match="not below the limit of memory, 4096"):
            update(group, {"memory": {"swap": 2048}})
    (tmp_path / "g/memory.max").write_text("max\n")
    (tmp_path / "g/memory.limit_in_bytes").write_text("9223372036854771712\n")
    for group in (v1, v2):
        with pytest.raises(BundleError, match="memory needs a limit"):
            update(group, {"memory": {"swap": 12288}})
        with pytest.raises(BundleError, match="memory needs a limit"):
            apply.apply(parsed({"memory": {"swap": 12288}}), group, refuse)
    assert (tmp_path / "g/memory.swap.max").read_text() == "0\n"


def test_v1_memory_alone_is_judged_by_memory_and_swap_in_force(v1: cgroups.V1, tmp_path: Path) -> None:
    (tmp_path / "g/memory.memsw.limit_in_bytes").write_text("8192\n")
    with pytest.raises(BundleError, match="above the limit of memory and swap together, 8192") as caught:
        update(v1, {"memory": {"limit": 16384}, "pids": {"limit": 3}})
    assert caught.value.where == "linux.resources.memory.limit"
    assert (tmp_path / "g/pids.max").read_text() == "0\n"
    assert update(v1, {"memory": {"limit": 8192}}) == []


def test_of_quota_and_period_the_one_that_is_not_asked_stays(v1: cgroups.V1, v2: cgroups.V2, tmp_path: Path) -> None:
    (tmp_path / "g/cpu.max").write_text("5000 20000\n")
    assert written(v2, {"cpu": {"period": 40000}}) == [("cpu.max", "5000 40000")]
    assert written(v2, {"cpu": {"quota": 7000}}) == [("cpu.max", "7000")]
    assert written(v1, {"cpu": {"period": 40000}}) == [("cpu.cfs_period_us", "40000")]
    assert written(v1, {"cpu": {"quota": -5}}) == [("cpu.cfs_quota_us", "-1")]


def test_check_before_update(v2: cgroups.V2, tmp_path: Path) -> None:
    (tmp_path / "g/memory.current").write_text("8192\n")
    with pytest.raises(BundleError, match="below what is in use"):
        update(v2, {"memory": {"limit": 4096, "checkBeforeUpdate": True}})
    assert (tmp_path / "g/memory.max").read_text() == "0\n"


class Kernel:
    """The kernel's rules for pairs, of files in memory: a write that breaks one is EINVAL, and changes nothing."""

    def __init__(self, files: dict[str, str], rule: Callable[[dict[str, str]], bool]) -> None:
        self.files = files
        self.rule = rule
        self.asked = 0

    def write(self, path: str, text: str) -> None:
        self.asked += 1
        new = self.files | {path: text}
        if not self.rule(new):
            raise OSError(errno.EINVAL, "Invalid argument", path)
        self.files = new

    def read(self, path: str) -> str:
        return self.files[path]


def pair_in(kernel: Kernel, pair: limits.Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "write", kernel.write)
    monkeypatch.setattr(apply, "read", kernel.read)
    apply.pair(pair)


def _infinite(text: str) -> float:
    return math.inf if text == "-1" else int(text)


SIZES = ("4096", "8192", "16384", "-1")
BOTH = [(m, s) for m in SIZES for s in SIZES if _infinite(m) <= _infinite(s)]


@pytest.mark.parametrize("before", BOTH, ids="-".join)
@pytest.mark.parametrize("after", BOTH, ids="-".join)
def test_memory_and_swap_from_any_state_to_any(
    before: tuple[str, str], after: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(dict(zip("ms", before, strict=True)), lambda f: _infinite(f["m"]) <= _infinite(f["s"]))
    pair_in(kernel, limits.Pair(limits.Write("", "m", after[0]), limits.Write("", "s", after[1])), monkeypatch)
    assert kernel.files == dict(zip("ms", after, strict=True))


#: (quota, period) of a cgroup below one of half a processor, which itself has one below it of a tenth.
RATIOS = [(q, p) for p in ("10000", "100000", "1000000") for q in ("-1", "1000", "5000", "10000", "50000", "500000")]


def _ratio(quota: str, period: str) -> float:
    return 0.5 if quota == "-1" else int(quota) / int(period)  # without one, it is the parent's


def _fits(files: dict[str, str]) -> bool:
    return 0.1 <= _ratio(files["q"], files["p"]) <= 0.5


@pytest.mark.parametrize("before", [each for each in RATIOS if 0.1 <= _ratio(*each) <= 0.5], ids="-".join)
@pytest.mark.parametrize("after", [each for each in RATIOS if 0.1 <= _ratio(*each) <= 0.5], ids="-".join)
def test_quota_and_period_from_any_state_to_any_between_limited_cgroups(
    before: tuple[str, str], after: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel(dict(zip("qp", before, strict=True)), _fits)
    pair = limits.Pair(limits.Write("", "p", after[1]), limits.Write("", "q", after[0]), (limits.Write("", "q", "-1"),))
    pair_in(kernel, pair, monkeypatch)
    assert kernel.files == dict(zip("qp", after, strict=True))


def test_an_ordinary_pair_takes_two_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel({"q": "-1", "p": "100000"}, _fits)
    pair = limits.Pair(limits.Write("", "p", "100000"), limits.Write("", "q", "50000"), (limits.Write("", "q", "-1"),))
    pair_in(kernel, pair, monkeypatch)
    assert kernel.asked == 2


@pytest.mark.parametrize("quota", ["600000", "100"])
def test_an_update_that_the_kernel_refuses_changes_nothing(
    v1: cgroups.V1, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str
) -> None:
    files = {str(path): path.read_text().strip() for path in (tmp_path / "g").iterdir()}
    place = str(tmp_path / "g/cpu.cfs_")
    files |= {f"{place}quota_us": "40000", f"{place}period_us": "100000", str(tmp_path / "g/pids.max"): "9"}
    kernel = Kernel(dict(files), lambda f: _fits({"q": f[f"{place}quota_us"], "p": f[f"{place}period_us"]}))
    monkeypatch.setattr(apply, "write", kernel.write)
    monkeypatch.setattr(apply, "read", kernel.read)
    with pytest.raises(OSError, match="a cgroup above"):
        update(v1, {"memory": {"limit": 1}, "cpu": {"quota": int(quota), "period": 1_000_000}, "pids": {"limit": 5}})
    assert kernel.files == files


@pytest.mark.parametrize(("idle", "order"), [(0, ["cpu.idle", "cpu.shares"]), (1, ["cpu.shares", "cpu.idle"])])
def test_an_idle_cgroup_takes_no_weight(v1: cgroups.V1, idle: int, order: list[str]) -> None:
    assert [name for name, _ in written(v1, {"cpu": {"shares": 9, "idle": idle}})] == order


def test_burst_comes_after_the_quota_that_it_may_not_exceed(v1: cgroups.V1, v2: cgroups.V2) -> None:
    asked = {"cpu": {"quota": 5000, "burst": 4000}}
    (pair,) = limits.writes(parsed(asked), v1, refuse)
    assert isinstance(pair, limits.Pair)
    assert [each.text for each in (pair.first, pair.second, *pair.reset)] == ["5000", "4000", "0"]
    (pair,) = limits.writes(parsed(asked), v2, refuse)
    assert isinstance(pair, limits.Pair)
    assert [each.text for each in (pair.first, pair.second, *pair.reset)] == ["5000", "4000", "0"]
    assert written(v1, {"cpu": {"burst": 0}}) == [("cpu.cfs_burst_us", "0")]


def test_reserved_huge_pages_count_where_the_kernel_counts_them(v1: cgroups.V1, v2: cgroups.V2, tmp_path: Path) -> None:
    asked = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]}
    (tmp_path / "g/hugetlb.2MB.rsvd.limit_in_bytes").touch()
    (tmp_path / "g/hugetlb.2MB.rsvd.max").touch()
    assert [name for name, _ in written(v1, asked)] == ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes"]
    assert [name for name, _ in written(v2, asked)] == ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"]


def test_rdma_in_the_words_of_its_file(v2: cgroups.V2) -> None:
    asked = {"rdma": {"mlx5_0": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx5_1": {"hcaObjects": 0}, "mlx5_2": {}}}
    assert written(v2, asked) == [
        ("rdma.max", "mlx5_0 hca_handle=3 hca_object=10000"),
        ("rdma.max", "mlx5_1 hca_object=0"),
    ]


def test_a_unified_file_gets_its_lines_one_by_one(v2: cgroups.V2) -> None:
    asked = {"unified": {"io.max": "8:0 rbps=1\n8:16 rbps=2\n", "memory.high": ""}}
    assert written(v2, asked) == [("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2")]


def test_docker_s_unsigned_minus_one(v1: cgroups.V1) -> None:
    asked = {"memory": {"limit": (1 << 64) - 1}, "pids": {"limit": -7}, "cpu": {"idle": -1}}
    assert written(v1, asked) == [
        ("memory.limit_in_bytes", "-1"),
        ("memory.memsw.limit_in_bytes", "-1"),
        ("pids.max", "max"),
    ]


@pytest.mark.parametrize("text", ["0-3,8-15:2/4", "all", "0-N", "1\n"])
def test_lists_as_the_kernel_reads_them(v1: cgroups.V1, text: str) -> None:
    assert written(v1, {"cpu": {"cpus": text}}) == [("cpuset.cpus", text)]


def test_bfq_weights_are_taken_as_they_are(v1: cgroups.V1, v2: cgroups.V2, tmp_path: Path) -> None:
    for name in ("blkio.bfq.weight", "io.bfq.weight"):
        (tmp_path / "g" / name).touch()
    asked = {"blockIO": {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 20}]}}
    assert written(v1, asked) == [("blkio.bfq.weight", "500"), ("blkio.bfq.weight_device", "8:0 20")]
    assert written(v2, asked) == [("io.bfq.weight", "500"), ("io.bfq.weight", "8:0 20")]


@given(st.integers(0, 1 << 20))
def test_weights_are_within_what_v2_takes(shares: int) -> None:
    assert 1 <= limits.weight_of_shares(shares) <= 10_000


@given(st.integers(10, 1000))
def test_io_weights_are_within_what_v2_takes(weight: int) -> None:
    assert 1 <= blockio.weight_of_blkio(weight) <= 10_000
