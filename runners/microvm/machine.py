"""One machine of a small monitor, from its start to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import Address, RunnerError
from tare.runners.container.warm.smallest_container import hung_up
from tare.runners.engines.common import grouped
from tare.runners.guest import inside
from tare.runners.launch import drain, monitored

_STOP_S = 20
_END_S = 5
_TAIL_LINES = 15
_TAIL_BYTES = 8000
_READ_BYTES = 65536
#: What Cloud Hypervisor says when its guest has asked for a restart, and before it boots it again (vmm/src/lib.rs).
_RESTARTS = '"rebooting"'


@dataclass(slots=True, kw_only=True)
class Machine(monitored.Monitored):
    """A running machine: the process of its monitor. Its serial line, the only one, is the monitor's standard output.

    ``log`` is the file of the monitor's own messages. ``tail`` is the end of what came over the line, where the first
    process of a workload of a user's says there how that ended; ``events`` what the monitor said of its machine.
    """

    log: Path
    tail: drain.Tail | None = None
    events: drain.Tail | None = None

    def explain(self) -> str:
        """How the workload ended, and the monitor, and what that said; the guest's own words are on the console."""
        parts = []
        if (status := self._said_status()) is not None:
            parts.append(f"the workload ended with status {status}")
        program = Path(str(self.monitor.args[0])).name if isinstance(self.monitor.args, list) else "its monitor"
        if ended := monitored.Monitored.explain(self):
            restarted = self.events is not None and restarts(self.events)
            parts.append("its guest restarted, so the machine was ended" if restarted else f"{program} {ended}")
        with suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()
            parts += [f"{program}: {line.rstrip()}" for line in lines[-_TAIL_LINES:] if line.strip()]
        return "\n".join(parts)

    def address(self) -> Address:
        """See :class:`runners.base.Instance`."""
        raise RunnerError(f"{self.name} has no port", "its machine has no network device")

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        """See :class:`runners.base.Instance`."""
        raise RunnerError(f"{argv[0]} cannot be run beside {self.name}", "its machine has one serial line, the console")

    def status(self) -> int | None:
        """See :class:`runners.base.Instance`: a machine that ends before its workload has killed it."""
        if self.tail is None or not hung_up(self.console):
            return None
        with suppress(subprocess.TimeoutExpired):  # it closes its output a moment before its end
            self.monitor.wait(_END_S)
        said = self._said_status()
        return inside.KILLED if said is None else said

    def _said_status(self) -> int | None:
        return None if self.tail is None else inside.ended_with(self.tail.text().replace("\r\n", "\n"))

    def reclaim(self, size_bytes: int) -> None:
        """See :class:`runners.base.Instance`."""
        raise RunnerError(f"{self.name} cannot be asked for {size_bytes} bytes", "its machine has no balloon")

    def stop(self) -> None:
        """Kill the monitor, and with it the machine."""
        drain.leave(self.console)
        with suppress(ProcessLookupError):
            os.killpg(self.monitor.pid, signal.SIGKILL)
        self.monitor.wait(_STOP_S)
        if self.group is not None:
            grouped.empty(self.group)


def copied(stack: ExitStack, theirs: ExitStack) -> tuple[int, int, drain.Tail]:
    """A console, the end of a pipe that leads to it, and the last of what came through; nothing of it is lost.

    *stack* closes the console, and *theirs* the end of the pipe.
    """
    tail = drain.Tail(_TAIL_BYTES)
    source, out = os.pipe()
    theirs.callback(os.close, out)
    console, to = os.pipe()
    os.set_blocking(console, False)

    def copy() -> None:
        with suppress(BrokenPipeError):
            while data := os.read(source, _READ_BYTES):
                tail.keep(data)
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(to, rest) :]
        os.close(to)
        os.close(source)

    thread = threading.Thread(target=copy, name="serial-line", daemon=True)
    stack.callback(thread.join)  # after the console is closed: nobody may read it any more
    stack.callback(drain.close, console)
    thread.start()
    return console, out, tail


def restarts(said: drain.Tail) -> bool:
    """Whether a monitor has *said* that its guest restarts."""
    return _RESTARTS in said.text()


def ended_on_restart(events: int, monitor: int, stack: ExitStack) -> drain.Tail:
    """Kill the process *monitor* when it says on *events* that its guest restarts: for all others that is the end.

    Returns what it will have said there last.
    """
    said = drain.Tail(_TAIL_BYTES)
    process = monitored.open_process(monitor)
    if process is None:
        return said

    def heard(data: bytes) -> None:
        said.keep(data)
        if restarts(said):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, signal.SIGKILL)

    stack.callback(os.close, process)
    stack.callback(drain.leave, events)
    drain.take(events, heard)
    return said
