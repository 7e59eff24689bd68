"""Operating systems that boot in containers of LXC and systemd-nspawn, and what can go wrong with them.

The operating system is busybox: an init that runs one script.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tare.bench.experiments import prepare, start
from tare.bench.host import audit, run_cgroup, workspace
from tare.bench.readings.processes import pss_bytes
from tare.bench.records.readiness import Exec, Line, Ready
from tare.bench.records.resolved import Subject, Workload
from tare.runners.base import RunnerError, Scratch
from tare.runners.image.cache import cache_dir
from tests.conftest import require

BUSYBOX = Path("/bin/busybox")
UP = Line(pattern="the system is up")
RUNNERS = ("lxc", "nspawn")


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    """A run's place; at the end nothing may be left in it or of it."""
    require("root", os.geteuid() == 0, "this is not root")
    prefix = workspace.new_prefix()
    with ExitStack() as outer:
        directory = outer.enter_context(workspace.scratch(prefix))
        opened = outer.enter_context(run_cgroup.opened(prefix))
        cgroup = opened.load if opened else None
        before = audit.take(prefix, directory)
        yield Scratch(directory=directory, cache=cache_dir(), cgroup=cgroup, prefix=prefix)
        leaks = audit.difference(before, audit.take(prefix, directory), str)
        assert not leaks, "\n".join(f"{leak.kind}: {leak.name}" for leak in leaks)


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """The files of an operating system, which says when it is up."""
    root = tmp_path / "system"
    for name in ("bin", "sbin", "etc", "dev", "proc", "sys", "run", "tmp", "usr/bin", "root"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in ("sh", "cat", "sleep", "true", "false"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "sbin/init").symlink_to("../bin/busybox")
    (root / "etc/os-release").write_text("ID=test\n")
    (root / "etc/inittab").write_text("::sysinit:/bin/sh /etc/rc\n")
    (root / "etc/rc").write_text("echo the system is up\n")
    return root


def tried(runner: str, image: Path, scratch: Scratch, stack: ExitStack, ready: Ready = UP) -> prepare.Preparation:
    subject = Subject(
        label="system",
        runner=runner,
        options={"boot": "yes"},
        workload=Workload(command=("/sbin/init",), image=f"dir:{image}", ready=ready),
        memory_bytes=64 << 20,
        cpus=1,
    )
    found = prepare.try_subject(subject, prepare.images(scratch.cache), scratch, "1", stack)
    require(runner, found.support.version, found.support.why)
    return found


def begin(
    found: prepare.Preparation, scratch: Scratch, stack: ExitStack, ready: Ready = UP, timeout_s: float = 60
) -> start.Started:
    assert found.ready is not None, found.support.why
    contract = start.Contract(ready=ready, timeout_s=timeout_s)
    return start.start(stack, found.ready.prepared.launch, f"{scratch.prefix}-1", contract, interrupts=None)


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_init_is_process_1_until_it_is_stopped(runner: str, scratch: Scratch, system: Path) -> None:
    with ExitStack() as helpers, ExitStack() as stack:
        begun = begin(tried(runner, system, scratch, helpers), scratch, stack)
        asked = begun.instance.command(["/bin/cat", "/proc/1/comm"])
        said = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=30)
        assert said.stdout == "init\n", said.stderr
        assert pss_bytes(begun.instance.pids()) > 0
        assert begun.instance.status() is None


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_command_beside_it_says_when_it_is_up(runner: str, scratch: Scratch, system: Path) -> None:
    (system / "etc/rc").write_text("echo > /run/up\n")
    ready = Exec(argv=("/bin/cat", "/run/up"))
    with ExitStack() as helpers, ExitStack() as stack:
        assert begin(tried(runner, system, scratch, helpers, ready), scratch, stack, ready).stamps["ready"]


@pytest.mark.parametrize("runner", RUNNERS)
def test_one_that_never_gets_up_is_a_reason_with_its_last_words(runner: str, scratch: Scratch, system: Path) -> None:
    (system / "etc/rc").write_text("echo waiting for a disk; sleep 600\n")
    with ExitStack() as helpers, ExitStack() as stack:
        found = tried(runner, system, scratch, helpers)
        with pytest.raises(start.StartFailed) as caught:
            begin(found, scratch, stack, timeout_s=3)
        assert caught.value.status == "timeout"
        assert "waiting for a disk" in caught.value.reason


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_image_without_an_init_is_refused_before_anything_starts(
    runner: str, scratch: Scratch, system: Path
) -> None:
    (system / "sbin/init").unlink()
    with ExitStack() as helpers:
        found = tried(runner, system, scratch, helpers)
        assert found.ready is None
        assert "has no program /sbin/init" in found.support.why


@pytest.mark.parametrize("runner", RUNNERS)
def test_an_init_that_cannot_be_executed_is_a_reason(runner: str, scratch: Scratch, system: Path) -> None:
    (system / "sbin/init").unlink()
    (system / "sbin/init").write_text("#!/nowhere\n")
    (system / "sbin/init").chmod(0o755)
    with ExitStack() as helpers, ExitStack() as stack:
        found = tried(runner, system, scratch, helpers)
        with pytest.raises((start.StartFailed, RunnerError)) as caught:
            begin(found, scratch, stack, timeout_s=20)
        assert str(caught.value)
