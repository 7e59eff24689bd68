"""The verb exec: another program in the namespaces and the cgroup of a running container.

Three processes: we wait; a copy of us enters the namespaces, of which the pid namespace only takes its children; its
child, which is ours too (CLONE_PARENT), enters the cgroup and becomes the program by the steps of the first process.
Neither may be looked into from inside while it is still this program (prctl(2), PR_SET_DUMPABLE).
"""

from __future__ import annotations

import os
import select

from ..cgroup import enter
from ..config import process
from ..config.bundle import NAMESPACES
from ..errors import OciError, reason
from ..lifecycle import make, state, stored_config
from ..light import json
from ..light.dataclasses import record, replace
from ..linux import pty as terminals
from ..linux import syscalls
from ..linux.capabilities import Capabilities, mask_of
from ..linux.exec_stub import stub
from ..reader import BundleError, Reader
from ..seccomp import listener
from ..setup import child, parent, preserved_fds, sequence
from ..setup.steps.basic import NewKeyring, NewSession, RunOn, Strict
from ..setup.steps.credentials import BecomeUser, SetGroups, SetPersonality, Undumpable
from . import foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from ..cgroup.cgroups import Cgroup
    from ..config.bundle import Bundle
    from ..config.process import Process
    from ..lifecycle.state import State
    from ..light.argparse import Parsed
    from ..setup.kernel import Sys
    from ..setup.steps.basic import Step
    from .main import Call

_FAILED = 255  # as runc: no exit status of a program that ran, mostly
_REPORT_BYTES = 1 << 16
_ENTER_MS = 60_000


@record(kw_only=True)
class _Entry:
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
    #: Whether we show its terminal ourselves.
    shown: bool = False


def execute(call: Call) -> int:
    """Run another program in a container; the exit status is its, 255 if it did not start."""
    try:
        return _execute(call)
    except (OciError, BundleError) as error:
        call.log.error(f"exec failed: {error}")
    except OSError as error:
        call.log.error(f"exec failed: {reason(error)}")
    return _FAILED


def _execute(call: Call) -> int:
    options = call.options
    for name in ("process-label", "apparmor"):
        if options.text(name):
            raise OciError(f"--{name}", "is not supported", "leave it out")
    name = call.name(more=True)
    known = call.store.read(name)
    config = stored_config.stored(call.store, known)
    config = make.within_reach(config)  # said when it was created
    wanted = _process(call, config.process)
    wanted = make.within_reach(replace(config, process=wanted), call.log).process
    target = _target(call, known)
    group = make.group_of(known)
    path = options.text("console-socket")
    if path and not wanted.terminal:
        raise OciError("--console-socket", "the process asks for no terminal", "set process.terminal, or give --tty")
    if wanted.terminal and not path and options.on("detach"):
        raise OciError("process.terminal", "nobody takes the terminal", "give --console-socket, or do not detach")
    preserve_fds, listen_fds = options.number("preserve-fds"), preserved_fds.listening(call.log.warning)
    preserved_fds.check(preserve_fds + listen_fds)
    entry = _Entry(
        config=config,
        process=wanted,
        group=group,
        first=known.pid,
        entrances=() if group is None else enter.below(group, options.texts("cgroup")),
        target=target,
        console=terminals.connect(path) if path else -1,
        preserve_fds=preserve_fds,
        listen_fds=listen_fds,
        filters=make.filters(call.store),
        known=known,
    )
    if wanted.terminal and not path:
        return _in_terminal(options, entry)
    pid = _enter(options, entry)
    return 0 if options.on("detach") else _attend(pid)


def _target(call: Call, known: State) -> int:
    status = call.store.status(known, make.is_frozen)
    if status == "paused" and call.options.on("ignore-paused"):
        status = "running"
    if status == "paused":
        # runc's words, which callers may know.
        raise OciError("cannot exec in a paused container", known.name, "use --ignore-paused to override")
    target = state.open_process(known) if status in ("created", "running") else None
    if target is None:
        raise OciError(f"cannot exec in the container {known.name}", f"container not running: it is {status}")
    return target


def _process(call: Call, base: Process) -> Process:
    """What is to be started in a container whose own process is *base*."""
    options, warnings = call.options, list[str]()
    path = options.text("process")
    if path:
        try:
            wanted = _by_file(Reader(json.loads(state.read_bytes(path)), "process", warnings), base)
        except BundleError as error:
            raise OciError(f"{path}: {error.where}", error.why, error.fix) from None
        except ValueError as error:
            raise OciError(path, str(error), "correct the JSON") from None
        wanted = replace(wanted, terminal=True) if options.on("tty") else wanted
    else:
        wanted = _by_options(options, base, warnings)
    for line in warnings:
        call.log.warning(line)
    return wanted


def _by_file(file: Reader, base: Process) -> Process:
    """As the file says; as runc, what it lacks of these is the container's: without, there would be none at all."""
    kept: dict[str, object] = {}
    for key, name in (("capabilities", "capabilities"), ("oomScoreAdj", "oom_score_adj"), ("rlimits", "rlimits")):
        if file.lacks(key):
            kept[name] = getattr(base, name)
    return replace(process.parse(file), **kept)


def _by_options(options: Parsed, base: Process, warnings: list[str]) -> Process:
    """The container's own process with another program, and with what the options change."""
    argv = tuple(options.words[1:])
    if not argv:
        raise OciError("no program given", "", "name one, or give --process")
    pairs = [text.partition("=") for text in options.texts("env")]
    if not all(name and equals for name, equals, _ in pairs):
        raise OciError("--env", "must be NAME=VALUE")
    uid, gid = _user(options.text("user"), base)
    return replace(
        base,
        argv=argv,
        env=base.env + tuple((name, value) for name, _, value in pairs),
        cwd=options.text("cwd") or base.cwd,
        terminal=options.on("tty"),
        console_size=None,
        uid=uid,
        gid=gid,
        groups=base.groups + tuple(_id("--additional-gids", text) for text in options.texts("additional-gids")),
        no_new_privileges=base.no_new_privileges or options.on("no-new-privs"),
        capabilities=_with(base.capabilities, options.texts("cap"), uid, warnings),
    )


def _user(text: str, base: Process) -> tuple[int, int]:
    uid, colon, gid = text.partition(":")
    if not text:
        return base.uid, base.gid
    if not uid.isdecimal() or (colon and not gid.isdecimal()):
        raise OciError("--user", f"{text!r} is not UID or UID:GID", "give numbers")
    return _id("--user", uid), _id("--user", gid) if colon else base.gid


def _id(option: str, text: str) -> int:
    """The number of a user or a group. One more than the highest means "leave it" to the kernel: setresuid(2)."""
    number = int(text) if text.isdecimal() and len(text) < 100 else -1
    if not 0 <= number <= process.HIGHEST_ID:
        raise OciError(option, f"{text[:100]!r} is not a number from 0 to {process.HIGHEST_ID}", "give one")
    return number


def _with(kept: Capabilities, names: list[str], uid: int, warnings: list[str]) -> Capabilities:
    """For a user that is not root also in the ambient set, and so in the inheritable one: there is no other way."""
    more = mask_of(Reader({"--cap": names}, "", warnings), "--cap")
    inherited = more if uid else 0
    return Capabilities(
        bounding=kept.bounding | more,
        effective=kept.effective | more,
        permitted=kept.permitted | more,
        inheritable=kept.inheritable | inherited,
        ambient=kept.ambient | inherited,
    )


def _in_terminal(options: Parsed, entry: _Entry) -> int:
    ours, theirs = terminals.pair()
    try:
        # It may look at its size at once, before the proxy has set it.
        sized = replace(entry.process, console_size=terminals.own_size())
        pid = _enter(options, replace(entry, console=theirs, process=sized, shown=True))
        os.close(theirs)
        try:
            proxy = terminals.Proxy(terminals.receive(ours))
        except (OciError, OSError):
            _end(pid)
            raise
        with proxy:
            return _attend(pid, proxy)
    finally:
        os.close(ours)


def _attend(pid: int, proxy: terminals.Proxy | None = None) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        with foreground.Signals() as signals:
            return foreground.attend(pid, pidfd, signals, proxy)
    finally:
        os.close(pidfd)


def _enter(options: Parsed, entry: _Entry) -> int:
    """Start the program; return its pid once it has been executed. Raises OciError with the step that failed."""
    # Before anything is entered: it reads the host's files.
    agent = listener.connect(entry.config.seccomp)
    filtering = parent.filtering(entry.config, entry.filters)
    last = sequence.becoming(entry.process, bundle=entry.config, filtering=filtering)
    steps = (*_before(entry), *last.steps)
    program = stub.make(last.calls, announce=agent >= 0)
    report, report_in = os.pipe()
    numbers, numbers_in = os.pipe()
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
        number, said = _follow(options, entry, agent, helper, numbers, report)
    finally:
        os.close(report)
        os.close(numbers)
        if agent >= 0:
            os.close(agent)
    if said or not number:
        if number:
            os.waitpid(number, 0)
        raise OciError(stub.said(said, entry.process.argv[0]) if said else "the process ended before it had entered")
    if options.text("pid-file"):
        try:
            state.place_file(options.text("pid-file"), str(number), 0o644)
        except OSError:
            _end(number)
            raise
    return number


def _end(number: int) -> None:
    """Kill the program, our child: who is told of a failure does not expect it to run."""
    os.kill(number, make.SIGKILL)  # not waited for: the number is still its own
    os.waitpid(number, 0)


def _follow(options: Parsed, entry: _Entry, agent: int, helper: int, numbers: int, report: int) -> tuple[int, bytes]:
    """The program's number, 0 if it got none, and what is said until it runs: nothing, or what failed."""
    # In a paused container it waits for its resumption, which --ignore-paused asks for.
    limit_ms = None if options.on("ignore-paused") else _ENTER_MS
    number, said = 0, b""
    try:
        number = int(_next(numbers, limit_ms) or b"0")
        while part := _next(report, limit_ms):  # closed by exec, or by the end of both
            if agent >= 0 and part[:1] == b"0" and entry.config.seccomp is not None:
                listener.hand_on(agent, entry.config.seccomp, number, entry.known.report("running"))
                part = part[1:]
            said += part
    except BaseException:
        for pid in (helper, number):
            if pid:
                os.kill(pid, make.SIGKILL)  # ours, and not waited for: the numbers are still theirs
        raise
    os.waitpid(helper, 0)
    return number, said


def _next(pipe: int, limit_ms: int | None) -> bytes:
    """What comes next out of *pipe*. Raises OciError if that is nothing for too long."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(limit_ms):
        why = f"nothing happened for {_ENTER_MS // 1000} s"
        raise OciError("the program is not executed", why, "see whether the container's cgroup is frozen")
    return os.read(pipe, _REPORT_BYTES)


def _join(entry: _Entry, steps: tuple[Step, ...], program: int, report: int, numbers: int) -> NoReturn:
    """In the copy: enter, make the child, say its number, end."""
    try:
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        before, after = entry.process.affinity
        if before:
            child.run((RunOn(before),))
        doors = None if entry.group is None else enter.Doors(entry.group, entry.first, entry.entrances)
        # Always, also where it is ours already: the call fails if the process has ended, and the number is another's.
        flags = NAMESPACES["mount"]
        for kind in entry.config.namespaces:
            flags |= NAMESPACES[kind]
        root = _root(entry)
        # Inside a user namespace no limit could be raised; and a limit of open files must not be in the way of these.
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


def _root(entry: _Entry) -> int:
    """The first process' root directory, where it may be another than that of its mount namespace; else -1."""
    if entry.config.is_new("mount"):
        return -1
    return os.open(f"/proc/{entry.first}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _before(entry: _Entry) -> Iterator[Step]:
    """What comes before the steps that the first process takes, too."""
    yield NewSession()
    yield NewKeyring()
    if "user" in entry.config.namespaces:
        yield SetGroups(may_keep=True)
        yield BecomeUser(*_first(entry.known))
    yield Undumpable()  # a change of ids takes it back
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
        os.close(terminals.inside(self.carrier, size=self.size, uid=self.uid, plain=self.plain))
