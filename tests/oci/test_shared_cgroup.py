"""Containers in one cgroup: a warning, and each of them ends alone."""

from __future__ import annotations

import json
import os

import pytest

from tests.conftest import wait_until
from tests.oci import leftovers
from tests.oci.harness import DEADLINE_S, Box, Done
from tests.oci.test_cgroups import group

SLEEP = ("/bin/sh", "-c", "sleep 1000 & sleep 1000")
ROOTS = {"own pid namespace": True, "the host's processes": False}


@pytest.fixture(params=ROOTS.values(), ids=list(ROOTS))
def two(our_box: Box, request: pytest.FixtureRequest) -> Box:
    """A box with a container that lives, and another, ``NAME-2``, in its cgroup."""
    if not request.param:
        our_box.linux["namespaces"] = [each for each in our_box.linux["namespaces"] if each["type"] != "pid"]
    our_box.process["args"] = list(SLEEP)
    our_box.save()
    our_box.call("run", "--detach", "--bundle", os.fspath(our_box.bundle), our_box.name).ok()
    done = our_box.call("run", "--detach", "--bundle", os.fspath(our_box.bundle), other(our_box)).ok()
    assert f"container's cgroup is not empty: /{our_box.name} has " in done.err
    assert f"it is shared with the container {our_box.name}" in done.err
    return our_box


def other(box: Box) -> str:
    return f"{box.name}-2"


def status(box: Box, name: str) -> str:
    return str(json.loads(box.call("state", name).ok().out)["status"])


def processes(box: Box) -> int:
    return len((group("pids", box) / "cgroup.procs").read_text().split())


def until_processes(box: Box, count: int) -> None:
    wait_until(lambda: processes(box) == count, DEADLINE_S, what=f"{count} processes are in the cgroup")


def end_both(box: Box) -> None:
    for name in (other(box), box.name):
        box.call("delete", "--force", name).ok()
    leftovers.sweep(box.name)


def test_each_is_deleted_alone(two: Box) -> None:
    until_processes(two, 4)
    two.call("delete", "--force", other(two)).ok()
    assert status(two, two.name) == "running"
    until_processes(two, 2)
    two.exec("/bin/true").ok()
    two.delete("--force").ok()
    leftovers.sweep(two.name)
    assert not group("pids", two).exists()


def test_the_first_may_go_before_the_second(two: Box) -> None:
    until_processes(two, 4)
    two.delete("--force").ok()
    assert status(two, other(two)) == "running"
    until_processes(two, 2)
    two.call("delete", "--force", other(two)).ok()
    leftovers.sweep(two.name)
    assert not group("pids", two).exists()


@pytest.mark.parametrize("signal_name", ["KILL", "USR1"])
def test_kill_all_is_for_one(two: Box, signal_name: str) -> None:
    until_processes(two, 4)
    two.call("kill", "--all", other(two), signal_name).ok()
    # The first process of a pid namespace ignores what it has no handler for (pid_namespaces(7)); its child does not.
    ignored = signal_name == "USR1" and any(each["type"] == "pid" for each in two.linux["namespaces"])
    until_processes(two, 3 if ignored else 2)
    assert status(two, other(two)) == ("running" if ignored else "stopped")
    assert status(two, two.name) == "running"
    end_both(two)


def test_both_are_paused_and_one_is_deleted(two: Box) -> None:
    """The cgroup is one, so a pause is for both; what is to die runs again, and so does the other."""
    until_processes(two, 4)
    two.call("pause", two.name).ok()
    assert status(two, other(two)) == "paused"
    two.call("delete", "--force", other(two)).ok()
    assert status(two, two.name) == "running"
    until_processes(two, 2)
    two.delete("--force").ok()
    leftovers.sweep(two.name)


def test_a_creation_that_fails_leaves_the_other(two: Box) -> None:
    until_processes(two, 4)
    two.process["args"] = ["/no/such/program"]
    two.save()
    failed: Done = two.call("run", "--bundle", os.fspath(two.bundle), f"{two.name}-3")
    failed.refused()
    two.config["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    two.save()
    two.call("create", "--bundle", os.fspath(two.bundle), f"{two.name}-3").refused()
    assert [status(two, name) for name in (two.name, other(two))] == ["running", "running"]
    until_processes(two, 4)
    end_both(two)


def test_the_last_one_takes_all_with_it(two: Box) -> None:
    """What a container without a pid namespace leaves in the cgroup goes with the last that lives there."""
    until_processes(two, 4)
    two.kill()
    two.until_stopped()
    two.call("delete", other(two), "--force").ok()
    two.delete().ok()
    leftovers.sweep(two.name)
    assert not group("pids", two).exists()


def test_in_the_foreground_its_end_leaves_the_other(two: Box) -> None:
    two.process["args"] = ["/bin/echo", "there"]
    two.save()
    done = two.call("run", "--bundle", os.fspath(two.bundle), f"{two.name}-3").ok()
    assert done.out == "there\n"
    assert [status(two, name) for name in (two.name, other(two))] == ["running", "running"]
    until_processes(two, 4)
    end_both(two)


def test_with_nobody_alive_it_is_free_again(our_box: Box) -> None:
    our_box.create("/bin/sleep", "1000")
    our_box.kill()
    our_box.until_stopped()
    our_box.process["args"] = ["/bin/echo", "there"]
    our_box.save()
    done = our_box.call("run", "--bundle", os.fspath(our_box.bundle), other(our_box)).ok()
    assert (done.out, done.err) == ("there\n", "")
    our_box.delete().ok()
    leftovers.sweep(our_box.name)
