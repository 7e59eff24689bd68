"""The client of the fork server (``runners/container/warm/fork_server.py``): starts it, and sends it requests.

There are as many fork servers as processors, forked from the first: each sets up one container at a time.
They are resident (``Prepared.resident_pids``); they and their containers die with this process.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from tare.runners.base import RunnerError
from tare.runners.container.warm import leftovers
from tare.runners.container.warm.fork_server import ALONE, BESIDE, LARGEST_REQUEST, MARKER

_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from container.warm.fork_server import main; sys.exit(main(sys.argv[3:]))"
)
_START_S = 20
#: How long it may take for an answer: struct timeval, seconds and microseconds. No launch waits for ever.
_LIMIT = struct.pack("ll", 60, 0)
_STOP_S = 20
_MOST = 8


class ForkServer:
    """A fork server. It answers requests in their order; several may wait in its socket, so that it is never idle."""

    def __init__(self, control: socket.socket, log: Path) -> None:
        self.pid = 0
        self._control = control
        self._log = log
        #: Held while a request is sent, and until the last request has been answered.
        self._sending, self._last = threading.Lock(), threading.Lock()
        self._sent = self._answered = 0

    @property
    def waiting(self) -> int:
        """How many requests it has not answered yet."""
        return self._sent - self._answered

    def await_ready(self) -> None:
        """Read its first message, which says what it is."""
        self._control.settimeout(_START_S)
        words, _ = self.ask("")
        self.pid = int(words[1])
        self._control.settimeout(None)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _LIMIT)

    def start(
        self, cgroups: Sequence[str], fds: Sequence[int], meanwhile: Callable[[], None], *, beside: bool
    ) -> tuple[int, int]:
        """Have it start a child that enters *cgroups*, while *meanwhile* runs here: the child's number and a pidfd.

        *beside*: other fork servers are at work, too (:class:`runners.container.warm.fork_server.Place`). Raises
        RunnerError and OSError, also those of *meanwhile*; there is no child then.
        """
        failures: list[OSError | RunnerError] = []

        def attempt() -> None:
            try:
                meanwhile()
            except (OSError, RunnerError) as error:
                failures.append(error)

        answer, received = self.ask("\0".join(("start", BESIDE if beside else ALONE, *cgroups)), fds, attempt)
        pid = int(answer[1])
        if failures or not received:
            os.kill(pid, signal.SIGKILL)  # the fork server has not reaped it, so no other process has its number
            for fd in received:
                os.close(fd)
            self.reap(pid)
            # Without an error: the kernel has dropped the pidfd, since this process may open no more descriptors.
            raise failures[0] if failures else OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return pid, received[0]

    def ask(
        self, message: str, fds: Sequence[int] = (), meanwhile: Callable[[], None] = lambda: None
    ) -> tuple[list[str], list[int]]:
        """Send *message*, run *meanwhile*, and return the reply's words and descriptors.

        Raises RunnerError; if the kernel refused the fork server something, that is the error's cause.
        """
        answered = threading.Lock()
        with answered:
            try:
                with self._sending:
                    if message:
                        socket.send_fds(self._control, [message.encode()], fds)
                    # The next sender is the next reader: answers come in the order of the requests.
                    before, self._last = self._last, answered
                    self._sent += 1
                meanwhile()
                with before:
                    data, received, _, _ = socket.recv_fds(self._control, LARGEST_REQUEST, 1, socket.MSG_CMSG_CLOEXEC)
                    self._answered += 1
            except BlockingIOError as error:
                self._control.close()  # a late answer would be taken for that of another request
                raise self._gone("it does not answer") from error
            except OSError as error:
                raise self._gone(str(error)) from error
            except BaseException:
                # Interrupted between request and answer: the next answer would be taken for that of another request.
                # Without its socket the fork server kills its containers and exits.
                self._control.close()
                raise
        words = data.decode().split("\0")
        if words[0] == "error":
            refusal = OSError(int(words[1]), words[2])
            raise RunnerError("the fork server refused", words[2], "see `tare doctor`") from refusal
        if not data:
            raise self._gone("its socket ended")
        return words, received

    def reap(self, pid: int) -> None:
        """Have it wait for its child *pid*, which was killed."""
        with suppress(RunnerError):  # the fork server has ended, and the process that adopted its children reaps them
            self.ask(f"reap\0{pid}")

    def _gone(self, why: str) -> RunnerError:
        log = self._log.read_text(errors="replace").strip()
        return RunnerError("the fork server is gone", log[-500:] or why, "run again; `tare clean` removes leftovers")

    def close(self) -> None:
        """Close its socket: it kills what is left, and exits."""
        self._control.close()


def start(config: str, directory: Path, stack: ExitStack) -> list[ForkServer]:
    """Start one for each processor that we may use, with *directory* to work in; *stack* ends them.

    Raises RunnerError with what the first one said.
    """
    base = directory / "layer"
    base.mkdir()
    stack.callback(base.rmdir)
    file, log = directory / "config.json", directory / "fork-server.log"
    file.write_text(config)
    with ExitStack() as theirs:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(_count())]
        servers = [ForkServer(ours, log) for ours, _ in pairs]
        sockets = [theirs.enter_context(their).fileno() for _, their in pairs]
        numbers = ",".join(map(str, sockets))
        arguments = [
            os.fspath(Path(__file__).parents[1]),
            MARKER,
            numbers,
            str(os.getpid()),
            leftovers.mine(),
            str(base),
        ]
        with file.open("rb") as stdin, log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-E", "-X", "utf8", "-c", _CODE, *arguments],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=sockets,
                env={},
                cwd="/",
                start_new_session=True,  # Ctrl-C is for tare, which then ends its fork server itself
            )
    stack.callback(_await_end, process)
    for server in servers:
        stack.callback(server.close)
    for server in servers:
        server.await_ready()
    return servers


def _count() -> int:
    return min(len(os.sched_getaffinity(0)), _MOST)


def _await_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
