"""The warm helper's life: it dies with whoever started it, and its containers die with it."""

from __future__ import annotations

import errno
import os
import platform
import resource
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tare import runners
from tare.runners import fork_server, payload
from tare.runners.base import Instance, RunnerError, Scratch, Spec
from tare.runners.container.cgroup import cgroups, devices
from tare.runners.container.linux import syscalls
from tare.runners.container.linux.files import read
from tare.runners.container.warm import root_layer, smallest_container
from tare.runners.image.cache import cache_dir
from tare.runners.image.tree import plain
from tare.runners.launch import fork_client
from tests.conftest import require, wait_until

DEADLINE_S = 20.0


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    require("root", os.geteuid() == 0, "not root")
    require("cgroups", not cgroups.usable(), cgroups.usable())
    prefix = f"tare-helper-test-{os.getpid()}"
    directory = Path("/tmp", prefix)
    (directory / "rootfs").mkdir(parents=True)
    shutil.copy(payload.binary(cache_dir()), directory / "rootfs/payload")
    try:
        yield Scratch(directory=directory, cache=cache_dir(), cgroup=f"{prefix}/s", prefix=prefix)
    finally:
        cgroups.at(prefix).kill()
        cgroups.at(prefix).remove()
        shutil.rmtree(directory)
    assert cgroups.find(prefix) == []


def spec_of(scratch: Scratch) -> Spec:
    return Spec(argv=("/payload",), image=plain(scratch.directory / "rootfs"), memory_bytes=64 << 20, cpus=1)


def await_end(pid: int) -> None:
    """Until process *pid* has ended, by its pidfd."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(DEADLINE_S * 1000), f"process {pid} still runs"
    os.close(pidfd)


def test_killed_helper_takes_its_containers_along(scratch: Scratch) -> None:
    """SIGKILL to the helper: the console ends, the next launch says what happened, and the block still cleans up."""
    with fork_server.prepare(spec_of(scratch), {}, scratch) as prepared:
        with prepared.launch("one", lambda _: None) as instance:
            assert smallest_container.await_word(instance.console, b"tare ready")
            (pid,) = instance.pids()
            for resident in prepared.resident_pids:
                os.kill(resident, signal.SIGKILL)
            await_end(pid)
        with pytest.raises(RunnerError, match="fork server is gone"), prepared.launch("two", lambda _: None):
            pass
    assert not cgroups.at(f"{scratch.cgroup}/one").pids()


PROGRAM = """
import sys
from pathlib import Path
from tare import runners
from tare.runners.base import Scratch, Spec
from tare.runners.container.warm import smallest_container
from tare.runners.image.tree import plain
directory = Path({directory!r})
scratch = Scratch(directory=directory, cache=directory, cgroup={cgroup!r}, prefix={prefix!r})
spec = Spec(argv=("/payload",), image=plain(directory / "rootfs"), memory_bytes=64 << 20, cpus=1)
with runners.load({runner!r}).prepare(spec, {{}}, scratch) as prepared:
    with prepared.launch("one", lambda _: None) as instance:
        assert smallest_container.await_word(instance.console, b"tare ready")
        print(*prepared.resident_pids, *instance.pids(), flush=True)
        sys.stdin.read()
"""


def start_and_kill(scratch: Scratch, runner: str) -> list[int]:
    """Another tare starts one instance and is killed; the processes that it cost."""
    values = {"cgroup": scratch.cgroup, "prefix": scratch.prefix, "runner": runner}
    program = PROGRAM.format(directory=os.fspath(scratch.directory), **values)
    tare = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    assert tare.stdin is not None
    assert tare.stdout is not None
    with tare.stdin, tare.stdout:
        pids = list(map(int, tare.stdout.readline().split()))
        tare.kill()
        tare.wait()
    assert len(pids) >= 2, "helpers or a monitor, and the container"
    return pids


def test_killed_tare_leaves_no_process(scratch: Scratch) -> None:
    """SIGKILL to the one who started all: helper and containers end by themselves."""
    for pid in start_and_kill(scratch, "container"):
        await_end(pid)
    wait_until(lambda: not cgroups.at(scratch.prefix).pids(), DEADLINE_S)


@pytest.mark.parametrize("runner", ["crun", "runc"])
def test_sweep_after_a_killed_tare(scratch: Scratch, runner: str) -> None:
    """crun and runc go on without the one who started them: sweep ends monitor and container, and detaches mounts."""
    support = runners.load(runner).probe({}, cache_dir())
    require(runner, support.ok, f"{support.why}; fix: {support.fix}")
    pids = start_and_kill(scratch, runner)
    removed = runners.load(runner).sweep()
    for pid in pids:
        await_end(pid)
    for target in ("one/rootfs", "layers"):
        assert f"mount {scratch.directory / target}" in removed
    assert scratch.prefix not in Path("/proc/self/mountinfo").read_text()
    assert runners.load(runner).sweep() == []


@pytest.mark.parametrize("runner", ["container", "crun", "runc"])
def test_sweep_spares_a_live_run(scratch: Scratch, runner: str) -> None:
    """What a run that still measures owns is no leftover, whoever calls sweep."""
    support = runners.load(runner).probe({}, cache_dir())
    if runner != "container":
        require(runner, support.ok, f"{support.why}; fix: {support.fix}")
    with (
        runners.load(runner).prepare(spec_of(scratch), {}, scratch) as prepared,
        prepared.launch("one", lambda _: None) as instance,
    ):
        assert smallest_container.await_word(instance.console, b"tare ready")
        before = instance.pids()
        removed = runners.load(runner).sweep()
        assert not [name for name in removed if scratch.prefix in name]
        assert instance.pids() == before


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, "cannot mount an overlay of {rootfs} "),
        (lambda rootfs: (rootfs / "proc").touch(), "cannot mount proc on /proc"),
    ],
    ids=["absent", "a file in the way"],
)
def test_failed_step_is_named(scratch: Scratch, spoil: Callable[[Path], None], words: str) -> None:
    """A root filesystem that cannot be used: the step and the path are in explain()."""
    spec = spec_of(scratch)
    spoil(spec.rootfs)
    with fork_server.prepare(spec, {}, scratch) as prepared, prepared.launch("one", lambda _: None) as instance:
        assert not smallest_container.await_word(instance.console, b"tare ready")
        assert words.format(rootfs=spec.rootfs) in instance.explain()


def test_failed_exec_is_named(scratch: Scratch) -> None:
    """A program that is not there: said by the child, after a set-up that went well."""
    spec = Spec(argv=("/absent",), image=plain(scratch.directory / "rootfs"), memory_bytes=64 << 20, cpus=1)
    with fork_server.prepare(spec, {}, scratch) as prepared:
        for name in ("one", "two"):  # the helper is none the worse for it
            with prepared.launch(name, lambda _: None) as instance:
                assert not smallest_container.await_word(instance.console, b"tare ready")
                assert "cannot execute /absent: No such file" in instance.explain()


def test_starts_at_once_use_helpers_of_their_own(scratch: Scratch) -> None:
    """While one helper stands still in a set-up that waits, another one serves; each reaps what it started."""
    require("processors", len(os.sched_getaffinity(0)) > 1, "one processor: there is one helper")
    count = 8
    with fork_server.prepare(spec_of(scratch), {}, scratch) as prepared, ExitStack() as alive:
        assert len(prepared.resident_pids) > 1

        def start(number: int) -> Instance:
            return alive.enter_context(prepared.launch(f"c{number}", lambda _: None))

        with ThreadPoolExecutor(count) as threads:
            instances = list(threads.map(start, range(count)))
        assert all(smallest_container.await_word(each.console, b"tare ready") for each in instances)
        assert len(frozenset().union(*(each.pids() for each in instances))) == count
        parents = {int(read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1]) for i in instances for pid in i.pids()}
        assert parents <= prepared.resident_pids


def test_beside_another_a_helper_keeps_to_its_processor_and_its_container_does_not(scratch: Scratch) -> None:
    """One helper does not get on with its start: the other is beside it. Alone again, it may run anywhere."""
    everywhere = os.sched_getaffinity(0)
    require("processors", len(everywhere) > 1, "one processor: there is one helper")
    with fork_server.prepare(spec_of(scratch), {}, scratch) as prepared, ExitStack() as alive:
        slow, other = sorted(prepared.resident_pids)[:2]

        def start(name: str) -> Instance:
            return alive.enter_context(prepared.launch(name, lambda _: None))

        with ThreadPoolExecutor(1) as threads:
            os.kill(slow, signal.SIGSTOP)
            try:
                waits = threads.submit(start, "waits")
                wait_until(cgroups.at(f"{scratch.cgroup}/waits").path.exists, DEADLINE_S)
                beside = start("beside")
                assert len(os.sched_getaffinity(other)) == 1
            finally:
                os.kill(slow, signal.SIGCONT)
            waits.result()
        start("alone")
        assert os.sched_getaffinity(slow) == os.sched_getaffinity(other) == everywhere
        assert smallest_container.await_word(beside.console, b"tare ready")
        (pid,) = beside.pids()
        assert os.sched_getaffinity(pid) == everywhere


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_helper_has_none_of_the_hosts_mounts(scratch: Scratch) -> None:
    """Where the kernel allows it: then there is nothing to let go of in each start."""
    require("detached", root_layer.can_stand_alone(), f"Linux {platform.release()}")
    with fork_server.prepare(spec_of(scratch), {}, scratch) as prepared:
        for resident in prepared.resident_pids:
            (mount,) = Path(f"/proc/{resident}/mountinfo").read_text().splitlines()
            assert "tare-root" in mount


def test_a_living_container_holds_two_descriptors_here_and_none_in_the_helper(scratch: Scratch) -> None:
    """Its console and its process; thousands are to be alive at once."""
    count = 20
    with fork_server.prepare(spec_of(scratch), {}, scratch) as prepared, ExitStack() as alive:
        before = descriptors(os.getpid())
        theirs = {pid: descriptors(pid) for pid in prepared.resident_pids}
        for number in range(count):
            instance = alive.enter_context(prepared.launch(f"c{number}", lambda _: None))
            assert smallest_container.await_word(instance.console, b"tare ready")
        # A status pipe is closed by a later start; a helper may be about to close what it was sent.
        assert 2 * count <= descriptors(os.getpid()) - before <= 2 * count + 2
        wait_until(lambda: {pid: descriptors(pid) for pid in theirs} == theirs, DEADLINE_S)
        alive.close()
        assert descriptors(os.getpid()) == before


@contextmanager
def free_descriptors(count: int) -> Iterator[None]:
    """Inside, this process can open so many files and no more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    with ExitStack() as fillers:
        while (fd := os.dup(0)) < highest:
            fillers.callback(os.close, fd)
        os.close(fd)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (fd + count, limits[1]))
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("free", range(10))
def test_descriptors_run_out_at_any_point_of_a_start(scratch: Scratch, free: int, grouped: bool) -> None:
    """It is an error with its number, which ends a ramp in order; nothing is left, and the helper goes on."""
    group = cgroups.at(f"{scratch.cgroup}/one")
    scratch = scratch if grouped else replace(scratch, cgroup=None)
    with fork_server.prepare(spec_of(scratch), {}, scratch) as prepared:
        error: BaseException | None = None
        with ExitStack() as alive:
            with free_descriptors(free):
                try:
                    alive.enter_context(prepared.launch("one", lambda _: None))
                except (OSError, RunnerError) as caught:
                    error = caught.__cause__ or caught
            if error is not None:
                assert isinstance(error, OSError)
                assert error.errno == errno.EMFILE
            assert len(group.pids()) == (1 if grouped and not error else 0)
        assert not group.path.exists()
        with prepared.launch("two", lambda _: None) as instance:
            assert smallest_container.await_word(instance.console, b"tare ready")
            children = [int(word) for pid in prepared.resident_pids for word in children_of(pid)]
            assert set(children) - prepared.resident_pids == instance.pids(), "each child is reaped"


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_cgroup_that_cannot_be_made_ends_the_start(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child waits at its gate, and the helper for the child."""
    with fork_server.prepare(spec_of(scratch), {}, scratch) as prepared:
        with monkeypatch.context() as patch:

            def refuse(*_: object, **__: object) -> None:
                raise OSError(errno.ENOSPC, "No space left on device", "/sys/fs/cgroup/x")

            patch.setattr(os, "mkdir", refuse)
            with pytest.raises(RunnerError, match="cannot make the cgroup"), prepared.launch("one", lambda _: None):
                pass
        with prepared.launch("two", lambda _: None) as instance:
            assert smallest_container.await_word(instance.console, b"tare ready")


def test_helper_says_why_it_cannot_start(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A helper that ends before it is ready is an error with its standard error in it."""
    monkeypatch.setattr(fork_client, "_CODE", "raise SystemExit('no such luck')")
    with pytest.raises(RunnerError) as caught, fork_server.prepare(spec_of(scratch), {}, scratch):
        pass
    assert "no such luck" in caught.value.why


def test_start_on_v2(scratch: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The v2 way of a start: cloned into its cgroup, under the device program (no limits if v2 has no controllers)."""
    unified = cgroups.layout().v2
    require("cgroups", unified is not None, "no cgroup2 is mounted")
    assert unified is not None
    layout = cgroups.Layout("v2", {}, (), unified)
    with monkeypatch.context() as patch:
        patch.setattr(cgroups, "layout", lambda: layout)
        if "memory" not in Path(unified, "cgroup.controllers").read_text():
            patch.setattr(cgroups.V2, "limit", lambda *_, **__: None)
        with fork_server.prepare(spec_of(scratch), {}, scratch) as prepared:
            with prepared.launch("one", lambda _: None) as instance:
                assert smallest_container.await_word(instance.console, b"tare ready"), instance.explain()
                (pid,) = instance.pids()
                assert instance.cgroup == Path(unified, f"{scratch.cgroup}/one")
                assert f"0::/{scratch.cgroup}/one" in Path(f"/proc/{pid}/cgroup").read_text().splitlines()
            assert not Path(unified, f"{scratch.cgroup}/one").exists()


def test_device_program_of_v2(scratch: Scratch) -> None:
    """The BPF program of cgroup v2: a child cloned into its cgroup may open /dev/null, and not /dev/kmsg."""
    unified = cgroups.layout().v2
    require("cgroups", unified is not None, "no cgroup2 is mounted")
    group = cgroups.V2(scratch.prefix, cgroups.Layout("v2", {}, (), unified))
    group.create()
    rules = devices.RulesV2()
    with rules:
        rules.attach(group)
        directory = os.open(group.path, os.O_RDONLY | os.O_DIRECTORY)
        answers, child_end = os.pipe()
        pid, pidfd = syscalls.clone3(0, signal.SIGCHLD, cgroup_fd=directory)
        if pid == 0:
            os.write(child_end, _attempts())
            os._exit(0)
        os.waitpid(pid, 0)
        for fd in (directory, pidfd, child_end):
            os.close(fd)
    with open(answers, "rb") as answer:
        assert answer.read().split() == [b"/dev/null:0", b"/dev/urandom:0", b"/dev/pts/ptmx:0", b"/dev/kmsg:1"]


def _attempts() -> bytes:
    said = b""
    for path in (b"/dev/null", b"/dev/urandom", b"/dev/pts/ptmx", b"/dev/kmsg"):
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NOCTTY))
            said += path + b":0 "
        except OSError as error:
            said += path + f":{error.errno} ".encode()
    return said
