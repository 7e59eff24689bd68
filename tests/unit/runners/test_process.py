"""The bare process, and the gate before one that gets a cgroup; without a cgroup, so without any privilege."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import cast

import pytest

from tare.runners import payload, process
from tare.runners.base import HOST, RunnerError, Scratch, Spec
from tare.runners.container.cgroup import cgroups
from tare.runners.image.cache import cache_dir
from tare.runners.image.tree import plain
from tare.runners.launch import exec_gate
from tests.conftest import wait_until

LIMITED = {"limit": "cgroup"}


class Group:
    """Writes down who was moved, and which program that was then."""

    def __init__(self, error: OSError | None = None) -> None:
        self.moved: list[int] = []
        self.programs: list[str] = []
        self.error = error

    def add(self, pid: int) -> None:
        if self.error:
            raise self.error
        self.moved.append(pid)
        with suppress(FileNotFoundError):  # it has died
            self.programs.append(Path(f"/proc/{pid}/exe").readlink().name)


def as_group(group: Group) -> cgroups.Cgroup:
    return cast(cgroups.Cgroup, group)


@contextmanager
def held(*argv: str, env: dict[str, str] | None = None) -> Iterator[tuple[exec_gate.WaitingProcess, int]]:
    """A held process, and the end of its standard output that is read. It is reaped at the end."""
    with ExitStack() as stack:
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        null = os.open("/dev/null", os.O_RDONLY)
        stack.callback(os.close, null)
        links = stack.enter_context(ExitStack())
        try:
            one = exec_gate.hold(exec_gate.binary(cache_dir()), argv, env or {}, console=writer, stdin=null, ours=links)
        finally:
            os.close(writer)
        try:
            yield one, reader
        finally:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)


def all_of(fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        return file.read()


@pytest.mark.compiler
def test_the_program_begins_after_the_move() -> None:
    group = Group()
    with held("/bin/sh", "-c", 'echo "$0|$1|$A"', "zero", "two words", env={"A": "b"}) as (one, out):
        one.run_in(as_group(group))
        assert all_of(out) == b"zero|two words|b\n"
        assert group.moved == [one.pid]
        assert group.programs == [exec_gate.binary(cache_dir()).name]


@pytest.mark.compiler
def test_the_program_has_the_environment_and_the_descriptors_of_any_other() -> None:
    with held("/usr/bin/env", env={"A": "b"}) as (one, out):
        one.run_in(as_group(Group()))
        assert all_of(out) == b"A=b\n"
    with held("/bin/ls", "/proc/self/fd") as (one, out):
        one.run_in(as_group(Group()))
        other = subprocess.run(["/bin/ls", "/proc/self/fd"], capture_output=True, close_fds=False, check=True)
        assert all_of(out) == other.stdout


@pytest.mark.compiler
@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"\0\1\2", "Exec format error")])
def test_a_program_that_cannot_be_executed_is_an_error(content: bytes | None, why: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    if content is not None:
        program.write_bytes(content)
        program.chmod(0o755)
    with held(str(program)) as (one, _), pytest.raises(RunnerError) as caught:
        one.run_in(as_group(Group()))
    assert str(program) in caught.value.what
    assert why in caught.value.why


@pytest.mark.compiler
def test_a_refused_move_leaves_the_program_unstarted() -> None:
    with held("/bin/echo", "started") as (one, out):
        with pytest.raises(PermissionError):
            one.run_in(as_group(Group(PermissionError("not for you"))))
        os.kill(one.pid, signal.SIGKILL)
        assert all_of(out) == b""


@pytest.mark.compiler
def test_a_gate_that_dies_is_no_error_of_the_program() -> None:
    with held("/bin/echo", "started") as (one, out):
        os.kill(one.pid, signal.SIGKILL)
        one.run_in(as_group(Group()))
        assert all_of(out) == b""


@pytest.mark.compiler
def test_a_gate_ends_when_nobody_waits() -> None:
    with held("/bin/echo", "started") as (one, out):
        one.link.close()
        assert all_of(out) == b""
        wait_until(lambda: os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG), 5)


@pytest.mark.compiler
def test_without_cgroups_there_is_no_limited_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cgroups, "usable", lambda: "/sys/fs/cgroup/memory: Permission denied")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    support = process.probe(LIMITED, cache_dir())
    assert not support.ok
    assert "/sys/fs/cgroup/memory" in support.why
    assert "root" in support.fix
    assert process.probe({}, cache_dir()).ok
    (tmp_path / "payload").write_bytes(b"")
    (tmp_path / "payload").chmod(0o755)
    spec = Spec(argv=("/payload",), image=plain(tmp_path), memory_bytes=1 << 26, cpus=1)
    scratch = Scratch(directory=tmp_path, cache=cache_dir(), cgroup=None, prefix="tare-0")
    with pytest.raises(RunnerError, match="may not make cgroups"), process.prepare(spec, LIMITED, scratch):
        pass


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (payload.Payload(exit_code=3).arguments(), "the process exited with status 3"),
        (payload.Payload().arguments(), ""),
    ],
)
def test_an_unlimited_process_says_how_it_ended(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "payload").symlink_to(payload.binary(cache_dir()))
    spec = Spec(argv=(payload.PATH, *words), image=plain(tmp_path), memory_bytes=1 << 26, cpus=1)
    scratch = Scratch(directory=tmp_path, cache=cache_dir(), cgroup=None, prefix="tare-0")
    with process.prepare(spec, {"limit": "none"}, scratch) as prepared, prepared.launch("x", lambda _: None) as one:
        os.set_blocking(one.console, True)
        if said:
            assert all_of(one.console).endswith(b"tare exit 3\n")
        assert one.explain() == said
        assert one.cgroup is None


@pytest.mark.compiler
def test_a_workload_begins_in_its_directory_and_no_thread_of_ours_goes_there(tmp_path: Path) -> None:
    image = dataclasses.replace(plain(Path("/")), source=HOST)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    spec = Spec(argv=("/bin/pwd",), image=image, memory_bytes=1 << 26, cpus=1, cwd=str(elsewhere), custom=True)
    scratch = Scratch(directory=tmp_path, cache=cache_dir(), cgroup=None, prefix="tare-0")
    here = Path.cwd()
    seen, over = set[Path](), threading.Event()

    def look() -> None:
        while not over.wait(0.0001):
            seen.add(Path.cwd())

    other = threading.Thread(target=look)
    other.start()
    try:
        with process.prepare(spec, {}, scratch) as prepared:
            for number in range(20):
                with prepared.launch(f"x-{number}", lambda _: None) as one:
                    os.set_blocking(one.console, True)
                    assert all_of(one.console).decode() == f"{elsewhere}\n"
            elsewhere.rmdir()
            with pytest.raises(FileNotFoundError, match="elsewhere"), prepared.launch("late", lambda _: None):
                pass
    finally:
        over.set()
        other.join()
    assert seen == {here} == {Path.cwd()}


def ignored(pid: int) -> set[int]:
    """The signals that the process ignores; the C library's own, 32 and 33, are among them after posix_spawn(3)."""
    (mask,) = (
        line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn:")
    )
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


@pytest.mark.compiler
def test_neither_way_hands_on_a_signal_that_tare_ignores(tmp_path: Path) -> None:
    """As under nohup, or as a shell's background job."""
    path = payload.binary(cache_dir())
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        spec = Spec(
            argv=(f"/{path.name}", *payload.Payload().arguments()),
            image=plain(path.parent),
            memory_bytes=1 << 20,
            cpus=1,
        )
        scratch = Scratch(directory=tmp_path, cache=cache_dir(), cgroup=None, prefix="tare-x")
        with process.prepare(spec, {}, scratch) as prepared, prepared.launch("one", lambda _: None) as instance:
            (pid,) = instance.pids()
            assert not ignored(pid) & set(exec_gate.DEFAULTED)
        with held("/bin/true") as (one, _):
            assert not ignored(one.pid) & set(exec_gate.DEFAULTED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
