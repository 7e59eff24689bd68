"""The verb events: what a container uses, a line of JSON at each interval, and a line when its memory ran out.

The kernel reports both events by a descriptor: the container's end by a pidfd, and a shortage of memory. So nothing is
polled between the lines, and no short shortage is missed. On v1, the second descriptor is an eventfd registered with
memory.oom_control (memory.rst, 10); it is also signalled when the OOM killer is off and the processes wait. On v2,
where the killer cannot be off, it is memory.events, whose oom_kill has grown when poll reports it (cgroup-v2.rst).
"""

from __future__ import annotations

import errno
import os
import select
import time

from ..cgroup import counters
from ..cgroup.v1 import V1
from ..errors import OciError, reason
from ..lifecycle import claim_cgroup, state
from ..lifecycle.hooks import LONGEST_MS
from ..light import json
from ..linux.files import write
from .main import say_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..cgroup.cgroups import Cgroup
    from ..lifecycle.state import State
    from .main import Call

_UNIT_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def events(call: Call) -> int:
    """Print one line (``--stats``), or lines until the container ends."""
    name = call.name()
    interval_ns = duration_ns(call.options.text("interval", "5s"))
    known = call.store.read(name)
    pidfd = state.open_process(known)
    if pidfd is None:
        status = call.store.status(known)
        raise OciError(f"cannot tell what the container {name} uses", f"it is not running, but {status}")
    try:
        group = claim_cgroup.group_of(known)
        if group is None:
            raise OciError(f"cannot tell what the container {name} uses", "it has no cgroup of its own")
        if call.options.on("stats"):
            _say_stats(known, group)
            return 0
        shortage = _shortage(call, group)
        try:
            _follow(known, group, pidfd, shortage, interval_ns)
        finally:
            if shortage is not None:
                shortage.close()
    finally:
        os.close(pidfd)
    return 0


def duration_ns(text: str) -> int:
    """A duration as Go writes it (``1m30s``, ``1.5h``, ``100ms``), in nanoseconds. Raises OciError.

    It must be more than 0, and less than the 2**63 ns of a Go program.
    """
    import re

    part = rf"(\d+\.?\d*|\.\d+)({'|'.join(sorted(_UNIT_NS, key=len, reverse=True))})"
    if not re.fullmatch(rf"\+?({part})+", text, re.ASCII) or len(text) > 99:
        raise OciError("--interval", f"{text!r} is not a length of time above 0", "give one: 500ms, 5s, 1m30s")
    total = 0
    for value, unit in re.findall(part, text, re.ASCII):
        whole, _, fraction = value.partition(".")
        total += int(f"{whole}{fraction}") * _UNIT_NS[unit] // 10 ** len(fraction)
    if not 0 < total < 2**63:
        why = "is not above 0" if total == 0 else "is more than 292 years"
        raise OciError("--interval", f"{text!r} {why}", "give a length of time: 500ms, 5s, 1m30s")
    return total


def _say(kind: str, known: State, data: object = None) -> None:
    line: dict[str, object] = {"type": kind, "id": known.name}
    say_lines(json.dumps(line if data is None else line | {"data": data}))


def _say_stats(known: State, group: Cgroup) -> None:
    _say("stats", known, counters.collect(group))


def _follow(known: State, group: Cgroup, pidfd: int, shortage: Shortage | None, interval_ns: int) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if shortage is not None:
        poll.register(shortage.fd, shortage.mask)
    due = time.monotonic_ns() + interval_ns
    while True:
        left_ms = -((time.monotonic_ns() - due) // 10**6)  # rounded up: a wait of 0 would end before the line is due
        ready = dict(poll.poll(max(0, min(left_ms, LONGEST_MS))))
        if shortage is not None and shortage.fd in ready:
            if shortage.came():
                _say("oom", known)
            elif shortage.gone:
                poll.unregister(shortage.fd)
        if pidfd in ready:
            return
        now = time.monotonic_ns()
        if now < due:
            continue
        data = counters.collect(group)
        if _ended(pidfd):  # the cgroup may be removed, and its zeros are no figures
            return
        _say("stats", known, data)
        due += -(-(now - due + 1) // interval_ns) * interval_ns  # a missed line is not printed later


def _ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


class Shortage:
    """Has a descriptor of which poll reports :attr:`mask` when the memory of *group* runs out. Raises OSError."""

    def __init__(self, group: Cgroup) -> None:
        by_eventfd = isinstance(group, V1)
        name = "memory.oom_control" if by_eventfd else "memory.events"
        self._file = os.open(group.file("memory", name), os.O_RDONLY | os.O_CLOEXEC)
        self.fd, self.mask = self._file, select.POLLPRI
        #: Whether the cgroup was removed, which poll reports, too: no more events will come.
        self.gone = False
        try:
            if by_eventfd:
                self.fd, self.mask = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), select.POLLIN
                write(group.file("memory", "cgroup.event_control"), f"{self.fd} {self._file}")
            self._kills = self._count()
        except BaseException:
            self.close()
            raise

    def came(self) -> bool:
        """Whether memory ran out since the last call."""
        if self.fd != self._file:
            os.eventfd_read(self.fd)
            self._count()
            return not self.gone
        before, self._kills = self._kills, self._count()
        return self._kills > before

    def _count(self) -> int:
        try:
            # From the start of the file: this read also makes the kernel report the next change.
            return counters.flat(os.pread(self._file, 4096, 0).decode()).get("oom_kill", 0)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            self.gone = True
            return 0

    def close(self) -> None:
        """Close the descriptors; the kernel removes a closed eventfd by itself."""
        os.close(self._file)
        if self.fd != self._file:
            os.close(self.fd)


def _shortage(call: Call, group: Cgroup) -> Shortage | None:
    try:
        return Shortage(group)
    except OSError as error:  # no memory controller, or a kernel without cgroup.event_control (PREEMPT_RT)
        call.log.warning(f"events: a shortage of memory will not be reported: {reason(error)}")
        return None
