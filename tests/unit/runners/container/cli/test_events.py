"""The verb events: lengths of time as Go writes them, and the kernel's counters of both versions as one form."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.runners.container.cgroup import counters
from tare.runners.container.cgroup.hierarchies import Layout
from tare.runners.container.cgroup.v1 import V1
from tare.runners.container.cgroup.v2 import V2
from tare.runners.container.cli import events
from tare.runners.container.errors import OciError

MS, S = 10**6, 10**9
MOST = 2**64 - 1
NO_LENGTHS = (
    *("", "0", "0s", "0h0m", "0.1ns", "-1s", "5", "s", ".s", "1x", "1sx", "1 s", "1s ", "1s\n", "1e3s", "\u0661s"),
    *("2562048h", f"{'9' * 90}h", f"{'9' * 5000}h", "1S", "1..5s"),
)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("5s", 5 * S),
        ("100ms", 100 * MS),
        ("1.5h", 5400 * S),
        ("1m30s", 90 * S),
        ("1h2m3s4ms5us6ns", 3723 * S + 4 * MS + 5006),
        ("7µs", 7000),  # the micro sign
        ("7μs", 7000),  # the Greek letter
        (".5s", S // 2),
        ("1.s", S),
        ("+1s", S),
        ("1ns", 1),
    ],
)
def test_lengths_of_time(text: str, ns: int) -> None:
    assert events.duration_ns(text) == ns


@pytest.mark.parametrize("text", NO_LENGTHS)
def test_no_lengths_of_time(text: str) -> None:
    with pytest.raises(OciError, match="--interval"):
        events.duration_ns(text)


@given(st.text(alphabet="0123456789.smhnuµ+-", max_size=12))
def test_any_text_is_a_length_of_time_or_none(text: str) -> None:
    try:
        assert 0 < events.duration_ns(text) < 2**63
    except OciError:
        pass


def v1(top: Path, files: dict[str, str]) -> V1:
    """A cgroup of one hierarchy for all."""
    words = ("memory", "cpu", "cpuacct", "cpuset", "pids", "blkio", "hugetlb")
    where = Layout("v1", dict.fromkeys(words, str(top)), (str(top),), None)
    return V1(_made(top, files), where, words)


def v2(top: Path, files: dict[str, str]) -> V2:
    return V2(_made(top, files), Layout("v2", {}, (), str(top)))


def _made(top: Path, files: dict[str, str]) -> str:
    (top / "c").mkdir()
    for name, text in files.items():
        (top / "c" / name).write_text(text)
    return "c"


def test_v1(tmp_path: Path) -> None:
    files = {
        "cpuacct.usage": "300\n",
        "cpuacct.usage_percpu": "100 200 \n",
        "cpuacct.usage_all": "cpu user system\n0 60 40\n1 150 50\n",
        "cpuacct.stat": "user 2\nsystem 1\n",
        "cpu.stat": "nr_periods 9\nnr_throttled 8\nthrottled_time 7\n",
        "cpuset.cpus": "0-2,7\n",
        "cpuset.mems": "0\n",
        "cpuset.sched_relax_domain_level": "-1\n",
        "cpuset.sched_load_balance": "1\n",
        "memory.stat": "cache 11\nrss 12\n",
        "memory.limit_in_bytes": "9223372036854771712\n",
        "memory.usage_in_bytes": "13\n",
        "memory.max_usage_in_bytes": "14\n",
        "memory.failcnt": "15\n",
        "memory.memsw.usage_in_bytes": "16\n",
        "memory.kmem.tcp.failcnt": "17\n",
        "pids.current": "3\n",
        "pids.max": "max\n",
        "blkio.bfq.io_serviced_recursive": "Total 0\n",
        "blkio.throttle.io_serviced_recursive": "8:0 Read 21\n8:0 Total 22\nTotal 22\n",
        "blkio.bfq.io_service_bytes_recursive": "8:16 Write 4096\n",
        "blkio.throttle.io_service_bytes_recursive": "8:0 Read 1\n",
        "blkio.sectors_recursive": "8:0 5\n",
        "hugetlb.2MB.usage_in_bytes": "31\n",
        "hugetlb.2MB.max_usage_in_bytes": "32\n",
        "hugetlb.2MB.failcnt": "33\n",
        "hugetlb.2MB.rsvd.usage_in_bytes": "34\n",
    }
    data = counters.collect(v1(tmp_path, files))
    assert data["cpu"] == {
        "usage": {
            "total": 300,
            "percpu": [100, 200],
            "percpu_kernel": [40, 50],
            "percpu_user": [60, 150],
            "kernel": 10 * MS,
            "user": 20 * MS,
        },
        "throttling": {"periods": 9, "throttledPeriods": 8, "throttledTime": 7},
    }
    sets = data["cpuset"]
    assert isinstance(sets, dict)
    assert (sets["cpus"], sets["mems"]) == ([0, 1, 2, 7], [0])
    assert (sets["sched_relax_domain_level"], sets["sched_load_balance"], sets["mem_hardwall"]) == (-1, 1, 0)
    zero = {"limit": 0, "usage": 0, "max": 0, "failcnt": 0}
    assert data["memory"] == {
        "cache": 11,
        "usage": {"limit": 9223372036854771712, "usage": 13, "max": 14, "failcnt": 15},
        "swap": zero | {"usage": 16},
        "kernel": zero,
        "kernelTCP": zero | {"failcnt": 17},
        "raw": {"cache": 11, "rss": 12},
    }
    assert data["pids"] == {"current": 3, "limit": 0}
    tables = data["blkio"]
    assert isinstance(tables, dict)
    # The scheduler bfq counts nothing of operations here, so the layer below it is believed.
    assert tables["ioServicedRecursive"] == [
        {"major": 8, "minor": 0, "op": "Read", "value": 21},
        {"major": 8, "minor": 0, "op": "Total", "value": 22},
    ]
    assert tables["ioServiceBytesRecursive"] == [{"major": 8, "minor": 16, "op": "Write", "value": 4096}]
    assert tables["sectorsRecursive"] == [{"major": 8, "minor": 0, "op": "", "value": 5}]
    assert data["hugetlb"] == {"2MB": {"usage": 31, "max": 32, "failcnt": 33}}


def test_v2(tmp_path: Path) -> None:
    files = {
        "cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 9\nnr_throttled 8\nthrottled_usec 7\n",
        "cpuset.cpus": "\n",
        "memory.stat": "anon 1\nfile 2\n",
        "memory.current": "100\n",
        "memory.max": "1000\n",
        "memory.peak": "200\n",
        "memory.swap.current": "50\n",
        "memory.swap.max": "500\n",
        "pids.current": "3\n",
        "pids.max": "77\n",
        "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n8:16 rios=7\n7:0 \n",
        "hugetlb.1GB.current": "31\n",
        "hugetlb.1GB.rsvd.current": "32\n",
        "hugetlb.1GB.events": "max 33\n",
    }
    data = counters.collect(v2(tmp_path, files))
    assert data["cpu"] == {
        "usage": {"total": 30_000, "kernel": 10_000, "user": 20_000},
        "throttling": {"periods": 9, "throttledPeriods": 8, "throttledTime": 7000},
    }
    assert data["cpuset"] == {"cpus": [], "mems": []}
    memory = data["memory"]
    assert isinstance(memory, dict)
    assert memory["cache"] == 2
    assert memory["usage"] == {"limit": 1000, "usage": 100, "max": 200, "failcnt": 0}
    assert memory["swap"] == {"limit": 1500, "usage": 150, "max": 0, "failcnt": 0}, "together, as in v1"
    assert data["pids"] == {"current": 3, "limit": 77}
    tables = data["blkio"]
    assert isinstance(tables, dict)
    assert [(entry["minor"], entry["op"], entry["value"]) for entry in tables["ioServicedRecursive"]] == [
        (0, "Read", 3),
        (0, "Write", 4),
        (16, "Read", 7),
    ]
    assert [(entry["op"], entry["value"]) for entry in tables["ioServiceBytesRecursive"]] == [("Read", 1), ("Write", 2)]
    assert data["hugetlb"] == {"1GB": {"usage": 31, "max": 0, "failcnt": 33}}


@pytest.mark.parametrize(("memory", "swap"), [("max", "max"), ("1000", "max"), ("max", "0")])
def test_v2_without_a_limit(tmp_path: Path, memory: str, swap: str) -> None:
    """A sum with "no limit" in it is no limit."""
    data = counters.collect(v2(tmp_path, {"memory.max": memory, "memory.swap.max": swap}))["memory"]
    assert isinstance(data, dict)
    assert data["usage"]["limit"] == (MOST if memory == "max" else 1000)
    assert data["swap"]["limit"] == MOST


@pytest.mark.parametrize("make", [v1, v2])
def test_a_cgroup_without_files(tmp_path: Path, make: type[V1]) -> None:
    """As where a controller is missing: every name is there, and its value is nothing."""
    group = make(tmp_path, {})  # type: ignore[arg-type]
    data = counters.collect(group)
    assert data["pids"] == {"current": 0, "limit": 0}
    assert data["hugetlb"] == {}
    tables = data["blkio"]
    assert isinstance(tables, dict)
    assert not any(tables.values())


def test_kills_that_memory_events_counts(tmp_path: Path) -> None:
    """Other counters of that file, which wake the reader, too, are no kill."""
    group = v2(tmp_path, {"memory.events": "low 0\nmax 3\noom 0\noom_kill 2\n"})
    shortage = events.Shortage(group)
    file = tmp_path / "c" / "memory.events"
    try:
        assert not shortage.came(), "what was before does not count"
        file.write_text("low 0\nmax 9\noom 1\noom_kill 2\n")
        assert not shortage.came()
        file.write_text("low 0\nmax 9\noom 1\noom_kill 4\n")
        assert shortage.came()
        assert not shortage.came()
        assert not shortage.gone
    finally:
        shortage.close()
