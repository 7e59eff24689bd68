"""A container whose runtime stays in the foreground as its monitor, as under podman's conmon or a shell.

That is how crun, runc, tare-oci and bwrap are measured.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tare.runners.base import Address, RunnerError
from tare.runners.container.cgroup import cgroups
from tare.runners.container.warm import smallest_container
from tare.runners.launch import frame, orphans

_STOP_S = 20
_READ_BYTES = 65536
_TAIL_BYTES = 2000


@dataclass(slots=True, kw_only=True)
class Monitored:
    """A started container; see :class:`runners.base.Instance`. The monitor's own messages are on its console, too."""

    name: str
    console: int
    monitor: subprocess.Popen[bytes]
    pid: int
    pidfd: int | None
    group: cgroups.Cgroup | None = None
    enter: tuple[str, ...] = ()

    @property
    def cgroup(self) -> Path | None:
        """See :class:`runners.base.Instance`."""
        return self.group.path if self.group is not None else None

    def pids(self) -> frozenset[int]:
        """The monitor, and all processes of the container: those in its cgroup, or below the monitor."""
        if self.monitor.poll() is not None:
            return self.group.pids() if self.group is not None else frozenset()
        if self.group is None:
            return frozenset(orphans.family(self.monitor.pid))
        return self.group.pids() | {self.monitor.pid}

    def explain(self) -> str:
        """The monitor's exit status, which is its container's; its messages are on the console."""
        # The monitor has the console open, too: it closes a moment before the monitor's end can be waited for.
        if smallest_container.hung_up(self.console):
            try:
                self.monitor.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                return "its console was closed, but its monitor still runs"
        return ending(self.monitor)

    def address(self) -> Address:
        """See :class:`runners.base.Instance`."""
        return frame.loopback(self.pid)

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        """See :class:`runners.base.Instance`: *enter* is the beginning of such a command line."""
        if not self.enter:
            raise RunnerError(f"nothing can be run beside {self.name}", f"{command(self.monitor)} has no exec")
        return (*self.enter, *argv)

    def status(self) -> int | None:
        """See :class:`runners.base.Instance`: the monitor's exit status is its container's."""
        if smallest_container.hung_up(self.console):
            with suppress(subprocess.TimeoutExpired):
                self.monitor.wait(_STOP_S)
        status = self.monitor.poll()
        return status if status is None or status >= 0 else 128 - status

    def reclaim(self, size_bytes: int) -> None:
        """See :class:`runners.base.Instance`."""
        frame.reclaim(self.group, self.name, size_bytes)

    def stop(self) -> None:
        """Kill the first process, and with it all of its pid namespace; wait for the monitor's end."""
        # The number came in a message: if the container ended at once, another process may have it by now.
        if self.pidfd is not None and parent_of(self.pid) == self.monitor.pid:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        try:
            self.monitor.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.monitor.kill()
            self.monitor.wait()
            raise RunnerError(
                f"the monitor of {self.name} did not end after its container", command(self.monitor)
            ) from None


@contextmanager
def started(
    argv: Sequence[str],
    *,
    console: int,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a monitor, which passes its standard streams on to its container; *env* is its own environment.

    If the block, in which the caller waits for the container, raises, the monitor is killed.
    """
    monitor = subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=console,
        stderr=console,
        pass_fds=tuple(pass_fds),
        env=env,
        process_group=0,  # Ctrl-C is for tare, which then ends it itself
    )
    try:
        yield monitor
    except BaseException:
        monitor.kill()
        monitor.wait()
        raise


def ask(*words: str, limit_s: float, fix: str = "") -> str:
    """What the program *words* writes to its standard output. Raises RunnerError when it fails, with *fix*.

    If it takes longer than *limit_s*, it is killed, with its process group, and has failed.
    """
    said = " ".join(words)
    try:
        with subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            process_group=0,
        ) as program:
            try:
                out, error = program.communicate(timeout=limit_s)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(program.pid, signal.SIGKILL)
                raise
    except subprocess.TimeoutExpired:
        raise RunnerError(f"{said} failed", f"it did not end within {limit_s:g} s", fix) from None
    except OSError as failure:
        raise RunnerError(f"{said} failed", str(failure), fix) from failure
    if program.returncode:
        raise RunnerError(f"{said} failed", error.strip() or ending(program), fix)
    return out


def await_end(monitor: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a *monitor* that closed its console. Raises RunnerError if it runs on."""
    try:
        monitor.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        raise RunnerError(f"{command(monitor)} started nothing", f"it did not end within {_STOP_S} s", "") from None


def command(monitor: subprocess.Popen[bytes]) -> str:
    """Its command line, for a reader."""
    return " ".join(cast("list[str]", monitor.args))


def explain(monitor: subprocess.Popen[bytes], console: int) -> str:
    """Its exit status, if it has ended, and the end of what it said on *console*, which is read up to here."""
    said = b""
    with suppress(BlockingIOError):
        while data := os.read(console, _READ_BYTES):
            said = (said + data)[-_TAIL_BYTES:]
    return ": ".join(filter(None, (ending(monitor), said.decode("utf-8", "replace").strip())))


def ending(monitor: subprocess.Popen[Any]) -> str:
    """How it ended, for a reader; empty while it runs."""
    status = monitor.poll()
    return "" if status is None else f"ended with status {status}"


def open_process(pid: int) -> int | None:
    """A pidfd, or None if the container has ended by now: what it wrote is on its console, as of any other."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def await_process(pidfd: int, limit_s: float = _STOP_S) -> bool:
    """Wait for the end of the process of *pidfd*; whether it came within *limit_s*."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(limit_s * 1000))


def parent_of(pid: int) -> int:
    """The parent of process *pid*; 0 if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def descends(pid: int, ancestor: int) -> bool:
    """Whether *ancestor* started *pid*, or a process that did: a runtime's own program may be between them."""
    while pid > 1 and pid != ancestor:
        pid = parent_of(pid)
    return pid == ancestor


def named(names: Collection[str]) -> frozenset[int]:
    """The processes of this host whose program (``/proc/PID/comm``) is one of *names*."""
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and (entry / "comm").read_text().strip() in names:
                found.add(int(entry.name))
    return frozenset(found)
