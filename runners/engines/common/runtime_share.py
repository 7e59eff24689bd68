"""How long an engine's OCI runtime worked at a start: the kernel's own stamps of its processes, nothing in their way.

The kernel's process connector (Documentation/driver-api/connector.rst, linux/cn_proc.h) tells each fork, exec and exit
with a stamp of the clock that tare reads, CLOCK_MONOTONIC. An engine's monitor (conmon, a shim) and podman itself start
the runtime's program for each step: ``crun create``, ``crun start``. So the runtime's share is the time in which a
process was alive that executed a program and was forked by one of them; overlapping times count once. The events wait
in the socket's buffer and are read when the container is ready: nobody is woken meanwhile.

It needs the privileges of root before Linux 6.6, and the host's own network namespace. Without them there is no figure.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC = _CN_VAL_PROC = 1
_LISTEN = 1
_FORK, _EXEC, _EXIT = 0x1, 0x2, 0x80000000
_NLMSG_DONE = 3
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_CONNECTOR = struct.Struct("=IIIIHH")  # struct cn_msg without its data
_EVENT = struct.Struct("=IIQ")  # struct proc_event: what, cpu, timestamp_ns
_FORKED = struct.Struct("=IIII")  # parent_pid, parent_tgid, child_pid, child_tgid
_ONE = struct.Struct("=II")  # process_pid, process_tgid
_BUFFER_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """One of a process, not of a thread: *parent* is only known of a fork."""

    what: int
    at_ns: int
    pid: int
    parent: int = 0


#: From the processes that start runtimes, those of them that do not count, and the stamp of readiness, to seconds; None
#: where it is not known.
Share = Callable[[Iterable[int], Iterable[int], int], float | None]


@contextmanager
def watched() -> Iterator[Share]:
    """Listen to the kernel's events as long as the block goes on; what it yields tells the share of a start in it."""
    try:
        link: socket.socket | None = _listen()
    except OSError:
        link = None

    def share(starters: Iterable[int], without: Iterable[int], until_ns: int) -> float | None:
        events = None if link is None else _read(link)
        return None if events is None else seconds(events, frozenset(starters), frozenset(without), until_ns)

    try:
        yield share
    finally:
        if link is not None:
            link.close()


def _listen() -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_CONNECTOR)
    try:
        link.setblocking(False)
        try:
            link.setsockopt(socket.SOL_SOCKET, 33, _BUFFER_BYTES)  # SO_RCVBUFFORCE
        except OSError:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        link.bind((0, _CN_IDX_PROC))
        body = _CONNECTOR.pack(_CN_IDX_PROC, _CN_VAL_PROC, 0, 0, 4, 0) + struct.pack("=I", _LISTEN)
        link.send(_HEADER.pack(_HEADER.size + len(body), _NLMSG_DONE, 0, 0, 0) + body)
    except BaseException:
        link.close()
        raise
    return link


def _read(link: socket.socket) -> list[Event] | None:
    """All events by now; None if some were lost."""
    found: list[Event] = []
    while True:
        try:
            data = link.recv(4096)
        except BlockingIOError:
            return found
        except OSError:  # ENOBUFS: more than the buffer holds
            return None
        if event := parse(data):
            found.append(event)


def parse(data: bytes) -> Event | None:
    """One message of the connector; None for what is not about the fork, exec or exit of a process."""
    start = _HEADER.size + _CONNECTOR.size
    if len(data) < start + _EVENT.size + _FORKED.size:
        return None
    what, _, at_ns = _EVENT.unpack_from(data, start)
    if what == _FORK:
        _, parent, child, group = _FORKED.unpack_from(data, start + _EVENT.size)
        return Event(what, at_ns, child, parent) if child == group else None
    if what in (_EXEC, _EXIT):
        thread, group = _ONE.unpack_from(data, start + _EVENT.size)
        return Event(what, at_ns, group) if thread == group or what == _EXEC else None
    return None


def seconds(events: list[Event], starters: frozenset[int], without: frozenset[int], until_ns: int) -> float | None:
    """See the module. None if no runtime was seen. *without* are the starters' own children that are no runtime."""
    parents = {event.pid: event.parent for event in events if event.what == _FORK}
    # conmon forks once more before it starts the runtime: its first process is no runtime, either.
    above = {parents.get(pid, 0) for pid in without}
    began: dict[int, int] = {}
    spans: list[tuple[int, int]] = []
    for event in events:
        wanted = parents.get(event.pid, 0) in starters and event.pid not in without and event.pid not in above
        if event.what == _EXEC and wanted:
            began.setdefault(event.pid, event.at_ns)
        elif event.what == _EXIT and event.pid in began:
            spans.append((began.pop(event.pid), event.at_ns))
    spans += [(at_ns, until_ns) for at_ns in began.values()]
    return _covered_ns(spans, until_ns) / 1e9 if spans else None


def _covered_ns(spans: list[tuple[int, int]], until_ns: int) -> int:
    total, reached = 0, 0
    for begin, end in sorted(spans):
        total += max(0, min(end, until_ns) - max(begin, reached))
        reached = max(reached, end)
    return total
