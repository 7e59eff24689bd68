"""A virtual machine with a workload of a user's: how that ended, how it is reached; what it cannot take."""

from __future__ import annotations

import os
import select
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from tare.runners.base import RunnerError, Scratch, Spec
from tare.runners.image import sources
from tare.runners.launch import drain
from tare.runners.vm import backend, guest
from tare.runners.vm.connection import Hypervisor

MIB = 1 << 20


def test_the_root_of_the_host_is_refused_with_one_command(tmp_path: Path) -> None:
    asked = Spec(argv=("/bin/true",), image=sources.find("host", tmp_path), memory_bytes=128 * MIB, cpus=1, custom=True)
    scratch = Scratch(directory=tmp_path, cache=tmp_path, cgroup=None, prefix="tare-0")
    with pytest.raises(RunnerError, match="image host") as caught, backend.prepare(asked, {}, scratch):
        pass
    assert "tare image build debian:bookworm+python3" in caught.value.fix


def started(stack: ExitStack, *, log: bytes, lives: bool) -> guest.Guest:
    """A guest whose emulator is a process that waits, or has ended, and whose kernel said *log*."""
    emulator = subprocess.Popen(["sleep", "60"] if lives else ["true"])
    stack.callback(emulator.wait)
    stack.callback(emulator.kill)
    handle = os.pidfd_open(emulator.pid)
    stack.callback(os.close, handle)
    ours, theirs = socket.socketpair()
    stack.enter_context(ours)
    ours.setblocking(False)
    if lives:
        stack.enter_context(theirs)
    else:
        theirs.close()
        select.select([handle], [], [])
    tail = drain.Tail(4000)
    tail.keep(log)
    return guest.Guest(
        name="tare-1", console=ours.fileno(), emulator_pid=emulator.pid, cgroup=None, log=-1, log_tail=tail,
        emulator_log=Path("/nowhere"), emulator_status=(), hypervisor=cast(Hypervisor, None), domain=None,
        emulator=handle, inside=guest.Inside(control=Path("/run/ctl"), asker=Path("/ask"), networked=True),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("log", "lives", "status"),
    [
        (b"", True, None),
        (b"tare init: the workload ended with status 3\n", False, 3),
        (b"Kernel panic - not syncing\n", False, 137),  # the machine ended, and the workload with it
    ],
)
def test_the_status_of_a_workload(log: bytes, lives: bool, status: int | None) -> None:
    with ExitStack() as stack:
        assert started(stack, log=log, lives=lives).status() == status


def test_a_guest_with_a_workload_is_reached_and_entered() -> None:
    with ExitStack() as stack:
        found = started(stack, log=b"", lives=True)
        assert found.command(("ls", "-l")) == ("/ask", "/run/ctl", "ls", "-l")
        address = found.address()
        assert (address.host, address.pid, address.link) == ("10.0.0.2", found.emulator_pid, "tare-tap")
