"""The command line of user-mode Linux, and what it cannot be told; no kernel is started."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tare.runners.base import RunnerError, Spec
from tare.runners.engines import uml, uml_machine
from tare.runners.guest import workload
from tare.runners.guest.relay import Relay
from tare.runners.image import sources
from tare.runners.image.tree import plain
from tare.runners.launch import drain
from tests.conftest import wait_until
from tests.unit.runners.engines.script import on_path

SPEC = Spec(
    argv=("/payload", "a b"),
    image=plain(Path("/srv/root")),
    memory_bytes=128 << 20,
    cpus=1,
    env=(("NAME", ""),),
)


def arguments(spec: Spec) -> list[str]:
    return uml.arguments("linux.uml", spec, initrd=Path("/i"), name="one", directory=Path("/d"))


def test_the_kernel_is_told_all_of_it() -> None:
    words = arguments(SPEC)
    assert {"mem=128M", "initrd=/i", "umid=one", "uml_dir=/d", "rdinit=/payload", 'NAME=""'} <= set(words)
    assert words[words.index("--") + 1 :] == ['"a b"']


def test_a_workload_has_two_serial_lines_and_what_it_needs() -> None:
    """Its words and its variables are not on the command line: the first process finds them in a file."""
    made = workload.Bootable(initrd=Path("/i"), disk=Path("/disk"), networked=True, asker=Path("/ask"))
    spec = replace(SPEC, argv=("/bin/sh", "-c", 'echo "x"'), env=(("quiet", "1"),), custom=True)

    def words(made: workload.Bootable) -> set[str]:
        return set(
            uml.workload_arguments("linux.uml", spec, made, name="one", directory=Path("/d"), console=4, control=5)
        )

    devices = {"ubd0rc=/disk", "vec0:transport=tap,ifname=tare-tap"}
    told = {"ssl0=null,fd:4", "ssl1=fd:5", "TARE_CONSOLE=/dev/ttyS0", "rdinit=/.tare/init", "initrd=/i", "umid=one"}
    assert devices | told <= words(made)
    assert not devices & words(replace(made, disk=None, networked=False))


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (replace(SPEC, env=(("quiet", "1"),)), "the variable 'quiet'"),
        (replace(SPEC, argv=("/payload", 'a"b')), "cannot be passed"),
        (replace(SPEC, argv=("/payload", *["x"] * 32)), "do not fit"),
        (replace(SPEC, argv=("/payload", "x" * 4096)), "too long"),
    ],
)
def test_what_its_command_line_cannot_hold_is_refused(spec: Spec, what: str) -> None:
    with pytest.raises(RunnerError, match=what):
        arguments(spec)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        (replace(SPEC, cpus=2), "2 processors"),
        (replace(SPEC, memory_bytes=16 << 20), "16 MiB are not enough"),
        (replace(SPEC, image=sources.find("host", Path("/nowhere"))), "image host"),
    ],
)
def test_what_it_has_not_is_refused(spec: Spec, what: str) -> None:
    with pytest.raises(RunnerError, match=what):
        uml._check(spec)


def test_one_that_is_missing_or_broken_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    support = uml.probe({}, tmp_path)
    assert (support.ok, support.fix) == (False, "install user-mode-linux")
    on_path(tmp_path, monkeypatch, "linux.uml", "exit 3")
    support = uml.probe({}, tmp_path)
    assert (support.ok, support.fix) == (False, "install user-mode-linux again")
    assert "status 3" in support.why


def test_only_a_kernel_whose_owner_has_ended_is_swept() -> None:
    with subprocess.Popen(["true"]) as dead:
        pass
    waits = [
        "sh",
        "-c",
        "read line",
    ]  # a command of the shell: a child of it would have the same command line for a moment
    words = [*waits, f"uml_dir=/run/tare-1a/0/tare-owner-{dead.pid}"]
    with (
        subprocess.Popen(words, stdin=subprocess.PIPE) as orphan,
        subprocess.Popen([*waits, "uml_dir=/home/me"], stdin=subprocess.PIPE) as users,
    ):
        for each in (orphan, users):
            told = Path(f"/proc/{each.pid}/cmdline")
            wait_until(lambda told=told: b"uml_dir=" in told.read_bytes(), 10, what="its program")  # type: ignore[misc]
        removed = list(uml.sweep())
        wait_until(lambda: orphan.poll() is not None, 10, what="its end")
        assert users.poll() is None
        users.kill()
    assert removed == [f"process {orphan.pid} (sh)"]


def test_what_is_started_has_its_memory_where_any_other_has_it() -> None:
    """Without that, the heap of a program begins somewhere else each time."""

    def heap() -> str:
        with uml_machine.placed_alike():
            maps = subprocess.run(["cat", "/proc/self/maps"], capture_output=True, text=True, check=True).stdout
        return next(line for line in maps.splitlines() if "[heap]" in line).split()[0]

    before = Path("/proc/thread-self/personality").read_text()
    assert heap() == heap()
    assert Path("/proc/thread-self/personality").read_text() == before


def started(stack: ExitStack, *, log: bytes, lives: bool, networked: bool = True) -> uml_machine.Machine:
    """A machine whose kernel is a process that waits, or has ended, and that said *log*."""
    console, its = os.pipe()
    os.set_blocking(console, False)
    stack.callback(os.close, console)
    monitor = subprocess.Popen(["sleep", "60"] if lives else ["true"], stdout=its)
    os.close(its)
    stack.callback(monitor.wait)
    stack.callback(monitor.kill)
    if not lives:
        monitor.wait()
    line, other = socket.socketpair()
    stack.enter_context(other)
    tail = drain.Tail(4000)
    tail.keep(log)
    place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    relay = Relay(line, place / "control")
    stack.callback(relay.close)
    entrance = uml_machine.Entrance(log=-1, log_tail=tail, relay=relay, asker=Path("/ask"), networked=networked)
    return uml_machine.Machine(
        name="tare-1", console=console, monitor=monitor, pid=monitor.pid, pidfd=None, entrance=entrance
    )


@pytest.mark.parametrize(
    ("log", "lives", "status", "told"),
    [
        (b"a word of the kernel\n", True, None, "guest kernel: a word of the kernel"),
        (b"tare init: the workload ended with status 3\n", False, 3, "the workload ended with status 3\nguest kernel:"),
        (b"Kernel panic\n", False, 137, "its kernel has ended\nguest kernel: Kernel panic"),
    ],
)
def test_the_status_of_a_workload_is_on_the_kernel_s_console(
    log: bytes, lives: bool, status: int | None, told: str
) -> None:
    with ExitStack() as stack:
        machine = started(stack, log=log, lives=lives)
        assert machine.status() == status
        assert machine.explain().startswith(told)


def test_a_machine_with_a_workload_is_reached_and_entered() -> None:
    with ExitStack() as stack:
        machine = started(stack, log=b"", lives=True)
        address = machine.address()
        assert (address.host, address.pid, address.link) == ("10.0.0.2", machine.monitor.pid, "tare-tap")
        program, control, *words = machine.command(("ls", "-l"))
        assert (program, words) == ("/ask", ["ls", "-l"])
        assert Path(control).is_socket()


def test_one_without_a_network_or_with_the_payload_alone_says_so() -> None:
    with ExitStack() as stack:
        machine = started(stack, log=b"", lives=True, networked=False)
        with pytest.raises(RunnerError, match="no network device"):
            machine.address()
        machine.entrance = None
        assert machine.status() is None
        with pytest.raises(RunnerError, match="nothing but the payload"):
            machine.command(("ls",))
