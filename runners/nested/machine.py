"""Machines that take containers: when one boots, which place in it is free, and when it ends."""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tare.runners.base import Launch, RunnerError
from tare.runners.launch import drain
from tare.runners.nested import system
from tare.runners.vm.guest import Guest

#: An emulated machine takes some seconds; a loaded host, more.
_BOOT_S = 120.0
_ASK_S = 60.0
#: The status that stands for no answer.
_SILENT = 124
_READY = b"tare ready"
_READ_BYTES = 65536
_TAIL_BYTES = 4000


class Machine:
    """One virtual machine with places for containers, numbered from 1."""

    def __init__(self, name: str, places: int, asker: Path) -> None:
        self.name = name
        self._asker = asker
        self.free = set(range(1, places + 1))
        #: The places whose containers are being stopped or removed.
        self.leaving: set[int] = set()
        #: Nobody gets a place in it any more.
        self.closed = False
        self._places = places
        self._guest: Guest | None = None
        self._stack = ExitStack()
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._ended = False
        self._said = drain.Tail(_TAIL_BYTES)

    @property
    def guest(self) -> Guest:
        """The machine itself, which has booted."""
        return cast(Guest, self._guest)

    @property
    def unused(self) -> bool:
        """Whether all its places are free, or become so."""
        return len(self.free) + len(self.leaving) == self._places

    @property
    def open(self) -> bool:
        """Whether it takes a further container, perhaps as soon as it has booted."""
        return bool(self.free) and not self.closed and (not self._over.is_set() or self.alive())

    def boot(self, launch: Launch) -> None:
        """Start it by *launch*, and return when it takes containers. Raises RunnerError; nothing of it is left then."""
        try:
            self._guest = cast(Guest, self._stack.enter_context(launch(self.name, lambda _phase: None)))
            self._await_ready()
            drain.take(self.guest.console, self._said.keep)
        except BaseException as error:
            self._failure = error
            self._stack.close()
            raise
        finally:
            self._over.set()

    def await_boot(self) -> None:
        """Wait until it takes containers, which another thread sees to. Raises RunnerError if that failed."""
        self._over.wait()
        if self._failure is not None:
            raise RunnerError(f"the machine {self.name} did not start", str(self._failure))

    def _await_ready(self) -> None:
        said, until = b"", time.monotonic() + _BOOT_S
        poll = select.poll()
        poll.register(self.guest.console, select.POLLIN)
        while _READY not in said:
            ended = False
            if poll.poll(max(0, until - time.monotonic()) * 1000):
                try:
                    data = os.read(self.guest.console, _READ_BYTES)
                except ConnectionResetError:
                    data = b""
                said, ended = (said + data)[-_TAIL_BYTES:], not data
            if ended or time.monotonic() >= until:
                what = f"ended before {self.name} took a container" if ended else f"took none within {_BOOT_S:g} s"
                why = "\n".join((self.guest.explain(), said.decode("utf-8", "replace"))).strip()
                raise RunnerError(f"the virtual machine {what}", why)

    def alive(self, wait_s: float = 0) -> bool:
        """Whether it has booted and its QEMU runs, and does so for *wait_s* more."""
        if self._guest is None or self._failure is not None or self._ended:
            return False
        ended = select.poll()
        ended.register(self._guest.emulator, select.POLLIN)
        # One that another thread ends at this moment has closed it: that is an event, too (POLLNVAL).
        return not ended.poll(wait_s * 1000)

    def explain(self) -> str:
        """Why it ended: see :meth:`runners.base.Instance.explain`."""
        said = self._said.text().strip()
        return "\n".join(filter(None, (self.guest.explain(), said and f"machine: {said}")))

    def asking(self, port: int, *argv: str) -> Sequence[str]:
        """The command line, for the host, that runs *argv* in it by *port*, from 1 on."""
        inside = self.guest.inside
        if inside is None:
            raise RunnerError(f"{self.name} cannot be asked", "it has no port")
        return (str(self._asker), str(inside.ports[port - 1]), *argv)

    def asked(self, name: str, number: int, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the script *name* of the kit for place *number*, by the port that is for this alone."""
        command = self.asking(1, "/bin/sh", f"{system.KIT}/{name}", system.place(number), *words)
        try:
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
                timeout=_ASK_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            return subprocess.CompletedProcess(command, _SILENT, "", str(error))

    def end(self) -> None:
        """Kill it, and return when its QEMU is gone."""
        self.closed = self._ended = True
        self._stack.close()


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a machine that a container has."""

    machine: Machine
    number: int


class Machines:
    """All machines of one subject: as many as are needed, each of *places*, which *asker*, a program, asks."""

    def __init__(self, launch: Launch, places: int, asker: Path, *, keep: bool) -> None:
        self._launch, self._places, self._asker, self._keep = launch, places, asker, keep
        self._machines: list[Machine] = []
        #: Held to choose, never while one boots or ends: others may start meanwhile.
        self._lock = threading.Lock()

    def booted(self, name: str) -> Machine:
        """A machine *name* that runs before it has a container."""
        machine = Machine(name, self._places, self._asker)
        machine.boot(self._launch)
        self._machines.append(machine)
        return machine

    def take(self, name: str) -> Place:
        """A free place; where there is none, in a new machine *name*, which has booted then. Raises RunnerError."""
        with self._lock:
            self._machines = [one for one in self._machines if not one.closed]
            machine = next((one for one in self._machines if one.open), None)
            boots = machine is None
            if machine is None:
                machine = Machine(name, self._places, self._asker)
                self._machines.append(machine)
            number = min(machine.free)
            machine.free.remove(number)
        try:
            if boots:
                machine.boot(self._launch)
            else:
                machine.await_boot()
        except BaseException:
            machine.closed = True
            raise
        return Place(machine, number)

    def ends_with(self, place: Place) -> bool:
        """Whether the machine of *place* is to end with the container there; then nobody gets a place in it any more.

        Where several are stopped at once, it is so for the last that begins.
        """
        with self._lock:
            place.machine.leaving.add(place.number)
            return self._closes(place.machine)

    def give_back(self, place: Place) -> None:
        """The place is free. A machine without a container ends, where it was to end with its last."""
        machine = place.machine
        with self._lock:
            machine.leaving.discard(place.number)
            machine.free.add(place.number)
            ends = self._closes(machine)
        if ends:
            machine.end()

    def _closes(self, machine: Machine) -> bool:
        """Whether *machine* is closed now, and was not before. One that has died is not kept."""
        if machine.closed or not machine.unused or (self._keep and machine.alive()):
            return False
        machine.closed = True
        return True

    def end(self) -> None:
        """End all that run."""
        with ExitStack() as stack:
            for machine in self._machines:
                stack.callback(machine.end)


def kept_name(prefix: str, number: int) -> str:
    """The name of a machine that has none of an instance's: those are numbered from 1 on, without a zero before."""
    return f"{prefix}-0{number}"
