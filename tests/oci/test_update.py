"""Limits of a container that runs: flags as runc's and crun's, and pairs from any state, below limited cgroups, too."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.oci import leftovers
from tests.oci.harness import Box
from tests.oci.test_cgroups import MIB, SWAP, V2, group, value

UNLIMITED = ("9223372036854771712", "max")


def memory(box: Box) -> str:
    found = value(box, "memory", "memory.limit_in_bytes", "memory.max")
    return "-1" if found in UNLIMITED else found


def both(box: Box) -> str:
    """The limit of memory and swap together."""
    found = value(box, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max")
    if found in UNLIMITED:
        return "-1"
    return str(int(found) + int(memory(box))) if V2 else found


def cpu(box: Box) -> tuple[str, str]:
    """Quota and period."""
    if V2:
        quota, period = value(box, "cpu", "", "cpu.max").split()
        return "-1" if quota == "max" else quota, period
    return value(box, "cpu", "cpu.cfs_quota_us", ""), value(box, "cpu", "cpu.cfs_period_us", "")


@pytest.mark.deviates("crun", "1.8 does not know BFQ's file of v1", only=["blkio"])
@pytest.mark.parametrize(
    ("words", "controller", "v1", "v2"),
    [
        ("--memory 100M", "memory", ("memory.limit_in_bytes", str(100 * MIB)), ("memory.max", str(100 * MIB))),
        ("--memory-reservation 32m", "memory", ("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432")),
        ("--cpu-share 512", "cpu", ("cpu.shares", "512"), ("cpu.weight", "20")),
        ("--cpu-quota 30000", "cpu", ("cpu.cfs_quota_us", "30000"), ("cpu.max", "30000 100000")),
        ("--cpu-period 50000", "cpu", ("cpu.cfs_period_us", "50000"), ("cpu.max", "max 50000")),
        ("--cpuset-cpus 0", "cpuset", ("cpuset.cpus", "0"), ("cpuset.cpus", "0")),
        ("--cpuset-mems 0", "cpuset", ("cpuset.mems", "0"), ("cpuset.mems", "0")),
        ("--pids-limit 33", "pids", ("pids.max", "33"), ("pids.max", "33")),
        ("--blkio-weight 300", "blkio", ("blkio.bfq.weight", "300"), ("io.bfq.weight", "default 300")),
    ],
    ids=lambda each: each if isinstance(each, str) and each.startswith("--") else None,
)  # fmt: skip
def test_a_flag(box: Box, words: str, controller: str, v1: tuple[str, str], v2: tuple[str, str]) -> None:
    box.live()
    if not (group(controller, box) / (v2 if V2 else v1)[0]).exists():
        pytest.skip("this kernel has no such file")
    if box.runtime.name == "crun":
        words = words.replace("100M", str(100 * MIB)).replace("32m", str(32 * MIB))  # it takes bytes alone
    box.call("update", *words.split(), box.name).ok()
    assert value(box, controller, v1[0], v2[0]) == (v2 if V2 else v1)[1]


def test_all_at_once_and_the_rest_stays(our_box: Box) -> None:
    our_box.resources.update({"memory": {"limit": 32 * MIB}, "pids": {"limit": 20}})
    our_box.live()
    words = "--cpu-quota 40000 --cpu-period 80000 --cpu-burst 1000 --cpu-shares 200 --memory 64m --cpuset-cpus 0"
    our_box.call("update", *words.split(), our_box.name).ok()
    assert cpu(our_box) == ("40000", "80000")
    assert memory(our_box) == str(64 * MIB)
    assert value(our_box, "pids", "pids.max", "pids.max") == "20"
    assert value(our_box, "cpu", "cpu.cfs_burst_us", "cpu.max.burst") == "1000"
    our_box.call("update", our_box.name).ok()
    assert cpu(our_box) == ("40000", "80000")


@pytest.mark.deviates("crun", "1.8 writes -1 as an unsigned number")
@pytest.mark.parametrize("order", [("--cpu-quota", "--cpu-period"), ("--cpu-period", "--cpu-quota")], ids="".join)
def test_one_of_a_pair_leaves_the_other(box: Box, order: tuple[str, str]) -> None:
    box.live()
    for flag in order:
        box.call("update", flag, "50000", box.name).ok()
    assert cpu(box) == ("50000", "50000")
    box.call("update", "--cpu-quota", "-1", box.name).ok()
    assert cpu(box) == ("-1", "50000")


@pytest.mark.skipif(not (V2 or SWAP.exists()), reason="this kernel does not count swap")
def test_memory_and_swap_from_any_state_to_any(our_box: Box) -> None:
    """Up, down, lifted: an order that the kernel does not take would fail, and leave one of the two."""
    our_box.live()
    sizes = [str(mib * MIB) for mib in (16, 32)] + ["-1"]
    states = [(m, s) for m, s in itertools.product(sizes, sizes) if s == "-1" or (m != "-1" and int(m) <= int(s))]
    for before, after in itertools.permutations(states, 2):
        for m, s in (before, after):
            our_box.call("update", "--memory", m, "--memory-swap", s, our_box.name).ok()
        assert (memory(our_box), both(our_box)) == after, (before, after)


@pytest.mark.skipif(not (V2 or SWAP.exists()), reason="this kernel does not count swap")
def test_of_memory_and_swap_one_alone(our_box: Box) -> None:
    our_box.resources["memory"] = {"limit": 32 * MIB, "swap": 64 * MIB}
    our_box.live()
    our_box.call("update", "--memory-swap", "96m", our_box.name).ok()
    assert (memory(our_box), both(our_box)) == (str(32 * MIB), str(96 * MIB))
    for words, flag in (
        (("--memory-swap", "16m"), "--memory-swap"),
        (("--memory", "64m", "--memory-swap", "32m"), "--memory-swap"),
    ):
        done = our_box.call("update", *words, "--pids-limit", "7", our_box.name)
        done.refused()
        assert flag in done.err
    if not V2:  # there swap is counted alone, and stays as it is
        done = our_box.call("update", "--memory", "128m", our_box.name)
        done.refused()
        assert "--memory: is above" in done.err
    assert (memory(our_box), both(our_box)) == (str(32 * MIB), str(96 * MIB))
    assert value(our_box, "pids", "pids.max", "pids.max") == "max"
    our_box.call("update", "--memory", "-1", our_box.name).ok()
    assert (memory(our_box), both(our_box)) == ("-1", "-1")


@pytest.mark.skipif(V2, reason="v2 lets a cgroup ask for more than it gets")
def test_quota_and_period_below_a_limited_cgroup(our_box: Box) -> None:
    """Half a processor above, a tenth below: every other ratio in between must be reached from every one."""
    our_box.linux["cgroupsPath"] = f"/{our_box.name}/c"
    above = Path("/sys/fs/cgroup/cpu", our_box.name)
    above.mkdir()
    (above / "cpu.cfs_quota_us").write_text("50000")
    our_box.live()
    below = above / "c/inner"
    below.mkdir()
    (below / "cpu.cfs_quota_us").write_text("10000")
    states = [("-1", "100000"), ("50000", "100000"), ("10000", "100000"), ("5000", "10000"), ("1000", "10000")]
    states += [("500000", "1000000"), ("100000", "1000000"), ("-1", "10000")]

    def now() -> tuple[str, ...]:
        return tuple((above / "c" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))

    for before, after in itertools.permutations(states, 2):
        for quota, period in (before, after):
            our_box.call("update", "--cpu-quota", quota, "--cpu-period", period, our_box.name).ok()
        assert now() == after, (before, after)
    # More than there is above, and less than there is below: nothing is changed.
    held = now()
    for quota, period in (("60000", "100000"), ("6000", "10000"), ("9000", "100000"), ("900000", "1000000")):
        done = our_box.call("update", "--memory", "64m", "--cpu-quota", quota, "--cpu-period", period, our_box.name)
        done.refused()
        assert "cpu.cfs_quota_us" in done.err
        assert now() == held
    assert (Path("/sys/fs/cgroup/memory", our_box.name, "c/memory.limit_in_bytes")).read_text().strip() in UNLIMITED
    our_box.delete("--force").ok()
    leftovers.sweep(our_box.name)  # the cgroup above is the caller's


def test_as_json_by_file_and_standard_input(box: Box) -> None:
    box.live()
    path = box.directory / "resources.json"
    path.write_text(json.dumps({"pids": {"limit": 31}, "cpu": {"shares": 512}}))
    box.call("update", "--resources", str(path), box.name).ok()
    assert value(box, "pids", "pids.max", "pids.max") == "31"
    path.write_text(json.dumps({"pids": {"limit": 32}}))
    with path.open() as text:
        box.call("update", "-r", "-", box.name, stdin=text).ok()
    assert value(box, "pids", "pids.max", "pids.max") == "32"
    assert value(box, "cpu", "cpu.shares", "cpu.weight") == ("20" if V2 else "512")


@pytest.mark.parametrize("text", ["", "[]", "null", '{"memory": 1}', '{"pids": {"limit": "many"}}', "{"])
def test_bad_json(our_box: Box, text: str) -> None:
    our_box.live()
    path = our_box.directory / "resources.json"
    path.write_text(text)
    our_box.call("update", "--resources", str(path), our_box.name).refused()


def test_what_is_ignored_is_said_once(our_box: Box) -> None:
    our_box.live()
    done = our_box.call("update", "--kernel-memory", "64m", "--pids-limit", "5", our_box.name)
    done.ok()
    assert done.err.count("memory.kernel: ignored") == 1
    path = our_box.directory / "resources.json"
    path.write_text(json.dumps({"devices": [{"allow": True}], "future": {"x": 1}}))
    done = our_box.call("update", "-r", str(path), "--pids-limit", "9", our_box.name)
    done.ok()
    assert [done.err.count(words) for words in ("resources.devices: ignored", "future", "--resources all other")] == [
        1
    ] * 3
    assert value(our_box, "pids", "pids.max", "pids.max") == "5"


def test_a_paused_container_stays_paused(box: Box) -> None:
    box.live()
    box.call("pause", box.name).ok()
    box.call("update", "--pids-limit", "30", box.name).ok()
    assert box.status() == "paused"
    assert value(box, "pids", "pids.max", "pids.max") == "30"
    box.call("resume", box.name).ok()


@pytest.mark.skipif(V2, reason="v2 takes any limit, and kills")
def test_a_limit_of_memory_below_what_is_in_use(our_box: Box) -> None:
    our_box.live("x=$(head -c 30000000 /dev/zero | tr '\\0' x); (sleep 1000; echo $x) &")
    done = our_box.call("update", "--memory", "1m", our_box.name)
    if Path("/proc/swaps").read_text().count("\n") > 1:
        return  # it may be swapped out
    done.refused()
    assert "(in use: " in done.err
    assert memory(our_box) == "-1"
