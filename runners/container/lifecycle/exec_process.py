"""Another program in the namespaces and the cgroup of a running container.

There are three processes. This one waits. A copy of it enters the namespaces; the pid namespace holds only its
children. Its child, made with CLONE_PARENT and so a child of this process, enters the cgroup and becomes the program by
the steps of the first process. While the two are still this program, the container's processes may not read them
(prctl(2), PR_SET_DUMPABLE).
"""

from __future__ import annotations

import os
import select

from ..cgroup.enter import Entrances
from ..config.bundle import NAMESPACES
from ..errors import OciError, reason
from ..light.dataclasses import record
from ..linux import pty, signals, syscalls
from ..linux.exec_stub import stub
from ..seccomp import listener
from ..setup import child, parent, sequence
from ..setup.steps.basic import NewKeyring, NewSession, RunOn, Strict
from ..setup.steps.credentials import BecomeUser, SetGroups, SetPersonality, Undumpable
from . import destroy, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from ..cgroup.cgroups import Cgroup
    from ..config.bundle import Bundle
    from ..config.process import Process
    from ..setup.kernel import Sys
    from ..setup.steps.basic import Step
    from .state import State

_REPORT_BYTES = 1 << 16
_ENTER_MS = 60_000


@record(kw_only=True)
class Entry:
    """All that the copy needs."""

    config: Bundle
    process: Process
    group: Cgroup | None
    first: int
    entrances: tuple[str, ...]
    target: int
    console: int
    preserve_fds: int
    listen_fds: int
    filters: str
    known: State
    #: Whether this process itself shows its terminal.
    shown: bool = False
    pid_file: str = ""
    #: Whether it may wait until a paused container is resumed, without a limit of time.
    patient: bool = False


def enter(entry: Entry) -> int:
    """Start the program; return its pid once it has been executed. Raises OciError with the step that failed.

    It returns with signals blocked: one that comes after the program has begun is for the program. One that asks for
    an end before that raises KeyboardInterrupt, and the program does not run.
    """
    # Before anything is entered, since it reads the host's files.
    agent = listener.connect(entry.config.seccomp)
    filtering = parent.filtering(entry.config, entry.filters)
    last = sequence.becoming(entry.process, bundle=entry.config, filtering=filtering)
    steps = (*_before(entry), *last.steps)
    program = stub.make(last.calls, announce=agent >= 0)
    report, report_in = os.pipe()
    numbers, numbers_in = os.pipe()
    mask = signals.hold()
    try:
        helper = os.fork()
        if helper == 0:
            os.close(report)
            os.close(numbers)
            _join(entry, steps, program, report_in, numbers_in)
    finally:
        os.close(report_in)
        os.close(numbers_in)
        os.close(program)
    try:
        number, said = _follow(entry, agent, helper, numbers, report, mask)
    finally:
        os.close(report)
        os.close(numbers)
        if agent >= 0:
            os.close(agent)
    if said or not number:
        if number:
            os.waitpid(number, 0)
        raise OciError(stub.said(said, entry.process.argv[0]) if said else "the process ended before it had entered")
    if entry.pid_file:
        try:
            state.place_file(entry.pid_file, str(number), 0o644)
        except OSError:
            end(number)
            raise
    return number


def end(number: int) -> None:
    """Kill the program, our child: after an error, nobody expects it to run."""
    os.kill(number, destroy.SIGKILL)  # not reaped yet: the number is still its own
    os.waitpid(number, 0)


def _follow(
    entry: Entry, agent: int, helper: int, numbers: int, report: int, mask: frozenset[int]
) -> tuple[int, bytes]:
    """The program's number, or 0 if it has none, and what is written until it runs: nothing, or what failed."""
    # With --ignore-paused, it waits in a paused container until that is resumed.
    limit_ms = None if entry.patient else _ENTER_MS
    number, said = 0, b""
    try:
        number = int(_next(numbers, limit_ms, mask) or b"0")
        while part := _next(report, limit_ms, mask):  # closed by exec, or by the end of both
            if agent >= 0 and part[:1] == b"0" and entry.config.seccomp is not None:
                listener.hand_on(agent, entry.config.seccomp, number, entry.known.report("running"))
                part = part[1:]
            said += part
    except BaseException:
        os.kill(helper, destroy.SIGKILL)  # children of this process and not reaped yet: the numbers are still theirs
        if not number and _readable(numbers, 0):  # it was written just before
            number = int(os.read(numbers, _REPORT_BYTES) or b"0")
        if number:
            os.kill(number, destroy.SIGKILL)
        raise
    os.waitpid(helper, 0)
    return number, said


def _next(pipe: int, limit_ms: int | None, mask: frozenset[int]) -> bytes:
    """What comes next out of *pipe*; until it comes, signals are not blocked. Raises OciError if it takes too long."""
    try:
        signals.release(mask)
        there = _readable(pipe, limit_ms)
    finally:
        signals.hold()
    if not there:
        why = f"nothing happened for {_ENTER_MS // 1000} s"
        raise OciError("the program is not executed", why, "see whether the container's cgroup is frozen")
    return os.read(pipe, _REPORT_BYTES)


def _readable(pipe: int, limit_ms: int | None) -> bool:
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(limit_ms))


def _join(entry: Entry, steps: tuple[Step, ...], program: int, report: int, numbers: int) -> NoReturn:
    """In the copy: enter the namespaces, make the child, write its number, end."""
    try:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        before, after = entry.process.affinity
        if before:
            child.run((RunOn(before),))
        doors = None if entry.group is None else Entrances(entry.group, entry.first, entry.entrances)
        # Also a namespace that this process is in already: the call fails if the process has ended, and its number is
        # reused.
        flags = NAMESPACES["mount"]
        for kind in entry.config.namespaces:
            flags |= NAMESPACES[kind]
        root = _root(entry)
        # In a user namespace no limit could be raised; and with a low limit of open files these would fail.
        child.run(sequence.limits(entry.process, pid=0))
        syscalls.setns(entry.target, flags)
        if root >= 0:
            os.fchdir(root)
            os.chroot(".")
            os.close(root)
        pid = doors.clone() if doors is not None else syscalls.clone3(syscalls.CLONE_PARENT, 0)[0]
        if pid == 0:
            os.close(numbers)
            if after:
                child.run((RunOn(after),))
            child.become(
                entry.process,
                steps,
                report=report,
                program=program,
                preserve_fds=entry.preserve_fds + entry.listen_fds,
                listen_fds=entry.listen_fds,
            )
        os.write(numbers, str(pid).encode())
        os._exit(0)
    except OSError as error:
        os.write(report, f"cannot join the container: {reason(error)}".encode())
    finally:
        os._exit(1)


def _root(entry: Entry) -> int:
    """The first process' root directory, if it may be another than that of its mount namespace; else -1."""
    if entry.config.is_new("mount"):
        return -1
    return os.open(f"/proc/{entry.first}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _before(entry: Entry) -> Iterator[Step]:
    """The steps that come before those of the first process."""
    yield NewSession()
    yield NewKeyring()
    if "user" in entry.config.namespaces:
        yield SetGroups(may_keep=True)
        yield BecomeUser(*_first(entry.known))
    yield Undumpable()  # a change of ids resets it
    if entry.config.personality is not None:
        yield SetPersonality(entry.config.personality)
    if entry.process.terminal:
        yield OwnTerminal(entry.console, entry.process.console_size, entry.process.uid, entry.shown)


def _first(known: State) -> tuple[int, int]:
    from ..linux import idmap  # late: few containers have a user namespace

    return idmap.first(known.pid)


@record
class OwnTerminal(Strict):
    """A pseudo-terminal of the container's devpts; its master goes out over *carrier*. /dev/console stays as it is."""

    carrier: int
    size: tuple[int, int] | None
    uid: int
    plain: bool = False

    def describe(self) -> str:
        """See :class:`basic.Step`."""
        return "make the terminal and hand it out"

    def apply(self, _sys: Sys) -> None:
        """See :class:`basic.Step`."""
        os.close(pty.make(self.carrier, size=self.size, uid=self.uid, plain=self.plain))
