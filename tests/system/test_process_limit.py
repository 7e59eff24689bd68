"""A bare process in a cgroup of its own: the limit bites, is explained, and hits nobody else."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tare.bench.records import store
from tare.runners import payload, process
from tare.runners.base import Instance, RunnerError, Scratch, Spec
from tare.runners.container.cgroup import cgroups
from tare.runners.image.cache import cache_dir
from tare.runners.image.tree import plain
from tests import cli
from tests.conftest import require, wait_until

LIMITED = {"limit": "cgroup"}
DEADLINE_MS = 20_000
SCENARIO = """
schema = 1
question = "How little is enough?"
experiment = "least-memory"
reference = "limited"
[run]
rounds = 1
warmup = 0
[least]
high_mib = 16
step_kib = 4
[[subjects]]
label = "limited"
runner = "process"
options = { limit = "cgroup" }
[[subjects]]
label = "free"
runner = "process"
[[subjects]]
label = "container"
runner = "container"
"""


@pytest.fixture(autouse=True)
def _cgroups() -> None:
    require("root", os.geteuid() == 0, "this is not root")
    trouble = cgroups.usable()
    require("cgroups", not trouble, trouble)


@pytest.fixture
def parent() -> Iterator[cgroups.Cgroup]:
    """A cgroup that stands for a run's; its removal fails if an instance left something in it."""
    group = cgroups.at(f"tare-limit-{os.getpid()}")
    try:
        yield group
        assert not any(entry.is_dir() for path in group.paths() if path.exists() for entry in path.iterdir())
    finally:
        group.kill()
        group.remove()


@contextmanager
def started(
    parent: cgroups.Cgroup,
    name: str,
    directory: Path,
    *,
    memory_bytes: int = 32 << 20,
    program: Path | None = None,
    touch: int = 0,
) -> Iterator[Instance]:
    """Start the payload, or *program* in its place."""
    image = directory / f"image-{name}"
    image.mkdir()
    (image / payload.PATH[1:]).symlink_to(program or payload.binary(cache_dir()))
    argv = payload.Payload(touch_mib=touch).argv
    spec = Spec(argv=argv, image=plain(image), memory_bytes=memory_bytes, cpus=1)
    scratch = Scratch(directory=directory, cache=cache_dir(), cgroup=parent.relative, prefix=parent.relative)
    with process.prepare(spec, LIMITED, scratch) as prepared, prepared.launch(name, lambda _: None) as instance:
        yield instance


def heard(instance: Instance, word: bytes) -> bool:
    """Whether *word* comes before the end of the console."""
    text = b""
    poll = select.poll()
    poll.register(instance.console, select.POLLIN)
    while word not in text:
        assert poll.poll(DEADLINE_MS), f"silence after {text!r}"
        data = os.read(instance.console, 4096)
        if not data:
            return False
        text += data
    return True


def test_one_beyond_its_grant_dies_and_the_other_lives(parent: cgroups.Cgroup, tmp_path: Path) -> None:
    with (
        started(parent, "modest", tmp_path, touch=8) as modest,
        started(parent, "greedy", tmp_path, touch=64) as greedy,
    ):
        assert heard(modest, b"tare ready")
        assert not heard(greedy, b"tare ready")
        assert greedy.explain() == "the process was killed by SIGKILL: it reached the memory limit of its cgroup"
        assert modest.explain() == ""
        assert len(modest.pids()) == 1


def test_another_death_is_not_blamed_on_the_limit(parent: cgroups.Cgroup, tmp_path: Path) -> None:
    with started(parent, "one", tmp_path) as one:
        assert heard(one, b"tare ready")
        os.kill(min(one.pids()), 9)
        assert not heard(one, b"never")
        assert one.explain() == "the process was killed by SIGKILL"


def test_only_its_own_memory_is_charged(parent: cgroups.Cgroup, tmp_path: Path) -> None:
    """The payload takes some 100 KiB; the harness, which starts it, and the gate have megabytes."""
    with started(parent, "one", tmp_path, memory_bytes=160 << 10) as one:
        assert heard(one, b"tare ready"), one.explain()
    with started(parent, "two", tmp_path, memory_bytes=16 << 10) as two:
        assert not heard(two, b"tare ready")
        assert "it reached the memory limit" in two.explain()


def test_all_limits_of_the_grant_are_set_and_nothing_else_is_new(parent: cgroups.Cgroup, tmp_path: Path) -> None:
    with started(parent, "one", tmp_path) as one:
        (pid,) = one.pids()
        group = parent.child("one")
        wanted = dict(group.limits(memory_bytes=32 << 20, pids=512, cpus=1))
        assert {path: Path(path).read_text().strip() for path in wanted} == wanted
        assert one.cgroup == group.path
        for name in ("mnt", "pid", "net", "uts", "ipc", "cgroup", "user"):
            assert Path(f"/proc/{pid}/ns/{name}").readlink() == Path(f"/proc/self/ns/{name}").readlink()
        assert Path(f"/proc/{pid}/root").readlink() == Path("/")


def test_what_it_forks_ends_with_it(parent: cgroups.Cgroup, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nsleep 1000 &\necho tare ready\nwait\n")
    script.chmod(0o755)
    with started(parent, "one", tmp_path, program=script) as one:
        assert heard(one, b"tare ready")
        pids = one.pids()
        assert len(pids) == 2
    gone = lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids)  # noqa: E731
    wait_until(gone, 5, what="what it forked, reaped by another,")


def test_a_program_that_the_kernel_refuses_leaves_nothing(parent: cgroups.Cgroup, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0\1\2")
    broken.chmod(0o755)
    with pytest.raises(RunnerError, match="Exec format error"), started(parent, "one", tmp_path, program=broken):
        pass
    assert not parent.child("one").pids()


def test_the_least_grant_of_a_process_is_below_that_of_a_container(tmp_path: Path) -> None:
    file = tmp_path / "least.toml"
    file.write_text(SCENARIO)
    done = cli.tare("run", file, "--results", tmp_path / "runs")
    run = store.load(Path(done.stdout.strip()))
    outcomes = {outcome.subject: outcome for outcome in run.outcomes}
    assert (outcomes["free"].status, outcomes["limited"].status) == ("skipped", "ok"), done.stderr
    least = {sample.subject: sample.value for sample in run.samples if sample.metric == "least_memory_bytes"}
    assert 32 << 10 < least["limited"] < least["container"] < 2 << 20
    assert run.header.leaks == ()
