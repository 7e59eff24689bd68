"""A process in a cgroup of its own, which is charged only for the memory that its program touches.

Memory is charged to the cgroup in which a process is when it touches a page, and stays there when the process moves.
A program that is moved after its start has touched most of its pages in the former cgroup. A copy of tare that executes
the program has touched pages, too. So a gate (``exec_gate.c``, static, compiled once) is started in tare's own cgroup,
moved when it waits, and then told to go on: it executes the program, whose memory is new and is charged to its cgroup.

A shell could be the gate (``read go; exec "$@"``), or 60 bytes of machine code: with each of the three, a search for
the payload's least memory by single pages, eight times, found the same, 100 to 112 KiB (Linux 6.18, cgroup v1). A shell
adds to the environment and has its own error messages; machine code has to be written for each architecture.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tare.runners import payload
from tare.runners.base import RunnerError
from tare.runners.container.cgroup import cgroups

#: Signals that a program must not inherit as ignored: Python ignores two, nohup and a shell's background jobs three
#: more.
DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
#: How long a gate, which has nothing else to do, may take for an answer: struct timeval, seconds and microseconds.
_LIMIT = struct.pack("ll", 20, 0)
_SOURCE = Path(__file__).with_name("exec_gate.c")


def binary(cache: Path) -> Path:
    """The compiled gate; see :func:`runners.payload.compiled`."""
    return payload.compiled(_SOURCE, cache)


@dataclass(frozen=True, slots=True)
class WaitingProcess:
    """A process that waits to execute *program*; *link* is the other end of its descriptor, closed by the caller."""

    pid: int
    program: str
    link: socket.socket

    def run_in(self, group: cgroups.Cgroup) -> None:
        """Move it into *group*, and let it execute the program; returns when it has done that, or has died.

        Raises OSError if it cannot be moved, and RunnerError if the kernel refuses to execute the program or the gate
        does not answer.
        """
        try:
            self.link.recv(1)  # it waits now: before that, it touches pages
            group.add(self.pid)
            self.link.send(b"g")
            said = self.link.recv(4)
        except ConnectionError:  # it died before it read
            return
        except BlockingIOError:
            why = "the gate, which starts it, does not answer"
            raise RunnerError(f"cannot execute {self.program}", why, "check whether the host is overloaded") from None
        if said:
            (number,) = struct.unpack("=i", said)
            raise RunnerError(f"cannot execute {self.program}", os.strerror(number), "")


def sockets() -> tuple[socket.socket, socket.socket]:
    """Our end and the gate's of what they talk over; a wait at ours has a limit."""
    link, its = socket.socketpair()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _LIMIT)
    return link, its


def words(gate: Path, its: socket.socket, argv: Sequence[str]) -> tuple[str, ...]:
    """The command line of a *gate* before the program ``argv[0]``."""
    return (os.fspath(gate), str(its.fileno()), argv[0], *argv)


def hold(
    gate: Path, argv: Sequence[str], env: Mapping[str, str], *, console: int, stdin: int, ours: ExitStack
) -> WaitingProcess:
    """Start a *gate* before the program ``argv[0]``. The caller ends the process; the link closes with *ours*."""
    link, its = sockets()
    ours.callback(link.close)
    with its:
        pid = os.posix_spawn(
            gate,
            words(gate, its, argv),
            env,
            # The last one makes the child's copy inheritable, and no other child's: posix_spawn(3).
            file_actions=(
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, console, 1),
                (os.POSIX_SPAWN_DUP2, console, 2),
                (os.POSIX_SPAWN_DUP2, its.fileno(), its.fileno()),
            ),
            setpgroup=0,
            setsigdef=DEFAULTED,
        )
    return WaitingProcess(pid, argv[0], link)
