"""Containers in a virtual machine: which machine they get, how they end, and what goes wrong.

One machine serves most of these tests: it boots once for each runtime, and is kept.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tare import reports
from tare.bench.experiments import prepare, start
from tare.bench.experiments.startup import start_and_stop
from tare.bench.host import audit, workspace
from tare.bench.host.interrupts import Interrupts
from tare.bench.records import store
from tare.bench.records.readiness import Exec, Exit, Mark, Ready
from tare.bench.records.resolved import Subject, Workload
from tare.runners.base import Instance, RunnerError, Scratch
from tare.runners.guest.workload import make_directory
from tare.runners.image.cache import cache_dir
from tare.runners.nested import backend, machine, system
from tare.runners.nested.instance import Nested
from tare.runners.payload import Payload, binary
from tests import cli, served
from tests.conftest import require

MIB = 1 << 20
#: Long enough for an emulated machine on a loaded host.
DEADLINE_S = 120.0
RUNTIMES = ("tare-oci", "crun", "runc", "podman")
#: What shows what containers leave in a machine: directories, mounts, cgroups.
LEFT = "ls /run/containers; grep -c /run/containers /proc/mounts; ls -d /sys/fs/cgroup/c?"
SOON = Payload(tell="memory")
#: Not ready before whatever the test does to its machine.
LATE = Payload(delay_ms=600_000)


@dataclass
class Stage:
    """One run's place."""

    scratch: Scratch
    stack: ExitStack
    count: int = field(default=0)

    def made(
        self, *, workload: Workload | None = None, payload: Payload = SOON, memory_mib: int = 64, **options: str
    ) -> prepare.Ready:
        self.count += 1
        work: dict[str, Any] = {"payload": payload} if workload is None else {"workload": workload}
        subject = Subject(
            label="nested",
            runner="nested",
            options={"accelerator": "tcg", **options},
            memory_bytes=memory_mib * MIB,
            cpus=1,
            **work,
        )
        images = prepare.images(self.scratch.cache)
        tried = prepare.try_subject(subject, images, self.scratch, f"s{self.count}", self.stack)
        assert tried.ready is not None, tried.support.why
        return tried.ready

    def name(self) -> str:
        self.count += 1
        return f"{self.scratch.prefix}-{self.count}"

    def begin(self, stack: ExitStack, made: prepare.Ready, ready: Ready, timeout_s: float = DEADLINE_S) -> Nested:
        contract = start.Contract(ready=ready, timeout_s=timeout_s)
        begun = start.start(stack, made.prepared.launch, self.name(), contract, interrupts=None)
        assert isinstance(begun.instance, Nested)
        return begun.instance


@contextmanager
def opened() -> Iterator[Stage]:
    support = backend.probe({"accelerator": "tcg"}, cache_dir())
    require("libvirt", support.ok, f"{support.why}; {support.fix}")
    require("mmdebstrap", shutil.which("mmdebstrap"), "no mmdebstrap on PATH")
    prefix = workspace.new_prefix()
    held = _held()
    with workspace.scratch(prefix) as directory:
        before = audit.take(prefix, directory)
        with ExitStack() as stack:
            yield Stage(Scratch(directory=directory, cache=cache_dir(), cgroup=None, prefix=prefix), stack)
        leaks = audit.difference(before, audit.take(prefix, directory), str)
        assert [leak for leak in leaks if leak.kind != "scratch entry"] == []
    assert _held() <= held


def _held() -> set[Path]:
    """Directories of this process's machines."""
    return set(cache_dir().glob(f"tare-vm-{os.getpid()}-*"))


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A place of its own; at the end nothing may be left."""
    with opened() as stage:
        yield stage


@dataclass
class Kept:
    """A machine that is kept, and what starts containers in it."""

    stage: Stage
    made: prepare.Ready


@pytest.fixture(scope="module", params=RUNTIMES)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    """One machine for three containers, for all tests with this runtime."""
    image = served.image(tmp_path_factory.mktemp("served") / "image")
    command = (served.PROGRAM, "make=/work/made", "say=up", "delay=600000")
    ready = Exec(argv=(served.PROGRAM, "find=made"))
    workload = Workload(command=command, ready=ready, cwd="/work", user="one", image=f"dir:{image}")
    with opened() as stage:
        made = stage.made(workload=workload, keep="yes", containers="3", runtime=request.param)
        yield Kept(stage, made)


def inside(instance: Nested, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run *argv* in the machine of *instance*, outside of any container."""
    command = instance.place.machine.asking(2, *argv)
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


def test_containers_of_one_machine_are_apart_and_leave_nothing_in_it(kept: Kept) -> None:
    ready = kept.made.subject.workload.ready  # type: ignore[union-attr]
    assert len(kept.made.prepared.resident_pids) == 1
    with ExitStack() as stack:
        two = [kept.stage.begin(stack, kept.made, ready) for _ in range(2)]
        assert len({one.place.machine for one in two}) == 1
        for one in two:
            assert one.pids()
            assert not one.pids() & kept.made.prepared.resident_pids, "its machine was there before"
            failing = subprocess.run(one.command((served.PROGRAM, "exit=7")), check=False, stdin=subprocess.DEVNULL)
            assert failing.returncode == 7
        own = "c?/libpod-[0-9a-f][0-9a-f]*" if kept.made.subject.options["runtime"] == "podman" else "c?"
        looks = [f"/sys/fs/cgroup/{own}/{limit}.max" for limit in ("memory", "pids")]
        groups = inside(two[0], "/bin/sh", "-c", f"cat {' '.join(looks)}")
        assert groups.stdout.split() == [str(64 * MIB)] * 2 + ["512"] * 2
        last = two[1]
    left = inside(last, "/bin/sh", "-c", LEFT)
    assert left.stdout.split() == ["0"]
    assert last.place.machine.alive()


def test_a_container_that_is_left_while_its_runtime_works_leaves_nothing_in_its_machine(kept: Kept) -> None:
    with kept.made.prepared.launch(kept.stage.name(), lambda _: None) as instance:
        assert isinstance(instance, Nested)
    left = inside(instance, "/bin/sh", "-c", LEFT)
    assert left.stdout.split() == ["0"]


@pytest.mark.parametrize("kept", ["crun"], indirect=True)
def test_a_fourth_container_boots_another_machine_that_is_kept_too(kept: Kept) -> None:
    ready = kept.made.subject.workload.ready  # type: ignore[union-attr]
    with ExitStack() as stack:
        four = [kept.stage.begin(stack, kept.made, ready) for _ in range(4)]
        machines = {one.place.machine for one in four}
        assert len(machines) == 2
        fourth = four[3]
        assert fourth.pids() > fourth.place.machine.guest.pids(), "that machine is its own"
        assert fourth.cgroup == fourth.place.machine.guest.cgroup
    assert all(machine.alive() for machine in machines)


@pytest.mark.parametrize("runtime", ["tare-oci", "podman"])
def test_several_that_start_at_once_share_one_machine_that_ends_with_the_last(stage: Stage, runtime: str) -> None:
    made = stage.made(containers="3", runtime=runtime)
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        stacks = [stack.enter_context(ExitStack()) for _ in range(3)]
        three = list(pool.map(lambda own: stage.begin(own, made, Mark()), stacks))
        machine = three[0].place.machine
        assert {one.place.machine for one in three} == {machine}
        assert {one.place.number for one in three} == {1, 2, 3}
        list(pool.map(lambda own: own.close(), stacks))
        assert machine.closed
        assert not Path(f"/proc/{machine.guest.emulator_pid}").exists()


@pytest.mark.parametrize("runtime", ["tare-oci", "podman"])
def test_a_container_that_ends_says_how_and_its_place_is_free_again(stage: Stage, tmp_path: Path, runtime: str) -> None:
    image = served.image(tmp_path / "image")
    workload = Workload(command=(served.PROGRAM, "say=the end", "exit=3"), image=f"dir:{image}", ready=Exit(code=3))
    made = stage.made(workload=workload, containers="1", keep="yes", runtime=runtime)
    for _ in range(2):
        with ExitStack() as stack:
            one = stage.begin(stack, made, Exit(code=3))
            assert one.status() == 3
            assert one.place.number == 1


def test_a_machine_that_is_killed_while_its_containers_start_fails_each_and_the_next_gets_another(stage: Stage) -> None:
    made = stage.made(payload=LATE, containers="3")
    all_there = threading.Barrier(3)

    @contextmanager
    def launch(name: str, mark: Callable[[str], None]) -> Iterator[Instance]:
        with made.prepared.launch(name, mark) as instance:
            if all_there.wait(DEADLINE_S) == 0:
                assert isinstance(instance, Nested)
                os.kill(instance.place.machine.guest.emulator_pid, signal.SIGKILL)
            yield instance

    def outcome(name: str) -> str:
        try:
            with ExitStack() as stack:
                contract = start.Contract(ready=Mark(), timeout_s=DEADLINE_S)
                start.start(stack, launch, name, contract, interrupts=None)
        except start.StartFailed as failure:
            return failure.reason
        return "ready"

    with ThreadPoolExecutor(3) as pool:
        reasons = list(pool.map(outcome, [stage.name() for _ in range(3)]))
    for reason in reasons:
        assert "its machine has ended" in reason
        assert "QEMU ended with exit code -9" in reason
    with made.prepared.launch(stage.name(), lambda _: None) as instance:
        assert instance.status() is None


DENSITY = """
schema = 1
question = "How many containers fit, two to a machine?"
experiment = "density"
reference = "vm/2"
[run]
rounds = 1
warmup = 0
timeout_s = 120
[grant]
memory_mib = 64
[stack]
counts = [1, 2, 3, 4, 6, 8]
floor_percent = 20
budget_mib = 4096
window_s = 0.2
[[subjects]]
label = "vm/2"
runner = "nested"
options = { containers = "2", accelerator = "tcg", machine_cpus = "1" }
"""


def test_how_many_fit_is_predicted_in_full_machines_and_comes_down_again(tmp_path: Path) -> None:
    require("root", os.geteuid() == 0, "this is not root")
    require("mmdebstrap", shutil.which("mmdebstrap"), "no mmdebstrap on PATH")
    file = tmp_path / "dense.toml"
    file.write_text(DENSITY)
    done = cli.tare("run", file, "--results", tmp_path / "runs", timeout_s=500)
    run = store.load(next((tmp_path / "runs").iterdir()))
    (outcome,) = [one for one in run.outcomes if one.subject == "vm/2"]
    require("libvirt", outcome.status != "skipped", outcome.reason)
    assert (done.returncode, outcome.status, outcome.lost, outcome.reached) == (0, "ok", 0, 8), done.stderr
    analysis = reports.build(run).analysis
    row = next(one for one in analysis.density if one.subject == "vm/2")
    assert row.places == 2
    assert row.readings == (2, 4, 6)
    assert row.predicted is not None
    assert row.predicted % 2 == 0
    assert abs(row.error_fraction) < 0.2
    step = next(one for one in analysis.steps if one.subject == "vm/2")
    assert step.step_bytes > 2 * step.margin_bytes, "a machine takes more than a container in it"
    back = next(one for one in analysis.descents if one.subject == "vm/2").points
    assert back[-1].down_bytes < 0.2 * back[0].up_bytes, "its machines are gone, and their memory with them"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("echo c >/proc/sysrq-trigger", "Kernel panic"),
        ("for one in $(pidof init); do [ $one = 1 ] || kill -9 $one; done", "what serves port"),
    ],
    ids=["panic", "agent"],
)
def test_a_machine_that_fails_under_a_container_is_an_outcome_with_its_last_words(
    stage: Stage, fault: str, said: str
) -> None:
    made = stage.made(payload=LATE, containers="2")

    @contextmanager
    def launch(name: str, mark: Callable[[str], None]) -> Iterator[Instance]:
        with made.prepared.launch(name, mark) as instance:
            assert isinstance(instance, Nested)
            inside(instance, "/bin/sh", "-c", fault)
            yield instance

    contract = start.Contract(ready=Mark(), timeout_s=DEADLINE_S)
    with Interrupts() as interrupts:
        ended = start_and_stop(launch, stage.name(), contract, interrupts=interrupts, cpu_ns=None)
    assert ended.status == "failed"
    assert said in ended.reason
    with made.prepared.launch(stage.name(), lambda _: None) as instance:
        assert instance.status() is None


def test_a_system_that_lacks_the_runtime_is_refused_and_named(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("sh", "mount"):
        (tmp_path / "bin" / name).touch()
    with pytest.raises(AssertionError, match="no python3"):
        stage.made(system=f"dir:{tmp_path}")


def test_a_machine_whose_setup_fails_says_what_it_said(stage: Stage, tmp_path: Path) -> None:
    for name in ("bin", "dev", "proc", "run", "sys", "tmp"):
        (tmp_path / name).mkdir()
    for name in ("sh", "mount", "crun"):  # its shell is none
        shutil.copy(binary(cache_dir()), tmp_path / "bin" / name)
    made = stage.made(system=f"dir:{tmp_path}", runtime="crun", containers="1")
    with pytest.raises(RunnerError) as caught, ExitStack() as stack:
        stage.begin(stack, made, Mark())
    assert "ended before" in caught.value.what
    assert "the workload ended with status 64" in caught.value.why
    assert "cannot read '-c'" in caught.value.why


def test_a_container_that_never_gets_ready_is_one_that_timed_out_and_its_machine_ends(stage: Stage) -> None:
    made = stage.made(payload=LATE, containers="2")
    machines = []

    @contextmanager
    def launch(name: str, mark: Callable[[str], None]) -> Iterator[Instance]:
        with made.prepared.launch(name, mark) as instance:
            assert isinstance(instance, Nested)
            machines.append(instance.place.machine)
            yield instance

    contract = start.Contract(ready=Mark(), timeout_s=25)
    with Interrupts() as interrupts:
        ended = start_and_stop(launch, stage.name(), contract, interrupts=interrupts, cpu_ns=None)
    assert ended.status == "timeout"
    assert "within 25 s" in ended.reason
    (one,) = machines
    assert one.closed
    assert not Path(f"/proc/{one.guest.emulator_pid}").exists()


def test_a_machine_that_never_takes_a_container_says_so_with_its_last_words(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = system.script
    monkeypatch.setattr(system, "script", lambda name, runtime: f"echo I wait; sleep 1000\n{written(name, runtime)}")
    monkeypatch.setattr(machine, "_BOOT_S", 20.0)
    made = stage.made(containers="1")
    with pytest.raises(RunnerError) as caught, ExitStack() as stack:
        stage.begin(stack, made, Mark())
    assert "took none within 20 s" in caught.value.what
    assert "I wait" in caught.value.why


def test_a_damaged_disk_is_an_outcome_that_names_it_and_the_next_start_can_do_better(stage: Stage) -> None:
    before = _held()
    made = stage.made(containers="1")
    (kit,) = (place / "kit.ext4" for place in _held() - before if (place / "kit.ext4").exists())
    whole = kit.read_bytes()
    kit.write_bytes(bytes(len(whole)))
    contract = start.Contract(ready=Mark(), timeout_s=DEADLINE_S)
    with Interrupts() as interrupts:
        ended = start_and_stop(made.prepared.launch, stage.name(), contract, interrupts=interrupts, cpu_ns=None)
        assert ended.status == "failed"
        assert "ended before" in ended.reason
        assert "/dev/vdb" in ended.reason, "what mount says of it"
        kit.write_bytes(whole)
        again = start_and_stop(made.prepared.launch, stage.name(), contract, interrupts=interrupts, cpu_ns=None)
    assert again.status == "ok", again.reason


def test_a_disk_that_is_full_while_a_machine_s_disks_are_made_is_a_reason(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("root", os.geteuid() == 0, "only root mounts a file system")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tare-test", str(small)], check=True)
    stage.stack.callback(subprocess.run, ["umount", str(small)], check=True)
    monkeypatch.setattr(backend, "make_directory", lambda _: make_directory(small))
    with pytest.raises(AssertionError, match="No space left on device"):
        stage.made(containers="3", runtime="crun")
    assert list(small.iterdir()) == []
