"""One kernel of user-mode Linux, from its start to its end."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import Address, RunnerError
from tare.runners.container.warm.smallest_container import hung_up
from tare.runners.engines.common import adoption, grouped
from tare.runners.guest import inside, network
from tare.runners.guest.relay import Relay
from tare.runners.launch import drain, monitored

_STOP_S = 20
_END_S = 5
_TAIL_LINES = 15
_SYS_KCMP, _KCMP_VM = 312, 1  # asm/unistd_64.h, linux/kcmp.h
_ADDR_NO_RANDOMIZE, _ASK = 0x0040000, 0xFFFFFFFF  # sys/personality.h, personality(2)
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """How a machine with a workload of a user's is reached, besides its console.

    ``log`` is what its kernel says; *asker* is the program that runs a further command by *relay*; ``networked``: it
    has a tap.
    """

    log: int
    log_tail: drain.Tail
    relay: Relay
    asker: Path
    networked: bool

    def said_status(self) -> int | None:
        """The status of the workload, by what the kernel's console says; None if it does not say one."""
        drain.catch_up(self.log)
        return inside.ended_with(self.log_tail.text())


@dataclass(slots=True, kw_only=True)
class Machine(monitored.Monitored):
    """A started kernel: a program without a container below it. Its ``pid`` is the monitor's."""

    entrance: Entrance | None = None

    def pids(self) -> frozenset[int]:
        """See :class:`runners.base.Instance`: without the kernel's threads that the host shows as processes.

        They share its memory (clone(2), CLONE_VM), which would be counted once for each.
        """
        kernel = self.monitor.pid
        return frozenset(pid for pid in self._all() if pid == kernel or not _same_memory(pid, kernel))

    def _all(self) -> frozenset[int]:
        return monitored.Monitored.pids(self)

    def explain(self) -> str:
        """How the workload ended, and the kernel; and the last lines of the kernel's console."""
        if self.entrance is None:
            return monitored.Monitored.explain(self)
        parts = []
        if (status := self.status()) is not None:
            said = self.entrance.said_status() is not None
            parts.append(f"the workload ended with status {status}" if said else "its kernel has ended")
        lines = [line.rstrip() for line in self.entrance.log_tail.text().splitlines() if line.strip()]
        # A panic says why first, and then where, in more lines than anybody reads.
        panic = [line for line in lines[:-_TAIL_LINES] if "Kernel panic" in line]
        parts += [f"guest kernel: {line}" for line in (*panic, *lines[-_TAIL_LINES:])]
        return "\n".join(parts)

    def address(self) -> Address:
        """See :class:`runners.base.Instance`."""
        if self.entrance is None or not self.entrance.networked:
            raise RunnerError(f"{self.name} has no port", "its machine has no network device")
        return Address(how=network.REACHED, host=network.GUEST, pid=self.monitor.pid, link=network.TAP)

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        """See :class:`runners.base.Instance`."""
        if self.entrance is None:
            why = "its machine holds nothing but the payload"
            raise RunnerError(f"{argv[0]} cannot be run beside {self.name}", why)
        try:
            self.entrance.relay.open()
        except OSError as error:
            raise RunnerError(f"{argv[0]} cannot be run beside {self.name}", str(error)) from error
        return (str(self.entrance.asker), str(self.entrance.relay.control), *argv)

    def status(self) -> int | None:
        """See :class:`runners.base.Instance`: a machine that ends before its workload has killed it."""
        if self.entrance is None:
            return None
        if hung_up(self.console):  # it is closed a moment before the kernel's end
            with suppress(subprocess.TimeoutExpired):
                self.monitor.wait(_END_S)
        if self.monitor.poll() is None:
            return None
        said = self.entrance.said_status()
        return inside.KILLED if said is None else said

    def reclaim(self, size_bytes: int) -> None:
        """See :class:`runners.base.Instance`."""
        raise RunnerError(
            f"{self.name} cannot be asked for {size_bytes} bytes", "its memory is its kernel's, and it has no balloon"
        )

    def stop(self) -> None:
        """Kill the kernel and the processes that it traces, which are in its process group and in its cgroup."""
        drain.leave(self.console)
        with adoption.adopting():
            with suppress(ProcessLookupError):
                os.killpg(self.monitor.pid, signal.SIGKILL)
            self.monitor.wait(_STOP_S)
            if self.group is not None:
                grouped.empty(self.group)
        adoption.reap_group(self.monitor.pid)


@contextmanager
def placed_alike() -> Iterator[None]:
    """Let what this thread starts in this block have its memory where any other has it.

    The kernel's own memory begins at its program, and ends *mem* behind the place where its heap would be. Linux moves
    that by up to 32 MiB at random, and the guest has so much less.
    """
    before = _LIBC.personality(_ASK)
    _LIBC.personality(before | _ADDR_NO_RANDOMIZE)
    try:
        yield
    finally:
        _LIBC.personality(before)


def _same_memory(one: int, other: int) -> bool:
    """Whether both processes have one address space; False where that cannot be known."""
    return bool(_LIBC.syscall(_SYS_KCMP, one, other, _KCMP_VM, 0, 0) == 0)
