"""Every runner against the one contract: a new runner adds one parameter here."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tare import runners
from tare.bench.experiments import prepare, start
from tare.bench.host import audit, run_cgroup, workspace
from tare.bench.readings.processes import pss_bytes
from tare.bench.records.readiness import Exec, Exit, Http, Line, Mark, Ready, Tcp
from tare.bench.records.resolved import Subject, Workload
from tare.runners import payload
from tare.runners.base import Instance, Launch, Runner, RunnerError, Scratch, Support
from tare.runners.container.warm import leftovers
from tare.runners.guest.workload import DIRECTORY_PREFIX
from tare.runners.image.cache import cache_dir
from tare.runners.launch import drain
from tare.runners.launch.monitored import parent_of
from tare.runners.vm.connection import runtime_directory
from tests import served, users
from tests.conftest import require, wait_until

#: A user of this host, who is made for the tests that need one.
USER = f"tare-{os.getpid()}"

#: subject -> what the host must have for it
NEEDS = {
    "null": (),
    "process": (),
    "process/cgroup": ("root", "cgroups"),
    "container": ("root", "cgroups"),
    "container-cold": ("root", "cgroups"),
    "crun": ("root", "cgroups", "crun"),
    "runc": ("root", "cgroups", "runc"),
    "oci": ("root", "cgroups", "runc"),
    "bwrap": ("bwrap",),
    "lxc": ("root", "cgroups", "lxc"),
    "nspawn": ("root", "cgroups", "nspawn"),
    "gvisor": ("root", "cgroups", "runsc"),
    "uml": ("uml",),
    "podman": ("root", "cgroups", "podman", "crun"),
    "podman/runc": ("root", "cgroups", "podman", "runc"),
    "podman/rootless": ("root", "userns", "podman", "runc"),
    "docker": ("root", "cgroups", "docker"),
    "containerd": ("root", "cgroups", "containerd"),
    "vm": ("qemu", "libvirt"),
    "vm/direct-disk": ("qemu", "libvirt"),
    "vm/restore": ("qemu", "libvirt"),
    "firecracker": ("firecracker",),
    "cloud-hypervisor": ("cloud-hypervisor",),
    "nested": ("qemu", "libvirt", "mmdebstrap"),
    "nested/podman": ("qemu", "libvirt", "mmdebstrap"),
}
#: Subjects that are a runner with options; each other one is named as its runner.
VARIANTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "process/cgroup": ("process", {"limit": "cgroup"}),
    "oci": ("oci", {"binary": "runc"}),
    "podman/runc": ("podman", {"runtime": "runc"}),
    "podman/rootless": ("podman", {"runtime": "runc", "user": USER}),
    "vm/direct-disk": ("vm", {"boot": "direct-disk", "accelerator": "tcg"}),
    "vm/restore": ("vm", {"boot": "restore", "accelerator": "tcg"}),
    "nested": ("nested", {"accelerator": "tcg"}),
    "nested/podman": ("nested", {"accelerator": "tcg", "runtime": "podman"}),
}
#: Stamps of a guest that says how far it is; the first may come before the domain is known to be there.
OF_GUESTS = ("firmware", "kernel", "initramfs", "init")
#: Those that are one machine or another.
MACHINES = ("vm", "vm/direct-disk", "vm/restore", "firecracker", "cloud-hypervisor")
#: Those whose kernel says its last words on the console, too: they have one serial line.
ONE_LINE = ("firecracker", "cloud-hypervisor")
#: Those whose instances share a machine.
NESTED = ("nested", "nested/podman")
#: Those that start something: the null runner is ready at once and has nothing to kill, to limit or to count.
REAL = sorted(set(NEEDS) - {"null"})
#: Those whose instances begin with what the test sees: a saved state has begun before.
BEGUN = sorted(set(REAL) - {"vm/restore"})
#: Long enough for an emulated virtual machine on a loaded host.
DEADLINE_S = 60.0
MEMORY_BYTES = 128 << 20
#: One that no service of the host uses: a bare process has it on the host's loopback.
PORT = 48123
CONTRACT = start.Contract(ready=Mark(), timeout_s=DEADLINE_S)


class Bench:
    """One run's worth of place, in which subjects of one runner are prepared."""

    def __init__(self, name: str, stack: ExitStack, scratch: Scratch) -> None:
        self.name = name
        self.runner_name, self.options = VARIANTS.get(name, (name, {}))
        self.runner: Runner = runners.load(self.runner_name)
        self.scratch = scratch
        self.stack = stack
        self.count = 0

    def workload(self, ready: Ready, image: str, *words: str, **about: Any) -> prepare.Preparation:
        """Prepare the server of *image* with *words*. Without means for *ready*, what comes back says so."""
        self.count += 1
        subject = Subject(
            label=self.name,
            runner=self.runner_name,
            options=dict(self.options),
            workload=Workload(command=(served.PROGRAM, *words), image=f"dir:{image}", ready=ready, **about),
            memory_bytes=MEMORY_BYTES,
            cpus=1,
        )
        return prepare.try_subject(
            subject, prepare.images(self.scratch.cache), self.scratch, str(self.count), self.stack
        )

    def prepare(self, **wishes: Any) -> prepare.Preparation:
        self.count += 1
        subject = Subject(
            label=self.name,
            runner=self.runner_name,
            options=dict(self.options),
            payload=payload.Payload(**wishes),
            memory_bytes=MEMORY_BYTES,
            cpus=1,
        )
        tried = prepare.try_subject(
            subject, prepare.images(self.scratch.cache), self.scratch, str(self.count), self.stack
        )
        for need in NEEDS[self.name] or ("root",):
            require(need, tried.support.ok, f"{self.name}: {tried.support.why}")
        return tried

    def launch(self, **wishes: Any) -> Launch:
        ready = self.prepare(**wishes).ready
        assert ready is not None
        return ready.prepared.launch

    def instance_name(self, number: int) -> str:
        return f"{self.scratch.prefix}-{number}"


@pytest.fixture(scope="session")
def user() -> Iterator[None]:
    """An ordinary user with a home and further ids, as useradd(8) makes one."""
    require("root", os.geteuid() == 0, "only root makes users")
    for program in ("newuidmap", "useradd"):
        require("userns", shutil.which(program), f"no {program} on PATH")
    with users.made(USER):
        yield


@pytest.fixture(autouse=True)
def _null_device() -> Iterator[None]:
    before = Path(os.devnull).stat()
    yield
    now = Path(os.devnull).stat()
    assert (now.st_uid, now.st_gid) == (before.st_uid, before.st_gid), "a runtime gave the host's /dev/null away"


@pytest.fixture(params=sorted(NEEDS))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench for each subject; at the end nothing of it may be left on the host."""
    if USER in VARIANTS.get(request.param, ("", {}))[1].values():
        request.getfixturevalue("user")
    prefix = workspace.new_prefix()
    with ExitStack() as outer:
        scratch = outer.enter_context(workspace.scratch(prefix))
        opened = outer.enter_context(run_cgroup.opened(prefix))
        cgroup = opened.load if opened else None
        where = Scratch(directory=scratch, cache=cache_dir(), cgroup=cgroup, prefix=prefix)
        before = audit.take(prefix, scratch)
        with ExitStack() as helpers:
            yield Bench(request.param, helpers, where)
        leaks = audit.difference(before, audit.take(prefix, scratch), str)
        assert not leaks, "\n".join(f"{leak.kind}: {leak.name}" for leak in leaks)


def read_until(instance: Instance, end: bytes | None) -> bytes:
    """The console up to the line *end*, or up to its end of file when *end* is None."""
    text = b""
    poll = select.poll()
    poll.register(instance.console, select.POLLIN)
    while end is None or end not in text:
        assert poll.poll(DEADLINE_S * 1000), f"silence after {text!r}; {instance.explain()}"
        try:
            data = os.read(instance.console, 65536)
        except ConnectionResetError:
            data = b""
        if not data:
            assert end is None, f"ended after {text!r}; {instance.explain()}"
            break
        text += data.replace(b"\r\n", b"\n")
    return text


def left(pids: frozenset[int]) -> list[int]:
    """Those that are still there, without what has ended and is process 1's to reap, when it comes to it."""
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and (leftovers.alive(pid) or parent_of(pid) != 1)]


def test_the_table_of_runners_is_the_registry() -> None:
    assert {VARIANTS.get(name, (name,))[0] for name in NEEDS} == runners.REGISTRY.keys()


def test_marks_arrive_in_order_and_phases_are_stamped_once(bench: Bench) -> None:
    phases: list[str] = []

    def begun(stamped: list[str]) -> list[str]:
        return [phase for phase in stamped if phase not in OF_GUESTS]

    with bench.launch()(bench.instance_name(1), phases.append) as instance:
        assert begun(phases) == ["created"]
        text = read_until(instance, b"tare ready\n")
        assert text.index(b"tare first\n") < text.index(b"tare ready\n")
    assert begun(phases) == ["created", "stopped"]
    assert len(phases) == len(set(phases))


def test_the_console_does_not_block(bench: Bench) -> None:
    with bench.launch()(bench.instance_name(1), lambda phase: None) as instance:
        read_until(instance, b"tare ready\n")
        with pytest.raises(BlockingIOError):
            os.read(instance.console, 1)


@pytest.mark.parametrize("bench", REAL, indirect=True)
def test_its_processes_are_named_while_it_lives_and_gone_after(bench: Bench) -> None:
    with bench.launch()(bench.instance_name(1), lambda phase: None) as instance:
        read_until(instance, b"tare ready\n")
        pids = instance.pids()
        assert pids
        assert os.getpid() not in pids
        names = {pid: Path(f"/proc/{pid}/comm").read_text() for pid in pids}
        assert names
        cgroup = instance.cgroup
        assert cgroup is None or cgroup.is_dir()
    assert not left(pids)
    assert cgroup is None or not cgroup.exists()


@pytest.mark.parametrize("bench", BEGUN, indirect=True)
def test_its_exit_status_reaches_the_console_and_then_the_console_ends(bench: Bench) -> None:
    with bench.launch(exit_code=3)(bench.instance_name(1), lambda phase: None) as instance:
        # The program of user-mode Linux adds an empty line.
        text = read_until(instance, None).rstrip(b"\n")
        if bench.name in ONE_LINE:
            text, _, last = text.rpartition(b"\n")
            assert b"reboot: " in last
        assert text.endswith(b"tare exit 3")


#: What a workload may write; to an emulated serial port some hundred KiB a second go.
KIB = dict.fromkeys((*MACHINES, *NESTED), 256)
MUCH_KIB = 16 << 10


@pytest.fixture
def drained(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many bytes were read for which instances after they were ready, and of guests' kernels."""
    read: Counter[str] = Counter()
    take = drain.take

    def counting(fd: int, sink: drain.Sink) -> None:
        def keep(data: bytes) -> None:
            read["bytes"] += len(data)
            sink(data)

        take(fd, keep)

    monkeypatch.setattr(drain, "take", counting)
    return read


def kept_bytes(bench: Bench) -> int:
    """What the files are long that the instances of this process could write to."""
    places = [bench.scratch.directory, *runtime_directory().glob(f"{DIRECTORY_PREFIX}{os.getpid()}-*")]
    files = (file for place in places for file in place.rglob("*") if file.is_file() and not file.is_symlink())
    return sum(file.stat().st_size for file in files)


@pytest.mark.parametrize("bench", BEGUN, indirect=True)
@pytest.mark.parametrize("stream", ["out_kib", "err_kib"])
def test_what_it_writes_before_its_mark_is_read_and_not_kept(bench: Bench, stream: str) -> None:
    launch = bench.launch(**{stream: KIB.get(bench.name, MUCH_KIB)})
    with ExitStack() as stack:
        begun = start.start(stack, launch, bench.instance_name(1), CONTRACT, interrupts=None)
        assert begun.stamps["first"] <= begun.stamps["ready"]
        assert len(begun.console.tail()) < 1 << 14
        assert kept_bytes(bench) < 1 << 20


@pytest.mark.parametrize("bench", BEGUN, indirect=True)
def test_what_it_writes_without_end_after_its_mark_is_read_and_not_kept(bench: Bench, drained: Counter[str]) -> None:
    launch = bench.launch(floods=True)
    with ExitStack() as stack:
        begun = start.start(stack, launch, bench.instance_name(1), CONTRACT, interrupts=None)
        wait_until(lambda: drained["bytes"] > KIB.get(bench.name, MUCH_KIB) << 10, DEADLINE_S, what="its output")
        assert begun.instance.pids()
        assert len(begun.console.tail()) < 1 << 14
        assert kept_bytes(bench) < 1 << 20


@pytest.mark.parametrize(
    "bench", sorted(set(REAL) - {*MACHINES, *NESTED, "uml"}), indirect=True
)  # a guest's are in the guest
def test_its_input_is_empty_and_its_output_is_nobody_elses(bench: Bench) -> None:
    ours = {Path(f"/proc/self/fd/{number}").readlink() for number in range(3)} - {Path("/dev/null")}
    with bench.launch(reads=True)(bench.instance_name(1), lambda phase: None) as instance:
        read_until(instance, b"tare ready\n")
        for pid in instance.pids():
            assert ours.isdisjoint(Path(f"/proc/{pid}/fd/{number}").readlink() for number in range(3))


def test_several_are_alive_at_once_and_each_has_a_console_of_its_own(bench: Bench) -> None:
    launch = bench.launch()
    with ExitStack() as alive:
        instances = [
            alive.enter_context(launch(bench.instance_name(number), lambda phase: None)) for number in range(2)
        ]
        for instance in instances:
            assert read_until(instance, b"tare ready\n").count(b"tare first\n") == 1
        first, second = (instance.pids() for instance in instances)
        assert bool(first & second) == (bench.name in NESTED), "a machine is shared, and nothing else is"
        assert bool(first - second) == bool(first)


def test_the_same_prepared_subject_starts_again_and_again(bench: Bench) -> None:
    launch = bench.launch()
    for number in range(3):
        with launch(bench.instance_name(number), lambda phase: None) as instance:
            read_until(instance, b"tare ready\n")


@pytest.mark.parametrize("bench", BEGUN, indirect=True)
def test_an_instance_that_is_left_before_it_is_ready_leaves_nothing(bench: Bench) -> None:
    with bench.launch(delay_ms=60_000)(bench.instance_name(1), lambda phase: None):
        pass


def test_an_exception_inside_the_block_stops_and_removes_it(bench: Bench) -> None:
    launch = bench.launch()
    pids: frozenset[int] = frozenset()

    def fail_inside() -> None:
        nonlocal pids
        with launch(bench.instance_name(1), lambda phase: None) as instance:
            read_until(instance, b"tare ready\n")
            pids = instance.pids()
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert not left(pids)


@pytest.mark.parametrize("bench", BEGUN, indirect=True)
def test_the_memory_grant_holds_where_the_runner_says_so(bench: Bench) -> None:
    tried = bench.prepare(touch_mib=200)  # more than the grant
    assert tried.ready is not None
    with tried.ready.prepared.launch(bench.instance_name(1), lambda phase: None) as instance:
        if "memory" in tried.support.unlimited:
            assert b"tare ready" in read_until(instance, b"tare ready\n")
        else:
            assert b"tare ready" not in read_until(instance, None)


def test_memory_that_was_freed_lazily_comes_back_when_the_host_asks_where_it_can(bench: Bench) -> None:
    tried = bench.prepare(touch_mib=16, release="lazily")
    assert tried.ready is not None
    with tried.ready.prepared.launch(bench.instance_name(1), lambda _: None) as instance:
        if not tried.support.reclaims:
            with pytest.raises(RunnerError):
                instance.reclaim(16 << 20)
            return
        read_until(instance, b"tare ready\n")
        before = pss_bytes(instance.pids())
        instance.reclaim(16 << 20)
        assert pss_bytes(instance.pids()) < before - (12 << 20)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(served.image(tmp_path_factory.mktemp("served") / "image"))


def proved(bench: Bench) -> Support:
    """What its probe found; the test is skipped where it does not work here."""
    support = bench.runner.probe(bench.options, cache_dir())
    for need in NEEDS[bench.name] or ("root",):
        require(need, support.ok, f"{bench.name}: {support.why}")
    return support


def begin(bench: Bench, tried: prepare.Preparation, ready: Ready, stack: ExitStack) -> start.Started:
    """One start of it, awaited."""
    for need in NEEDS[bench.name] or ("root",):
        require(need, tried.support.ok, f"{bench.name}: {tried.support.why}")
    assert tried.ready is not None
    contract = start.Contract(ready=ready, timeout_s=DEADLINE_S)
    launch = tried.ready.prepared.launch
    return start.start(stack, launch, bench.instance_name(1), contract, interrupts=None)


@pytest.mark.parametrize("bench", REAL, indirect=True)
@pytest.mark.parametrize("ready", [Tcp(port=PORT), Http(port=PORT, path="/health")], ids=("tcp", "http"))
def test_a_port_is_reached_where_the_runner_says_so(bench: Bench, image: str, ready: Ready) -> None:
    tried = bench.workload(ready, image, "delay=20", f"port={PORT}")
    if not proved(bench).reached:
        assert "no address" in tried.support.why
        return
    with ExitStack() as stack:
        begun = begin(bench, tried, ready, stack)
        assert begun.since_request_s("ready") > 0.02
        assert begun.attempt_s is not None
        assert begun.instance.status() is None


@pytest.mark.parametrize("bench", REAL, indirect=True)
def test_a_command_gets_in_where_the_runner_says_so(bench: Bench, image: str) -> None:
    ready = Exec(argv=(served.PROGRAM, "find=made"))
    tried = bench.workload(ready, image, "delay=20", "make=/work/made", cwd="/work", user="one")
    if not proved(bench).enters:
        assert "cannot run a command" in tried.support.why
        return
    if "this ctr has no option --user" in tried.support.why:  # that of containerd 1.6
        tried = bench.workload(ready, image, "delay=20", "make=/work/made", cwd="/work")
    with ExitStack() as stack:
        begun = begin(bench, tried, ready, stack)
        assert begun.instance.pids()
        failing = begun.instance.command((served.PROGRAM, "exit=7"))
        assert subprocess.run(failing, check=False, stdin=subprocess.DEVNULL).returncode == 7
    assert not Path(image, "work", "made").exists(), "each instance has a layer of its own"


@pytest.mark.parametrize("bench", REAL, indirect=True)
def test_a_line_of_the_output_counts_in_every_runner(bench: Bench, image: str) -> None:
    ready = Line(pattern="^up and running$")
    with ExitStack() as stack:
        begun = begin(bench, bench.workload(ready, image, "say=not yet", "say=up and running"), ready, stack)
        assert "up and running" in begun.console.tail()


@pytest.mark.parametrize("bench", BEGUN, indirect=True)
def test_an_end_counts_in_every_runner(bench: Bench, image: str) -> None:
    ready = Exit(code=3)
    tried = bench.workload(ready, image, "delay=20", "say=the end", "exit=3")
    with ExitStack() as stack:
        begun = begin(bench, tried, ready, stack)
        assert begun.since_request_s("ready") > 0.02
        assert begun.instance.status() == 3
        assert "the end" in begun.console.tail()
    with ExitStack() as stack, pytest.raises(start.StartFailed, match="status 3"):
        begin(bench, tried, Exit(code=0), stack)


def test_the_exact_configuration_is_kept(bench: Bench) -> None:
    ready = bench.prepare(delay_ms=17).ready
    assert ready is not None
    texts = ready.prepared.manifest
    assert texts
    assert all(name == Path(name).name for name in texts)
    if bench.name != "null":
        assert any("delay-ms=17" in text for text in texts.values())


def test_the_probe_says_what_would_run_and_leaves_nothing(bench: Bench) -> None:
    support = proved(bench)
    assert support.version
    assert all(word.isidentifier() and word.islower() for word in bench.runner.LAYERS)
    assert (support.accelerator is not None) == ("vm" in bench.runner.LAYERS)


def test_a_sweep_of_a_clean_host_removes_nothing(bench: Bench) -> None:
    assert not list(bench.runner.sweep())
