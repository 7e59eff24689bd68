"""A container whose engine's client stays attached to it: ``podman run``, ``docker run``, ``ctr run``.

The client is what a user runs and waits for; what the workload writes comes through it, and it ends when its container
has ended and is removed. The parent of the container's first process is the engine's monitor of it: conmon, or a shim.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tare.runners.base import Address, Instance, RunnerError
from tare.runners.container.cgroup import cgroups
from tare.runners.container.warm import leftovers, smallest_container
from tare.runners.engines.common import runtime_share
from tare.runners.launch import drain, frame, monitored, orphans

_STOP_S = 15.0
#: How long a monitor may go on when its container has ended, and a client when both have: they remove what is left of
#: it, and podman 4.3 hangs in that at times. The wait is counted; then they are killed, and the runner removes what is
#: left.
_LINGER_S = 10.0


@dataclass(slots=True, kw_only=True)
class Attached:
    """A started container; see :class:`runners.base.Instance`.

    ``find`` gives its first process, as soon as there is one, or raises RunnerError; ``watch``, of that process, the
    engine's monitor of it, 0 if there is none any more. ``kill`` asks for the container's end by SIGKILL. ``enter`` is
    the beginning of a command line that runs another program in it. ``group`` is a cgroup of its own, made for it, in
    which the engine puts its cgroups; without it they are unknown.
    """

    name: str
    console: int
    client: subprocess.Popen[bytes]
    find: Callable[[], int]
    watch: Callable[[int], int]
    kill: Callable[[], None]
    enter: tuple[str, ...]
    group: cgroups.Cgroup | None = None
    #: Whether the client itself starts the OCI runtime, beside the monitor.
    client_starts: bool = False
    #: Whether one of them had to be killed.
    lingered: bool = field(default=False, init=False)
    _first: int = field(default=0, init=False)

    @property
    def first(self) -> int:
        """The first process. Raises RunnerError where there is none any more."""
        self._first = self._first or self.find()
        return self._first

    def monitor(self) -> int:
        """The engine's monitor of it; 0 if it has ended."""
        with suppress(RunnerError):
            return self.watch(self.first)
        return 0

    def runtime_s(self, seconds: runtime_share.Share, until_ns: int) -> float | None:
        """How much of the start up to *until_ns* the OCI runtime worked."""
        monitor = self.monitor()
        starters = {monitor, *(orphans.family(self.client.pid) if self.client_starts else ())}
        return seconds(starters - {0, 1}, {monitor}, until_ns)

    @property
    def cgroup(self) -> Path | None:
        """See :class:`runners.base.Instance`."""
        return self.group.path if self.group is not None else None

    def pids(self) -> frozenset[int]:
        """All processes of the container, the engine's monitor of it, and the client."""
        found = set(self.group.pids()) if self.group is not None else set()
        monitor = self.monitor()
        if Path(f"/proc/{monitor}").exists() and monitor > 1:
            found |= {monitor} if self.group is not None else set(orphans.family(monitor))
        if self.client.poll() is None:
            found.update(orphans.family(self.client.pid))
        return frozenset(found)

    def explain(self) -> str:
        """The client's exit status, which is its container's; its messages are on the console."""
        if smallest_container.hung_up(self.console):
            try:
                self.client.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                return "its console was closed, but its client still runs"
        return monitored.ending(self.client)

    def address(self) -> Address:
        """See :class:`runners.base.Instance`."""
        return frame.loopback(self.first)

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        """See :class:`runners.base.Instance`."""
        return (*self.enter, *argv)

    def status(self) -> int | None:
        """See :class:`runners.base.Instance`: the client's exit status is its container's."""
        if smallest_container.hung_up(self.console):
            with suppress(subprocess.TimeoutExpired):
                self.client.wait(_STOP_S)
        status = self.client.poll()
        return status if status is None or status >= 0 else 128 - status

    def reclaim(self, size_bytes: int) -> None:
        """See :class:`runners.base.Instance`."""
        frame.reclaim(self.group, self.name, size_bytes)

    def stop(self) -> None:
        """Kill the container, and wait for the ends of its client and its monitor. Raises RunnerError.

        Where the engine does not do it any more, all processes are killed.
        """
        with ExitStack() as stack:
            # A client that has ended by itself may have started nothing.
            number = self.monitor() if self.client.poll() is None or self._first else 0
            monitor = monitored.open_process(number) if number > 1 else None
            if monitor is not None:
                stack.callback(os.close, monitor)
            drain.flow(self.console)  # the client hands on what is on its way before it ends
            stack.callback(drain.leave, self.console)
            try:
                # A client that has ended by itself has seen its container's end, or that of its daemon.
                if self.client.poll() is None or not (monitor is None or monitored.await_process(monitor, 1.0)):
                    self.kill()
                if monitor is not None and not monitored.await_process(monitor, _LINGER_S):
                    self.kill()  # where its daemon has ended meanwhile, that is the reason, and is said
                    if leftovers.alive(self._first):
                        raise RunnerError(f"{self.name} does not end", f"its first process is {self._first}")
                    self._end_monitor(monitor)
                self._await_client()
            except RunnerError:
                self._force(monitor)
                raise
            if self.group is not None:
                self.group.kill()  # what the workload has put into the background, where that is no part of its end

    def _end_monitor(self, monitor: int) -> None:
        self.lingered = True
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(monitor, signal.SIGKILL)
        monitored.await_process(monitor, _STOP_S)

    def _await_client(self) -> None:
        try:
            self.client.wait(_LINGER_S)
        except subprocess.TimeoutExpired:
            self.lingered = True
            with suppress(ProcessLookupError):
                os.killpg(self.client.pid, signal.SIGKILL)
            self.client.wait()

    def _force(self, monitor: int | None) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.client.pid, signal.SIGKILL)
        self.client.wait()
        if monitor is not None:
            self._end_monitor(monitor)
        if self.group is not None:
            self.group.kill()
        elif self._first:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self._first, signal.SIGKILL)


@contextmanager
def share() -> Iterator[Callable[[Instance, int], float | None]]:
    """See :attr:`runners.base.Prepared.share`."""
    with runtime_share.watched() as seconds:

        def of(instance: Instance, until_ns: int) -> float | None:
            return instance.runtime_s(seconds, until_ns) if isinstance(instance, Attached) else None

        yield of
