"""Tries again and again, from outside, whether an instance is ready: in a thread, while its console is read.

No event of the kernel says to a process outside that somebody listens (sock_diag(7) tells of sockets that are
destroyed, and otherwise answers questions), so attempts are made with a fixed period. Both the period and the time of
the attempt that succeeded are in the record.

A guest answers nothing before its network is up, and a connection that gets no answer is tried again by the kernel only
after a second. So where there is a link (:attr:`runners.base.Address.link`), attempts begin with the first frame from
it.

The thread is in the instance's network namespace: setns(2) changes that of the calling thread alone. A socket belongs
to the namespace in which it was made.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from tare.bench.host.interrupts import TrialTimeout
from tare.bench.readiness import listeners
from tare.bench.readiness.base import READY, Waited
from tare.bench.readiness.console import clock_ns
from tare.runners.base import Address

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_ETH_P_ALL = 3  # linux/if_ether.h
#: How often an instance whose console has ended is asked whether it has, too.
_STATUS_S = 0.02
#: How often a thread that waits for a frame looks whether it should end.
_LOOK_MS = 100

#: One attempt: None where it succeeded, else why it did not. Raises OSError for "not yet". It is told how many seconds
#: are left.
Attempt = Callable[[float], str | None]


def enter(address: Address) -> None:
    """Put the calling thread into the network namespace of *address*. Raises OSError."""
    if address.pid is None:
        return
    fd = os.open(f"/proc/{address.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.setns(fd, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), f"/proc/{address.pid}/ns/net")
    finally:
        os.close(fd)


def heard(link: str, over: Callable[[], bool]) -> bool:
    """Wait for a frame from the instance behind *link*, in this thread's namespace; False if *over* came first.

    Raises OSError.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as frames:
        frames.bind((link, _ETH_P_ALL))
        if _received(link, Path("/proc/thread-self/net/dev").read_text()):
            return True
        poll = select.poll()
        poll.register(frames, select.POLLIN)
        while not over():
            if not poll.poll(_LOOK_MS):
                continue
            _, sender = frames.recvfrom(64)
            if sender[2] != socket.PACKET_OUTGOING:
                return True
    return False


def _received(link: str, table: str) -> int:
    """How many packets have come from *link*, by the *table* of proc_pid_net(5), ``/proc/net/dev``."""
    for line in table.splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == link:
            return int(counts.split()[1])
    return 0


class _Prober(threading.Thread):
    def __init__(self, start: Waited, attempt: Attempt, address: Address | None, period_s: float, wake: int) -> None:
        super().__init__(name="readiness", daemon=True)
        self._start_of, self._attempt, self._address = start, attempt, address
        self._period_s, self._wake = period_s, wake
        self._over = threading.Event()
        self.ready_ns = 0

    def run(self) -> None:
        try:
            if self._address is not None:
                enter(self._address)
                if self._address.link and not heard(self._address.link, self._over.is_set):
                    return
            while not self._over.is_set():
                if self._succeeded():
                    break
                self._over.wait(self._period_s)
        except OSError as error:  # the instance has ended, and with it its namespace
            self._start_of.last_words = str(error)
        os.eventfd_write(self._wake, 1)

    def _succeeded(self) -> bool:
        start = self._start_of
        begun = clock_ns()
        start.attempts += 1
        try:
            why = self._attempt(max(0.001, (start.deadline_ns - begun) / 1e9))
        except OSError as error:
            why = error.strerror or str(error)
            if isinstance(error, TimeoutError) and start.last_words and clock_ns() >= start.deadline_ns:
                why = start.last_words  # the deadline ended this attempt: an earlier one says more
        ended = clock_ns()
        if why is not None:
            start.last_words = why
            return False
        self.ready_ns = ended
        start.attempt_s = (ended - begun) / 1e9
        return True

    def stop(self) -> None:
        self._over.set()
        self.join()


class _Ended(Exception):  # noqa: N818 - an outcome, not an error
    """The workload has ended while its console is still open: something that it started holds it."""


def probe(start: Waited, attempt: Attempt, *, address: Address | None, period_s: float) -> bool:
    """Call *attempt* in a thread, in the network namespace of *address*, until it succeeds.

    True when it did; False if the instance ended before. Raises TrialTimeout at the deadline.

    What answers is not the workload if that has ended: it went into the background, where in most runners nothing
    lives on, or the port is another's.
    """

    def check() -> None:
        if start.check is not None:
            start.check()
        if start.instance.status() is not None:
            raise _Ended

    wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    prober = _Prober(start, attempt, address, period_s, wake)
    prober.start()
    try:
        alive = start.console.wait(
            start.instance.console, lambda: prober.ready_ns > 0, start.deadline_ns, check=check, wake=wake
        )
        # A server may close its output and run on: only its own end is one.
        if not alive:
            alive = _without_console(start, prober, wake)
        if start.instance.status() is not None:
            raise _Ended
    except _Ended:
        start.last_words = ""
        return False
    finally:
        prober.stop()
        os.close(wake)
    if alive:
        start.stamps[READY] = prober.ready_ns
    return alive


def probe_port(start: Waited, attempt: Attempt, *, address: Address, port: int, period_s: float) -> bool:
    """:func:`probe`, for a *port* inside; where it never answers, the last words say who listens instead."""
    try:
        return probe(start, attempt, address=address, period_s=period_s)
    except TrialTimeout:
        start.last_words = "; ".join(filter(None, (start.last_words, listeners.hint(address, port))))
        raise


def _without_console(start: Waited, prober: _Prober, wake: int) -> bool:
    """Go on after the end of the console; False once the workload has ended."""
    poll = select.poll()
    poll.register(wake, select.POLLIN)
    while not prober.ready_ns:
        if start.instance.status() is not None:
            return False
        if clock_ns() > start.deadline_ns:
            raise TrialTimeout
        if start.check is not None:
            start.check()
        poll.poll(_STATUS_S * 1000)
    return True
