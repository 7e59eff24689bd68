"""One container in a machine, from its start to the removal of all that the start made there."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import Address, RunnerError, Spec
from tare.runners.container.warm import smallest_container
from tare.runners.guest.inside import KILLED
from tare.runners.launch import frame, monitored
from tare.runners.nested import system
from tare.runners.nested.machine import Machines, Place
from tare.runners.nested.options import Runtime

NO_ADDRESS = "the network of a container in a machine leads nowhere"
_STOP_S = 20
#: What ``ask`` ends with where the machine has.
_LOST = 125
#: How long a QEMU runs on at most that has closed its ports.
_END_S = 5.0
#: The ports of a machine: scripts of ours, further commands beside workloads, and one for each container.
_COMMANDS, _FIRST = 2, 3


@dataclass(slots=True, kw_only=True)
class Nested:
    """A started container; see :class:`runners.base.Instance`.

    Its monitor on the host is the program that asked for it and passes on what it writes.
    """

    name: str
    console: int
    monitor: subprocess.Popen[bytes]
    place: Place
    machines: Machines
    enter: tuple[str, ...]
    resident: bool
    forced: bool = False
    removed: bool = False

    @property
    def cgroup(self) -> Path | None:
        """That of the machine: what is in it, the host does not see."""
        return None if self.resident else self.place.machine.guest.cgroup

    def pids(self) -> frozenset[int]:
        """The monitor, and QEMU, which several instances share; but not one that is there before any."""
        pids = frozenset() if self.monitor.poll() is not None else frozenset({self.monitor.pid})
        return pids if self.resident else pids | self.place.machine.guest.pids()

    def explain(self) -> str:
        """How the monitor ended, and what is known of the machine, if that has."""
        if smallest_container.hung_up(self.console):
            with suppress(subprocess.TimeoutExpired):
                self.monitor.wait(_STOP_S)
        lost = self.monitor.poll() == _LOST
        if self.place.machine.alive(_END_S if lost else 0):
            return monitored.ending(self.monitor)
        return "\n".join(("its machine has ended", self.place.machine.explain()))

    def address(self) -> Address:
        """See :class:`runners.base.Instance`."""
        raise RunnerError(f"{self.name} has no port", NO_ADDRESS)

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        """See :class:`runners.base.Instance`: by the machine's port for such commands; one at a time is served."""
        return self.place.machine.asking(_COMMANDS, *self.enter, *argv)

    def status(self) -> int | None:
        """See :class:`runners.base.Instance`: the monitor's exit status is its container's."""
        if smallest_container.hung_up(self.console):
            with suppress(subprocess.TimeoutExpired):
                self.monitor.wait(_STOP_S)
        status = self.monitor.poll()
        if status == _LOST and not self.place.machine.alive(_END_S):
            return KILLED
        return status if status is None or status >= 0 else 128 - status

    def reclaim(self, size_bytes: int) -> None:
        """Have the machine's balloon take *size_bytes*."""
        self.place.machine.guest.reclaim(size_bytes)

    def stop(self) -> None:
        """Kill its first process, and with it the container; or its machine, if it is the last one in it."""
        machine = self.place.machine
        self.removed = self.machines.ends_with(self.place)
        if self.removed:
            machine.end()
        elif machine.alive() and self.monitor.poll() is None:
            self.forced = machine.asked("stop", self.place.number).returncode != 0
        if not self.forced:
            with suppress(subprocess.TimeoutExpired):
                self.monitor.wait(_STOP_S)
                return
        # The machine kills the command whose asker has gone; what that left, is killed by its cgroup.
        self.forced = True
        self.monitor.kill()
        self.monitor.wait()
        if machine.alive():
            self.remove()
            self.removed = True

    def remove(self) -> None:
        """Remove what its start made in the machine; nothing, where that has ended. Raises RunnerError."""
        machine = self.place.machine
        if self.removed or not machine.alive():
            return
        done = machine.asked("remove", self.place.number, *(("all",) if self.forced else ()))
        if done.returncode and machine.alive():
            raise RunnerError(
                f"what {self.name} left in its machine cannot be removed", (done.stderr or done.stdout).strip()[-400:]
            )


class Starter:
    """Starts containers of *spec* by *runtime* in *machines*."""

    def __init__(self, machines: Machines, spec: Spec, runtime: Runtime, resident: frozenset[int]) -> None:
        self._machines, self._resident = machines, resident
        self._enter = system.entering(runtime, spec)

    def start(self, name: str, stack: ExitStack) -> Nested:
        """See :data:`runners.launch.frame.Start`."""
        place = self._machines.take(name)
        machine = place.machine
        where = system.place(place.number)
        stack.callback(self._machines.give_back, place)
        command = machine.asking(_FIRST + place.number - 1, "/bin/sh", f"{system.KIT}/start", where)
        with ExitStack() as theirs:
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            with monitored.started(command, console=console_in) as monitor:
                instance = Nested(
                    name=name,
                    console=console,
                    monitor=monitor,
                    place=place,
                    machines=self._machines,
                    enter=(*self._enter, where),
                    resident=machine.guest.emulator_pid in self._resident,
                )
        stack.callback(instance.remove)
        return instance
