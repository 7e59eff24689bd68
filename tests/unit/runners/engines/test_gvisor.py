"""What ``runsc`` is told, and its network namespace; no sandbox is started."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tare.runners.base import RunnerError
from tare.runners.container.config.defaults import default_config
from tare.runners.engines.gvisor import RUNNER
from tests.unit.runners.engines.script import on_path


def config(**options: str) -> dict[str, Any]:
    made = default_config(argv=["/payload"], env=[], rootfs="rootfs", cgroup=None, memory_bytes=1 << 26, cpus=1)
    RUNNER.configure(made, options)
    return made


@pytest.mark.parametrize(("network", "own"), [("host", True), ("sandbox", True), ("none", False)])
def test_its_network_namespace_is_made_before_it(network: str, own: bool) -> None:
    spaces = {space["type"]: space.get("path") for space in config(network=network)["linux"]["namespaces"]}
    assert (spaces["network"] is not None) is own
    assert spaces["pid"] is None


def test_it_is_not_asked_for_what_it_does_not_have() -> None:
    assert "mqueue" not in [mount["type"] for mount in config()["mounts"]]


def test_only_the_kernels_stack_can_be_reached() -> None:
    assert RUNNER.reached({}) == RUNNER.reached({"network": "host"}) != ""
    assert RUNNER.reached({"network": "sandbox"}) == RUNNER.reached({"network": "none"}) == ""


def test_the_platform_is_its_own_choice_unless_it_is_named() -> None:
    assert RUNNER.flags({})[-1] == "--network=host"
    assert RUNNER.flags({"platform": "kvm", "network": "none"})[-2:] == ("--network=none", "--platform=kvm")


def test_a_runsc_that_is_missing_or_broken_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    support = RUNNER.probe({}, tmp_path)
    assert (support.ok, support.fix) == (False, "install runsc")
    on_path(tmp_path, monkeypatch, "runsc", "exit 2")
    assert "status 2" in RUNNER.probe({}, tmp_path).why


def test_a_refusal_of_the_kernel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted", "unshare")

    monkeypatch.setattr("tare.runners.engines.gvisor._namespace", refuse)
    with ExitStack() as stack, pytest.raises(RunnerError, match="network namespace"):
        RUNNER.before(None, stack)


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
def test_each_start_gets_a_namespace_of_its_own() -> None:
    with ExitStack() as stack:
        places = [RUNNER.before(None, stack)["@NETNS@"] for _ in range(2)]
        assert len({Path(place).stat().st_ino for place in (*places, "/proc/self/ns/net")}) == 3
