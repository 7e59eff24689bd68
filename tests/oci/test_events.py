"""The verb events: what a container uses as lines of JSON, in the form that runc's callers read."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.oci.harness import DEADLINE_S, Box, Running
from tests.oci.test_cgroups import MIB, SWAP, V2, group

pytestmark = pytest.mark.deviates("crun", "has no such verb")

NO_INTERVALS = ["0", "0s", "-1s", "5", "s", "1x", "1 s", "1s ", "", "1e3s", "\u0661s", "9999999h"]


def lines(said: Running) -> list[dict[str, Any]]:
    """Those that are whole."""
    return [json.loads(line) for line in said.out.split("\n")[:-1]]


def kinds(said: Running) -> list[str]:
    return [line["type"] for line in lines(said)]


def follow(box: Box, interval: str = "50ms") -> Running:
    """Begun, and past its first line: from here on it misses nothing."""
    said = box.begin("events", "--interval", interval, box.name)
    wait_until(lambda: bool(lines(said)) or said.child.poll() is not None, DEADLINE_S, what=f"a line, not {said.err!r}")
    return said


def limited(box: Box) -> None:
    box.resources["memory"] = {"limit": 32 * MIB} | ({"swap": 32 * MIB} if V2 or SWAP.exists() else {})
    box.resources["pids"] = {"limit": 44}


def test_stats(box: Box) -> None:
    """One line, and what is in it is what the kernel's files say."""
    limited(box)
    box.live("sleep 999 &")
    done = box.call("events", "--stats", box.name).ok()
    assert done.out.startswith(f'{{"type":"stats","id":"{box.name}","data":{{'), "callers compare the start of the line"
    (line,) = map(json.loads, done.lines)
    data = line["data"]
    # A cgroup counts threads; runc is known to leave out what is 0.
    assert data["pids"] == {"current": 2, "limit": 44}
    assert data["memory"]["usage"]["limit"] == 32 * MIB
    assert 0 < data["memory"]["usage"]["usage"] <= data["memory"]["usage"]["max"]
    assert data["memory"]["raw"]["pgfault"] > 0
    assert {"cache", "usage", "kernel", "swap", "raw"} <= data["memory"].keys() | {"cache"}
    used = data["cpu"]["usage"]
    assert 0 < used["total"] < 60 * 10**9
    assert max(used["kernel"], used["user"]) <= used["total"] + 10**8, "nanoseconds, like the total"
    assert "throttling" in data["cpu"]
    assert {"blkio", "hugetlb"} <= data.keys()
    if not V2:
        assert sum(used["percpu"]) == used["total"]
        assert data["cpuset"]["cpus"] == _ids(group("cpuset", box) / "cpuset.cpus")
        assert data["cpuset"]["mems"] == _ids(group("cpuset", box) / "cpuset.mems")


def _ids(path: Path) -> list[int]:
    found: list[int] = []
    for part in path.read_text().strip().split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def test_every_name_is_always_there(our_box: Box) -> None:
    """A caller that does not know runc's rule need not ask whether a number is there."""
    our_box.live()
    (line,) = map(json.loads, our_box.call("events", "--stats", our_box.name).ok().lines)
    data = line["data"]
    assert list(line) == ["type", "id", "data"]
    wanted = "cpu cpuset memory pids blkio hugetlb intel_rdt network_interfaces"
    assert list(data) == wanted.split()
    for kind in ("usage", "swap", "kernel", "kernelTCP"):
        assert set(data["memory"][kind]) == {"limit", "usage", "max", "failcnt"}, kind
    assert data["pids"]["limit"] == 0, "no limit"
    assert data["cpu"]["throttling"] == {"periods": 0, "throttledPeriods": 0, "throttledTime": 0}
    assert all(isinstance(entries, list) for entries in data["blkio"].values())


def test_throttling(box: Box) -> None:
    box.resources["cpu"] = {"quota": 2000, "period": 10000}
    box.live("timeout 0.5 sh -c 'while :; do :; done'")
    (line,) = map(json.loads, box.call("events", "--stats", box.name).ok().lines)
    found = line["data"]["cpu"]["throttling"]
    assert 0 < found["throttledPeriods"] <= found["periods"]
    assert found["throttledTime"] > 10**6


@pytest.mark.parametrize("how", ["created", "paused"])
def test_stats_of_one_that_does_not_run(box: Box, how: str) -> None:
    if how == "created":
        box.create("/bin/sleep", "1000")
    else:
        box.live()
        box.call("pause", box.name).ok()
    assert json.loads(box.call("events", "--stats", box.name).ok().out)["data"]["pids"]["current"] >= 1
    if how == "paused":
        box.call("resume", box.name).ok()


@pytest.mark.parametrize("end", ["kill", "delete"])
def test_lines_until_the_end(our_box: Box, end: str) -> None:
    """No line of zeros, and no shortage of memory, from a cgroup that is being removed."""
    our_box.live()
    said = follow(our_box, "3ms")
    wait_until(lambda: len(lines(said)) > 5, DEADLINE_S)
    if end == "kill":
        our_box.kill().ok()
    else:
        our_box.delete("--force").ok()
    said.wait().ok()
    assert set(kinds(said)) == {"stats"}
    assert all(line["data"]["pids"]["current"] and line["data"]["cpu"]["usage"]["total"] for line in lines(said))


def test_lines_at_an_interval(box: Box) -> None:
    box.live()
    said = follow(box, "100ms")
    wait_until(lambda: len(lines(said)) > 3, DEADLINE_S)
    assert set(kinds(said)) == {"stats"}
    box.delete("--force").ok()
    said.wait().ok()


def test_a_long_interval_ends_with_the_container(our_box: Box) -> None:
    """An hour is not waited for; nor is a month, which is more than poll(2) takes."""
    our_box.live()
    waiting = [our_box.begin("events", "--interval", text, our_box.name) for text in ("1h", "720h")]
    time.sleep(0.3)
    assert [each.child.poll() for each in waiting] == [None, None]
    our_box.kill().ok()
    assert [each.wait().ok().out for each in waiting] == ["", ""]


def test_a_shortage_of_memory(box: Box) -> None:
    """Told at once, and the container goes on if its first process does."""
    limited(box)
    box.live()
    said = follow(box)
    assert box.exec("/bin/inside", "touch", "128").status == 137
    wait_until(lambda: "oom" in kinds(said), DEADLINE_S, what="oom")
    assert f'{{"type":"oom","id":"{box.name}"}}\n' in said.out
    count = len(lines(said))
    wait_until(lambda: len(lines(said)) > count, DEADLINE_S, what="more figures after it")
    box.delete("--force").ok()
    said.wait().ok()


def test_each_shortage_is_told(our_box: Box) -> None:
    limited(our_box)
    our_box.live()
    said = follow(our_box)
    for count in (1, 2, 3):
        assert our_box.exec("/bin/inside", "touch", "128").status == 137
        _until_told(said, count)
    our_box.kill().ok()
    said.wait().ok()
    assert kinds(said).count("oom") == 3


def _until_told(said: Running, count: int) -> None:
    wait_until(lambda: kinds(said).count("oom") == count, DEADLINE_S, what=f"{count} lines oom")


def test_the_shortage_that_ends_the_container(our_box: Box) -> None:
    """The last line, when the first process itself is the one that is killed."""
    limited(our_box)
    our_box.create("/bin/inside", "touch", "128")
    said = follow(our_box)
    our_box.call("start", our_box.name).ok()
    said.wait().ok()
    assert kinds(said)[-1] == "oom"


@pytest.mark.parametrize("words", [[], ["--stats"]])
def test_of_a_stopped_one(box: Box, words: list[str]) -> None:
    box.create("/bin/true")
    box.call("start", box.name).ok()
    box.until_stopped()
    assert "not running" in box.call("events", *words, box.name).refused().err


def test_of_an_unknown_one(box: Box) -> None:
    assert "does not exist" in box.call("events", "--stats", box.name).refused().err


@pytest.mark.parametrize("text", NO_INTERVALS)
def test_no_interval(box: Box, text: str) -> None:
    box.live()
    assert "interval" in box.call("events", f"--interval={text}", box.name).refused().err


def test_nobody_reads(our_box: Box) -> None:
    """It ends with an error at the first line that cannot be written."""
    our_box.live()
    reader, writer = os.pipe()
    said = our_box.begin("events", "--interval", "50ms", our_box.name, stdout=writer)
    os.close(writer)
    os.close(reader)
    said.wait().refused()
