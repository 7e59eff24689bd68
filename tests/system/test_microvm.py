"""The small monitors, in whose place a program of the tests emulates the machine: all but that program is real."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tare import reports, runners
from tare.bench import engine, experiments
from tare.bench.experiments import prepare, start
from tare.bench.host import audit, clean, run_cgroup, workspace
from tare.bench.monitor import Silent
from tare.bench.readings.processes import pss_bytes
from tare.bench.records import store
from tare.bench.records.readiness import Exit, Line, Mark, Ready
from tare.bench.records.resolved import Subject, Workload
from tare.runners.base import Instance, RunnerError, Scratch, Spec
from tare.runners.image.cache import cache_dir
from tare.runners.image.kernel import find
from tare.runners.image.rootfs import payload_root
from tare.runners.image.tree import plain
from tare.runners.microvm.backend import CLOUD_HYPERVISOR_RUNNER, FIRECRACKER_RUNNER, Microvm
from tare.runners.payload import Payload
from tare.runners.vm.acceleration import Proof
from tests import cli, served
from tests.conftest import require, wait_until

STANDIN = Path(__file__).with_name("standin.py")
OPTIONS = {"path": str(STANDIN)}
#: Long enough for an emulated guest on a loaded host.
DEADLINE_S = 60.0
MEMORY_BYTES = 128 << 20


def _emulated(_kernel: object, _cache: Path) -> Proof:
    return Proof(cpu="host", why="nothing: the stand-in emulates")


#: The runners, but for the proof of KVM, which the stand-in does not need.
FIRECRACKER = replace(FIRECRACKER_RUNNER, prove=_emulated)
CLOUD_HYPERVISOR = replace(CLOUD_HYPERVISOR_RUNNER, prove=_emulated)
NAMES = ("firecracker", "cloud-hypervisor")
#: As the registry has them.
PLACES = {NAMES[0]: f"{__name__}:FIRECRACKER", NAMES[1]: f"{__name__}:CLOUD_HYPERVISOR"}


@dataclass
class Stage:
    """One run's place for machines of one monitor."""

    name: str
    scratch: Scratch
    stack: ExitStack
    marks: list[str] = field(default_factory=list)

    @property
    def runner(self) -> Microvm:
        found: Microvm = runners.load(self.name)  # type: ignore[assignment]
        return found

    def machine(self, *words: str, options: dict[str, str] | None = None, memory_bytes: int = MEMORY_BYTES) -> Instance:
        root = plain(payload_root(self.scratch.cache))
        spec = Spec(argv=words or Payload().argv, image=root, memory_bytes=memory_bytes, cpus=1)
        prepared = self.stack.enter_context(self.runner.prepare(spec, options or OPTIONS, self.scratch))
        return self.stack.enter_context(prepared.launch(f"{self.scratch.prefix}-1", self.marks.append))

    def begun(self, ready: Ready, image: Path, *words: str, options: dict[str, str] | None = None) -> start.Started:
        """One start, awaited, of the server of *image* with *words*."""
        subject = Subject(
            label=self.name,
            runner=self.name,
            options=dict(options or OPTIONS),
            workload=Workload(command=(served.PROGRAM, *words), image=f"dir:{image}", ready=ready),
            memory_bytes=MEMORY_BYTES,
            cpus=1,
        )
        images = prepare.images(self.scratch.cache)
        tried = prepare.try_subject(subject, images, self.scratch, secrets.token_hex(2), self.stack)
        assert tried.ready is not None, tried.support.why
        contract = start.Contract(ready=ready, timeout_s=DEADLINE_S)
        launch = tried.ready.prepared.launch
        return start.start(self.stack, launch, f"{self.scratch.prefix}-1", contract, interrupts=None)


@pytest.fixture(autouse=True)
def _can_emulate(monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("qemu-system-x86_64", "setpriv"):
        require("qemu", shutil.which(program), f"no {program} on PATH")
    for name, place in PLACES.items():
        monkeypatch.setitem(runners.REGISTRY, name, place)


@pytest.fixture(params=NAMES)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """A place of its own; at the end nothing may be left."""
    prefix = workspace.new_prefix()
    with workspace.scratch(prefix) as directory, run_cgroup.opened(prefix) as opened:
        cgroup = opened.load if opened else None
        before = audit.take(prefix, directory)
        with ExitStack() as stack:
            yield Stage(
                request.param, Scratch(directory=directory, cache=cache_dir(), cgroup=cgroup, prefix=prefix), stack
            )
        leaks = audit.difference(before, audit.take(prefix, directory), str)
        assert not leaks, "\n".join(f"{leak.kind}: {leak.name}" for leak in leaks)
        left = [str(path) for path in directory.rglob("*") if path.is_file() or path.name.startswith("tare-owner-")]
        assert left == []


def read_until(instance: Instance, end: bytes | None) -> bytes:
    """The console up to the line *end*, or up to its end of file when *end* is None."""
    text = b""
    poll = select.poll()
    poll.register(instance.console, select.POLLIN)
    while end is None or end not in text:
        assert poll.poll(DEADLINE_S * 1000), f"silence after {text!r}; {instance.explain()}"
        data = os.read(instance.console, 65536)
        if not data:
            assert end is None, f"ended after {text!r}; {instance.explain()}"
            break
        text += data.replace(b"\r\n", b"\n")
    return text


def test_the_probe_boots_one_and_says_what_is_not_there(stage: Stage) -> None:
    support = stage.runner.probe(OPTIONS, cache_dir())
    assert support.ok, support.why
    assert support.version == f"stand-in v1.0, Linux {find(cache_dir()).release}"
    assert (support.accelerator, support.walls, support.unlimited) == ("kvm", ("own kernel",), ())
    assert (support.reached, support.enters, support.reclaims, support.images) == ("", "", "", ("host",))
    for missing in ("network", "further commands", "disk", "balloon"):
        assert support.facts[missing].startswith("none: ")


def test_a_machine_is_ready_by_its_mark_is_counted_and_leaves_nothing(stage: Stage) -> None:
    with stage.stack:
        instance = stage.machine()
        text = read_until(instance, b"tare ready\n")
        assert text.index(b"tare first\n") < text.index(b"tare ready\n")
        pids = instance.pids()
        assert instance.monitor.pid in pids  # type: ignore[attr-defined]
        assert pss_bytes(pids) > 32 << 20, "the guest's memory is the monitor's"
        assert instance.cgroup is None or instance.pids() == pids
        with pytest.raises(BlockingIOError):
            os.read(instance.console, 1)
        for refused in (instance.address, lambda: instance.command(("ls",)), lambda: instance.reclaim(1 << 20)):
            with pytest.raises(RunnerError):
                refused()
    assert stage.marks == ["created", "stopped"]
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 10, what="their end")


def test_one_that_is_left_before_it_is_ready_leaves_nothing(stage: Stage) -> None:
    with stage.stack:
        stage.machine()


def test_a_payload_that_ends_ends_its_machine(stage: Stage) -> None:
    with stage.stack:
        instance = stage.machine(*Payload(exit_code=3).argv)
        assert b"tare exit 3\n" in read_until(instance, None)
        assert instance.explain().endswith("ended with status 0")


def test_a_guest_that_panics_ends_its_machine_and_says_why(stage: Stage) -> None:
    with stage.stack:
        instance = stage.machine("/missing")
        assert b"Kernel panic" in read_until(instance, None)
        restarted = "its guest restarted, so the machine was ended"
        assert instance.explain() == ("standin.py ended with status 0" if stage.name == NAMES[0] else restarted)


def test_a_line_and_an_end_of_a_workload_count(stage: Stage, tmp_path: Path) -> None:
    image = served.image(tmp_path / "image")
    with stage.stack:
        begun = stage.begun(Line(pattern="^up and running$"), image, "say=not yet", "say=up and running")
        assert "up and running" in begun.console.tail()
        assert begun.instance.status() is None


def test_the_status_of_a_workload_comes_with_its_end(stage: Stage, tmp_path: Path) -> None:
    image = served.image(tmp_path / "image")
    with stage.stack:
        begun = stage.begun(Exit(code=3), image, "delay=20", "say=the end", "exit=3")
        assert begun.instance.status() == 3
        assert "the end" in begun.console.tail()
        assert "the workload ended with status 3" in begun.instance.explain()


def test_a_workload_whose_machine_is_killed_was_killed(stage: Stage, tmp_path: Path) -> None:
    image = served.image(tmp_path / "image")
    with stage.stack:
        begun = stage.begun(Line(pattern="up"), image, "say=up")
        os.kill(begun.instance.monitor.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        assert wait_until(begun.instance.status, DEADLINE_S, what="its end") == 137
        assert "ended with status -9" in begun.instance.explain()


def test_an_image_that_does_not_fit_into_memory_is_refused_without_advice_that_does_not_help(
    stage: Stage, tmp_path: Path
) -> None:
    image = served.image(tmp_path / "image")
    with (image / "large").open("wb") as file:
        file.truncate(200 << 20)
    spec = Spec(argv=("/bin/server",), image=plain(image), memory_bytes=MEMORY_BYTES, cpus=1, custom=True)
    with pytest.raises(RunnerError, match="too large") as caught, stage.runner.prepare(spec, OPTIONS, stage.scratch):
        pass
    assert "raise memory_mib" in caught.value.fix
    assert "disk" not in caught.value.fix


def test_a_program_that_ends_at_once_is_an_outcome_with_its_last_words(stage: Stage, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text(
        "#!/bin/sh\ncase $1 in --version) echo broken v1; exit ;; esac\n"
        'for last; do case $last in *.log) echo "the log: no memory" >>"$last" ;; esac; done\n'
        "echo 'the guest memory cannot be had' >&2\nexit 3\n"
    )
    broken.chmod(0o755)
    support = stage.runner.probe({"path": str(broken)}, cache_dir())
    assert not support.ok
    for word in ("the guest memory cannot be had", "broken ended with status 3", "the log: no memory"):
        assert word in support.why
    assert stage.runner.monitor.published in support.fix
    prepared = stage.stack.enter_context(
        stage.runner.prepare(
            Spec(argv=Payload().argv, image=plain(payload_root(cache_dir())), memory_bytes=MEMORY_BYTES, cpus=1),
            {"path": str(broken)},
            stage.scratch,
        )
    )
    contract = start.Contract(ready=Mark(), timeout_s=DEADLINE_S)
    with pytest.raises(start.StartFailed) as caught, ExitStack() as stack:
        start.start(stack, prepared.launch, f"{stage.scratch.prefix}-1", contract, interrupts=None)
    assert "the guest memory cannot be had" in str(caught.value)


ORPHANED = """
import os, signal, sys
from tare import runners
from tare.bench.host import run_cgroup, workspace
from tare.runners.base import Scratch, Spec
from tare.runners.image.cache import cache_dir
from tare.runners.image.rootfs import payload_root
from tare.runners.image.tree import plain
name, path = sys.argv[1:]
cache, prefix = cache_dir(), workspace.new_prefix()
spec = Spec(argv=("/payload",), image=plain(payload_root(cache)), memory_bytes=128 << 20, cpus=1)
with workspace.scratch(prefix) as directory, run_cgroup.opened(prefix) as opened:
    scratch = Scratch(directory=directory, cache=cache, cgroup=opened.load if opened else None, prefix=prefix)
    with runners.load(name).prepare(spec, {"path": path}, scratch) as prepared:
        with prepared.launch(prefix + "-1", lambda phase: None) as instance:
            print(prefix, instance.monitor.pid, os.getpid(), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", NAMES)
def test_the_next_sweep_ends_what_a_killed_run_left(name: str) -> None:
    words = [sys.executable, "-c", ORPHANED, name, str(STANDIN)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=cli.ROOT, env=cli.environment()) as run:
        assert run.stdout is not None
        prefix, monitor, owner = run.stdout.readline().split()
    assert run.returncode == -signal.SIGKILL
    assert (Path("/proc") / monitor).exists()
    removed: list[str] = []
    clean.remove_leftovers(removed.append)
    assert any(text.startswith(f"process {monitor} ") for text in removed), removed
    assert any(text.startswith("directory ") and prefix in text for text in removed)
    wait_until(lambda: not alive(f"tare-owner-{owner}"), 10, what="its end")
    assert not workspace.leftovers()
    removed.clear()
    clean.remove_leftovers(removed.append)
    assert removed == []


def alive(word: str) -> list[str]:
    """The processes of this host whose command line has *word*."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if word in (process / "cmdline").read_text(errors="replace"):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_a_run_with_both_is_a_run_as_any_other(tmp_path: Path) -> None:
    subjects = "".join(
        f'[[subjects]]\nlabel = "{name}"\nrunner = "{name}"\noptions = {{ path = "{STANDIN}" }}\n' for name in NAMES
    )
    file = tmp_path / "both.toml"
    file.write_text(
        'schema = 1\nquestion = "Which is ready first?"\nreference = "firecracker"\n'
        f"[grant]\nmemory_mib = 128\n[run]\nrounds = 2\nwarmup = 0\n{subjects}"
    )
    result = engine.run(experiments.plan(experiments.scenario(file)), tmp_path / "runs", cache_dir(), Silent())
    assert (result.failed, result.header.leaks) == (0, ())
    data: Any = reports.data(reports.build(store.load(result.path)))
    assert {one.label for one in data["subjects"]} >= set(NAMES)
    kept = {
        path.relative_to(result.path).as_posix() for path in (result.path / "subjects").rglob("*") if path.is_file()
    }
    assert {f"subjects/{name}/command.txt" for name in NAMES} <= kept
    assert "subjects/firecracker/config.json" in kept
