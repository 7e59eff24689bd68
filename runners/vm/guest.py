"""One virtual machine, from its start to the removal of all that it left."""

from __future__ import annotations

import itertools
import os
import re
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import Address, DiskUse, Mark, RunnerError
from tare.runners.container.warm.smallest_container import hung_up
from tare.runners.guest import inside as insides
from tare.runners.guest import network
from tare.runners.launch import drain
from tare.runners.vm import leftovers, phone
from tare.runners.vm.connection import Domain, Hypervisor
from tare.runners.vm.leftovers import cgroup_mounts, console_name, domain_cgroup
from tare.runners.vm.reaper import adopting, reaping
from tare.runners.vm.serial import FirstPort, Timeline

#: sun_path of unix(7), without the final NUL.
_SOCKET_PATH_BYTES = 107
#: libvirt sends SIGTERM, SIGKILL after 10 s, and gives up after another 20 s; after that, nothing can end QEMU.
_GONE_DEADLINE_MS = 35_000
_END_MS = 5000
_TAIL_LINES = 15
_LOG_BYTES = 8000
#: A guest that cannot fill its balloon tries again each 200 ms (drivers/virtio/virtio_balloon.c, fill_balloon).
_STILL_S = 2.0
_LOOK_S = 0.02
#: How long after QEMU's end its status may be unknown: a daemon's QEMU has none.
_REAPED_S = 0.5

#: What a restored guest is asked with: an init of ours says the end of its workload's output again, and a login prompt
#: comes again.
_ASKED = b"\r"

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inside:
    """How a guest with a workload of a user's is reached, besides its console.

    ``control`` is the socket by which *asker*, a program, runs a further command, where there is one in the guest to
    answer; ``further`` are sockets of further such ports. ``networked``: it has a tap.
    """

    control: Path | None
    asker: Path | None
    networked: bool
    further: tuple[Path, ...] = ()

    @property
    def ports(self) -> tuple[Path, ...]:
        """The sockets of all its ports."""
        return () if self.control is None else (self.control, *self.further)


#: Starts a domain: its name, and its XML. See :meth:`runners.vm.connection.Hypervisor.create`.
Begin = Callable[[str, str], Domain]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a guest is started and listened to, where that is not the usual way.

    ``begin`` starts its domain. ``timeline``: its first serial port says how far it is, and that is stamped.
    ``system``: that port is also its console, since it is a whole system and no single workload; one that ``phones``
    may say by a request that it is ready. ``asked``: it was
    restored, and is asked over its console to say again that it is ready. ``files`` are those of its own that hold its
    disks, and took ``made_bytes`` when they had been made.
    """

    begin: Begin | None = None
    timeline: bool = False
    system: bool = False
    asked: bool = False
    phones: bool = False
    files: tuple[Path, ...] = ()
    made_bytes: int = 0


USUAL = Manner()


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A running virtual machine; satisfies :class:`runners.base.Instance`."""

    name: str
    console: int
    emulator_pid: int
    cgroup: Path | None
    log: int
    log_tail: drain.Tail
    emulator_log: Path
    emulator_status: Sequence[int]
    hypervisor: Hypervisor
    domain: Domain
    emulator: int
    inside: Inside | None = None
    manner: Manner = USUAL

    def disk(self) -> DiskUse | None:
        """See :class:`runners.base.HasDisk`."""
        if not self.manner.files:
            return None
        now = sum(512 * file.stat().st_blocks for file in self.manner.files)
        return DiskUse(made_bytes=self.manner.made_bytes, now_bytes=now)

    def pids(self) -> frozenset[int]:
        """QEMU; libvirt starts no other process for a guest of ours."""
        return frozenset({self.emulator_pid})

    def explain(self) -> str:
        """How QEMU ended, if it did; its messages; and the last lines of the guest kernel's own console."""
        parts = []
        if (status := self._said_status()) is not None:
            parts.append(f"the workload ended with status {status}")
        until = time.monotonic() + _REAPED_S
        while not self.emulator_status and _has_ended(self.emulator) and time.monotonic() < until:
            time.sleep(_LOOK_S)  # who waits for it has been told at the same moment
        if self.emulator_status:
            parts.append(f"QEMU ended with exit code {os.waitstatus_to_exitcode(self.emulator_status[0])}")
        parts += [f"QEMU: {line}" for line in emulator_messages(_read(self.emulator_log))]
        drain.catch_up(self.log)
        kernel = [line.rstrip() for line in self.log_tail.text().splitlines() if line.strip()]
        # A panic says why first, and then where, in more lines than anybody reads.
        panic = [line for line in kernel[:-_TAIL_LINES] if "Kernel panic" in line]
        parts += [f"guest kernel: {line}" for line in (*panic, *kernel[-_TAIL_LINES:])]
        return "\n".join(parts)

    def address(self) -> Address:
        """See :class:`runners.base.Instance`."""
        if self.inside is None or not self.inside.networked:
            raise RunnerError(f"{self.name} has no port", "its machine has no network device")
        return Address(how=network.REACHED, host=network.GUEST, pid=self.emulator_pid, link=network.TAP)

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        """See :class:`runners.base.Instance`."""
        if self.inside is None or self.inside.asker is None:
            why = "its machine holds nothing but the payload" if self.inside is None else "its disk is not tare's own"
            raise RunnerError(f"{argv[0]} cannot be run beside {self.name}", why)
        return (str(self.inside.asker), str(self.inside.control), *argv)

    def status(self) -> int | None:
        """See :class:`runners.base.Instance`: a machine that ends before its workload has killed it."""
        if self.inside is None:
            return None
        ended = select.poll()
        ended.register(self.emulator, select.POLLIN)
        # QEMU closes the console a moment before its end.
        if not ended.poll(_END_MS if hung_up(self.console) else 0):
            return None
        said = self._said_status()
        return insides.KILLED if said is None else said

    def _said_status(self) -> int | None:
        drain.catch_up(self.log)
        return insides.ended_with(self.log_tail.text())

    def reclaim(self, size_bytes: int) -> None:
        """Have its balloon take *size_bytes* of what it has; returns when the guest has given that, or gives no more.

        Raises RunnerError where there is no balloon, or none that the guest answers to.
        """
        before = memory = self.hypervisor.memory_bytes(self.domain)
        target = before - size_bytes
        self.hypervisor.set_memory(self.domain, target)
        still_since = time.monotonic()
        while memory > target and time.monotonic() - still_since < _STILL_S:
            time.sleep(_LOOK_S)
            now = self.hypervisor.memory_bytes(self.domain)
            if now != memory:
                memory, still_since = now, time.monotonic()
        if memory == before:
            raise RunnerError(
                f"{self.name} does not move its balloon",
                f"it gave no memory within {_STILL_S:g} s",
                self.explain(),
            )


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace")
    return ""


#: A line that QEMU wrote itself (``-msg timestamp=on``), or its C library or KVM's dump; not libvirt's own notes.
_QEMU_LINE = re.compile(r"(?:[-\d]+T[:.\d]+Z )?(?P<text>(?:qemu-\S+|KVM|emulation failure).*)")


def emulator_messages(log: str) -> list[str]:
    """QEMU's messages in libvirt's log of a domain, without the command line that libvirt writes first."""
    last_start = log.rpartition("-msg timestamp=on")[2]
    matches = map(_QEMU_LINE.match, last_start.splitlines())
    return [match["text"] for match in matches if match and "terminating on signal" not in match["text"]][-_TAIL_LINES:]


@contextmanager
def running(
    hypervisor: Hypervisor,
    name: str,
    directory: Path,
    describe: Callable[[Path, Path], str],
    mark: Mark,
    inside: Inside | None = None,
    manner: Manner = USUAL,
) -> Iterator[Guest]:
    """Start the domain *name*; leaving kills it and removes its files.

    ``describe(console, log)`` gives the domain's XML for these two sockets below *directory*. ``mark("created")`` is
    called when libvirt says that the domain runs, ``mark("stopped")`` when QEMU is gone. *inside* says what the XML
    has for a workload of a user's. Raises RunnerError.
    """
    number = next(_numbers)
    status: list[int] = []
    with ExitStack() as stack:
        paths = directory / console_name(number), directory / f"log-{number}"
        # Listening before QEMU starts: it connects while it sets itself up, and no mark can be missed.
        console_listener, log_listener = (_listening(path, stack) for path in paths)
        tail = drain.Tail(_LOG_BYTES)
        port: FirstPort | None = None
        if manner.timeline or manner.system:
            port = FirstPort(log_listener, Timeline(mark).read if manner.timeline else _nobody, tail)
            stack.callback(drain.close, port.console)
            stack.callback(port.close)
        xml = describe(*paths)
        if hypervisor.embedded is None:
            # Without a tap: it would be in the daemon's network.
            domain = (manner.begin or hypervisor.create)(name, xml)
        else:
            status = stack.enter_context(reaping(hypervisor.embedded / "run" / "qemu" / f"{name}.pid"))
            with adopting():
                domain = _create(manner.begin or hypervisor.create, name, xml, inside)
        for path in inside.ports if inside is not None else ():
            stack.callback(path.unlink, missing_ok=True)
        stack.callback(hypervisor.destroy, domain)  # for a failure before QEMU's pid is known
        mark("created")
        second, pid = _accept(console_listener, name, stack)
        log = -1
        if port is None:
            log, _ = _accept(log_listener, name, stack)
            drain.take(log, tail.keep)
        if manner.system:
            drain.flow(second)
        handle = _open_process(pid, name)
        stack.callback(os.close, handle)
        stack.callback(_stop, hypervisor, domain, name, handle, mark)
        if manner.phones and port is not None:
            stack.enter_context(phone.listening(pid, port.heard))
        if manner.asked and port is not None and manner.system:
            port.send(_ASKED)
        elif manner.asked:
            os.write(second, _ASKED)
        yield Guest(
            name=name,
            console=port.console if port is not None and manner.system else second,
            emulator_pid=pid,
            cgroup=_cgroup(pid),
            log=log,
            log_tail=tail,
            emulator_log=hypervisor.emulator_log(name),
            emulator_status=status,
            hypervisor=hypervisor,
            domain=domain,
            emulator=handle,
            inside=inside,
            manner=manner,
        )


def _nobody(_data: bytes) -> None:
    pass


def _create(begin: Begin, name: str, xml: str, inside: Inside | None) -> Domain:
    if inside is not None and inside.networked:
        return network.with_tap(lambda: begin(name, xml))
    return begin(name, xml)


def _listening(path: Path, stack: ExitStack) -> socket.socket:
    """A socket at *path*; *stack* removes both."""
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
        raise RunnerError(
            f"the path {path} is too long for a unix socket",
            f"{len(os.fsencode(path))} bytes; {_SOCKET_PATH_BYTES} fit",
            "set TMPDIR to a shorter path",
        )
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(os.fspath(path))
    stack.callback(path.unlink, missing_ok=True)
    path.chmod(0o666)  # a daemon's QEMU runs as another user; the directory is what keeps others out
    listener.listen(1)
    return listener


def _accept(listener: socket.socket, name: str, stack: ExitStack) -> tuple[int, int]:
    """The other end of one of QEMU's, closed by *stack*, and its pid.

    It connected before libvirt called the domain started, so there is no waiting.
    """
    listener.setblocking(False)
    try:
        accepted, _ = listener.accept()
    except BlockingIOError as error:
        raise RunnerError(
            f"QEMU of {name} did not connect to its console", "no connection came in time", "tare doctor"
        ) from error
    accepted.setblocking(False)
    pid = struct.unpack("iii", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
    end = accepted.detach()
    stack.callback(drain.close, end)
    return end, pid


def _open_process(pid: int, name: str) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError as error:
        raise RunnerError(f"QEMU of {name} ended at once", f"process {pid} is gone", "tare doctor") from error


def _stop(hypervisor: Hypervisor, domain: Domain, name: str, handle: int, mark: Mark) -> None:
    """Destroy *domain*, and say so when QEMU is gone: libvirt itself looks only every 200 ms, and returns later.

    Where libvirt cannot be asked any more, QEMU is killed without it. Raises RunnerError.
    """
    answered = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        with ThreadPoolExecutor(max_workers=1) as pool:
            destroyed = pool.submit(hypervisor.destroy, domain)
            destroyed.add_done_callback(lambda _: os.eventfd_write(answered, 1))
            ended = _ended(handle, answered)
            if not ended and destroyed.done() and destroyed.exception() is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            killed, ended = not ended, ended or _ended(handle)
            if ended:
                mark("stopped")
            if killed and ended and destroyed.done() and destroyed.exception() is not None:
                leftovers.remove_cgroups(name)
            destroyed.result()
    finally:
        os.close(answered)
    if not ended:
        raise RunnerError(
            f"QEMU of {name} does not end", "libvirt destroyed the domain, and the process is still there", "tare clean"
        )


def _has_ended(handle: int) -> bool:
    """Whether the process of *handle* has ended, or has been removed meanwhile (POLLNVAL)."""
    gone = select.poll()
    gone.register(handle, select.POLLIN)
    return bool(gone.poll(0))


def _ended(handle: int, *others: int) -> bool:
    """Whether the process of *handle* ends within the deadline, and before any of *others* can be read."""
    gone = select.poll()
    for each in (handle, *others):
        gone.register(each, select.POLLIN)
    return handle in dict(gone.poll(_GONE_DEADLINE_MS))


def _cgroup(pid: int) -> Path | None:
    mounts = cgroup_mounts(Path("/proc/self/mountinfo").read_text())
    try:
        memberships = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return None
    return domain_cgroup(memberships, Path("/proc/self/cgroup").read_text(), mounts)
