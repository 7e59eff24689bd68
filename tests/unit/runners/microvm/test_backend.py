"""What the probe of the small monitors says, and what they are not given; no machine is started."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tare.runners.base import RunnerError, Spec
from tare.runners.image import sources
from tare.runners.image.kernel import Kernel
from tare.runners.image.tree import plain
from tare.runners.launch import drain
from tare.runners.microvm import machine
from tare.runners.microvm.backend import CLOUD_HYPERVISOR_RUNNER, FIRECRACKER_RUNNER, Microvm
from tare.runners.vm import acceleration
from tests.conftest import wait_until

BOTH = pytest.mark.parametrize(
    "runner", [FIRECRACKER_RUNNER, CLOUD_HYPERVISOR_RUNNER], ids=lambda each: each.monitor.name
)
SPEC = Spec(argv=("/payload",), image=plain(Path("/srv/root")), memory_bytes=128 << 20, cpus=1)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with a kernel in it; nobody starts it."""
    directory = tmp_path / "cache" / "linux-6.1.0-d"
    directory.mkdir(parents=True)
    (directory / "release.txt").write_text("6.1.0\n")
    (directory / "vmlinux").touch()
    return directory.parent


def program(tmp_path: Path, text: str = "echo Monitor v1.2") -> Path:
    file = tmp_path / "monitor"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


@BOTH
def test_without_a_program_the_reason_says_how_to_give_one(
    runner: Microvm, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(cache))
    support = runner.probe({}, cache)
    assert not support.ok
    assert f"no executable file {runner.monitor.name} on PATH" in support.why
    assert runner.monitor.published in support.fix
    assert "options = { path =" in support.fix


@BOTH
def test_a_program_that_cannot_be_executed_or_fails_is_a_reason(runner: Microvm, cache: Path, tmp_path: Path) -> None:
    file = program(tmp_path, "echo broken >&2; exit 3")
    support = runner.probe({"path": str(file)}, cache)
    assert (support.ok, "broken" in support.why) == (False, True)
    file.chmod(0o644)
    support = runner.probe({"path": str(file)}, cache)
    assert (support.ok, support.fix) == (False, f"chmod +x {file}")
    assert "not executable" in support.why


@BOTH
def test_without_a_proof_of_kvm_it_is_skipped_with_the_reason_of_the_proof(
    runner: Microvm, cache: Path, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    file = program(tmp_path, f'case $1 in --version) echo Monitor v1.2 ;; *) : >"{started}" ;; esac')
    proof = acceleration.Proof(cpu=None, why="host processor: the guest printed nothing", fix="use another host")
    unproved = replace(runner, prove=lambda *_: proof)
    support = unproved.probe({"path": str(file)}, cache)
    assert (support.ok, support.accelerator, support.fix) == (False, None, "use another host")
    assert support.why == f"{runner.monitor.title} runs with KVM alone: {proof.why}"
    assert support.version == "Monitor v1.2"
    assert not started.exists(), "nothing is started that needs it"


@BOTH
def test_the_proof_is_that_of_the_probe_guest(
    runner: Microvm, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def by_guest(_hypervisor: object, type_: str, kernel: Kernel, _cache: Path) -> acceleration.Proof:
        asked.append(f"{type_} {kernel.release}")
        return acceleration.Proof(cpu=None, why="no sign of life")

    monkeypatch.setattr(acceleration, "device_trouble", lambda: "")
    monkeypatch.setattr(acceleration, "connect", lambda *_: ExitStack())
    monkeypatch.setattr(acceleration, "by_guest", by_guest)
    assert "no sign of life" in runner.probe({"path": str(program(tmp_path))}, cache).why
    assert asked == ["q35 6.1.0"]
    monkeypatch.setattr(acceleration, "device_trouble", lambda: "/dev/kvm: No such file or directory")
    assert "/dev/kvm" in runner.probe({"path": str(program(tmp_path))}, cache).why
    assert len(asked) == 1


def test_only_cloud_hypervisor_takes_a_compressed_kernel(cache: Path, tmp_path: Path) -> None:
    (cache / "linux-6.1.0-d" / "release.txt").write_text("6.1.0\nit has no PVH entry\n")
    options = {"path": str(program(tmp_path))}
    proof = acceleration.Proof(cpu=None, why="asked")
    packed = [
        replace(runner, prove=lambda *_: proof).probe(options, cache)
        for runner in (FIRECRACKER_RUNNER, CLOUD_HYPERVISOR_RUNNER)
    ]
    assert "compressed: it has no PVH entry" in packed[0].why
    assert "vmlinux" in packed[0].fix
    assert "asked" in packed[1].why


@BOTH
def test_another_processor_is_a_reason(runner: Microvm, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = os.uname()
    other = os.uname_result((said.sysname, said.nodename, said.release, said.version, "riscv64"))
    monkeypatch.setattr(os, "uname", lambda: other)
    assert "riscv64" in runner.probe({}, cache).why


@BOTH
@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (replace(SPEC, cpus=256), "256 processors"),
        (replace(SPEC, memory_bytes=16 << 20), "16 MiB are not enough"),
        (replace(SPEC, image=sources.find("host", Path("/nowhere"))), "image host"),
    ],
)
def test_what_it_cannot_have_is_refused(runner: Microvm, spec: Spec, what: str) -> None:
    with pytest.raises(RunnerError, match=what):
        runner._check(spec)


@BOTH
def test_only_a_monitor_whose_owner_has_ended_is_swept(runner: Microvm) -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    mark = runner.monitor.mark

    def waiting(*words: str) -> subprocess.Popen[bytes]:
        # a command of the shell: a child of it would have the same command line for a moment
        return subprocess.Popen(["sh", "-c", "read line", *words], stdin=subprocess.PIPE)

    with (
        waiting(mark, f"/tmp/tare-1a/0/tare-owner-{dead.pid}/one.log") as orphan,
        waiting(mark, "/home/me/vm.json") as users,
        waiting(mark, f"/tmp/tare-1a/0/tare-owner-{os.getpid()}/one.log") as ours,
    ):
        for each in (orphan, users, ours):
            told = Path(f"/proc/{each.pid}/cmdline")
            wait_until(lambda told=told: mark.encode() in told.read_bytes(), 10, what="its program")  # type: ignore[misc]
        removed = list(runner.sweep())
        wait_until(lambda: orphan.poll() is not None, 10, what="its end")
        assert (users.poll(), ours.poll()) == (None, None)
        users.kill()
        ours.kill()
    assert removed == [f"process {orphan.pid} (sh)"]


def test_all_of_a_long_output_comes_through_to_a_slow_reader() -> None:
    with ExitStack() as ours, ExitStack() as theirs:
        console, out, tail = machine.copied(ours, theirs)
        with subprocess.Popen(["head", "-c", "300000", "/dev/zero"], stdout=out):
            theirs.close()
            got = 0
            os.set_blocking(console, True)
            while data := os.read(console, 4096):
                got += len(data)
        assert got == 300000
        assert len(tail.text()) == 8000


def test_a_console_that_nobody_reads_can_be_left() -> None:
    with ExitStack() as ours, ExitStack() as theirs:
        _console, out, _ = machine.copied(ours, theirs)
        writer = subprocess.Popen(["head", "-c", "300000", "/dev/zero"], stdout=out)
        theirs.close()
    writer.wait(10)


def test_a_monitor_is_ended_when_it_says_that_its_guest_restarts() -> None:
    events, its = os.pipe()
    os.set_blocking(events, False)
    with ExitStack() as stack:
        stack.callback(drain.close, events)
        stack.callback(os.close, its)
        with subprocess.Popen(["sleep", "60"]) as monitor:
            said = machine.ended_on_restart(events, monitor.pid, stack)
            os.write(its, b'{\n  "source": "vm",\n  "event": "booted"\n}')
            drain.catch_up(events)
            assert not machine.restarts(said)
            assert monitor.poll() is None
            for part in (b'{"event": "reboo', b'ting"}'):
                os.write(its, part)
            wait_until(lambda: monitor.poll() is not None, 10, what="its end")
            assert machine.restarts(said)
