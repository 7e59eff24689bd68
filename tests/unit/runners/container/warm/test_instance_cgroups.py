"""Cgroups of many instances below one; on a directory that plays a hierarchy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare.runners.container.cgroup.devices import RulesV1
from tare.runners.container.cgroup.hierarchies import Layout
from tare.runners.container.cgroup.v1 import V1
from tare.runners.container.warm.instance_cgroups import InstanceCgroupsV1, Limits


@pytest.fixture
def parent(tmp_path: Path) -> V1:
    mounts = {name: os.fspath(tmp_path / name) for name in ("memory", "pids", "cpu", "devices")}
    mounts["cpuacct"] = mounts["cpu"]
    group = V1("tare-1/run", Layout("v1", mounts, tuple(dict.fromkeys(mounts.values())), None))
    group.create()
    return group


def test_all_directories_and_the_entrances_to_them(parent: V1, tmp_path: Path) -> None:
    rules = RulesV1(parent, "rules")
    rules.group.create()
    with InstanceCgroupsV1(parent, rules, Limits(memory_bytes=None, pids=None, cpus=None)) as siblings:
        siblings.create("one")
        directories = [
            *(tmp_path / f"{name}/tare-1/run/one" for name in ("memory", "pids", "cpu")),
            tmp_path / "devices/tare-1/run/rules/one",
        ]
        assert siblings.entrances("one") == [f"{each}/tasks" for each in directories]
        assert all(each.is_dir() for each in directories)
        assert siblings.of("one").relative == "tare-1/run/one"
        siblings.remove("one")
        assert not any(each.exists() for each in directories)


def test_limits_are_those_of_a_single_cgroup(parent: V1, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain directory has no files of the kernel: they are made with it here."""
    limits = Limits(memory_bytes=1 << 26, pids=16, cpus=0.5)
    expected = parent.child("one").limits(memory_bytes=limits.memory_bytes, pids=limits.pids, cpus=limits.cpus)
    mkdir = os.mkdir

    def as_the_kernel_does(name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        mkdir(name, mode, dir_fd=dir_fd)
        for path, _ in expected:
            if Path(path).parent.exists():
                Path(path).touch()

    monkeypatch.setattr(os, "mkdir", as_the_kernel_does)
    with InstanceCgroupsV1(parent, None, limits) as siblings:
        siblings.create("one")
    assert [(path, Path(path).read_text()) for path, _ in expected] == expected
    assert len(expected) == 3


@pytest.mark.parametrize(("pids", "refused"), [(None, "memory/tare-1/run/one"), (16, "pids/tare-1/run/two/pids.max")])
def test_a_refusal_names_the_path(parent: V1, tmp_path: Path, pids: int | None, refused: str) -> None:
    """That of a directory that is there already, and of a file that is not."""
    parent.child("one").create()
    limits = Limits(memory_bytes=None, pids=pids, cpus=None)
    with (
        InstanceCgroupsV1(parent, None, limits) as siblings,
        pytest.raises(OSError, match=r"File exists|No such") as caught,
    ):
        siblings.create("one" if pids is None else "two")
    assert caught.value.filename == os.fspath(tmp_path / refused)


def test_no_descriptor_is_left(parent: V1, tmp_path: Path) -> None:
    limits = Limits(memory_bytes=None, pids=None, cpus=None)
    before = os.listdir("/proc/self/fd")
    with InstanceCgroupsV1(parent, None, limits):
        assert len(os.listdir("/proc/self/fd")) == len(before) + 3
    (tmp_path / "pids/tare-1/run").rmdir()
    with pytest.raises(FileNotFoundError), InstanceCgroupsV1(parent, None, limits):
        pass
    assert os.listdir("/proc/self/fd") == before
