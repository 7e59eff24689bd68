"""A bare process: fork and exec, nothing else. Every other subject can be compared with it.

A workload of the host's own root is run as it is. One of another image begins below a root directory of its own: in a
mount namespace, an overlay of the image with the host's /proc, /sys and /dev (:mod:`runners.launch.entry`), which is
gone when its last process is. It shares all else with the host, its network too.

With the option ``limit = "cgroup"`` each has a cgroup of its own with the grant's limits, as a container has, and
nothing else of a container: so it shows what the limits alone do. It gets into it by a gate
(:mod:`runners.launch.exec_gate`).
"""

from __future__ import annotations

import os
import platform
import select
import shlex
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.runners import payload
from tare.runners.base import (
    HOST,
    Address,
    Launch,
    Layers,
    Mark,
    Option,
    Options,
    Prepared,
    RunnerError,
    Scratch,
    Spec,
    Support,
)
from tare.runners.container.cgroup import cgroups
from tare.runners.container.config.defaults import PIDS_LIMIT
from tare.runners.container.linux import syscalls
from tare.runners.container.warm import smallest_container
from tare.runners.launch import drain, entry, exec_gate, frame, orphans

LAYERS: Layers = ()
TYPICAL_S = 0.003
OPTIONS: Mapping[str, Option] = {
    "limit": Option("what enforces the grant: none (nothing), or cgroup (a cgroup of its own)", ("none", "cgroup"))
}

#: How long it may take from the moment when a process has closed its files until its end can be waited for.
_END_MS = 500
_REACHED = "the host's loopback"
_CLONE_FS = 0x00000200  # linux/sched.h
#: Of each thread: whether it has a working directory of its own.
_thread = threading.local()
_OWN_ROOT = ("mount namespace", "root directory of its own (chroot)")


@dataclass(frozen=True, slots=True)
class _Process:
    """A started process; see :class:`runners.base.Instance`."""

    console: int
    pid: int
    group: cgroups.Cgroup | None = None  # else it is in the run's own
    #: The beginning of a command line for what is to have the same root, user and environment.
    enter: tuple[str, ...] = ()
    #: The payload starts no other process.
    alone: bool = True

    @property
    def cgroup(self) -> Path | None:
        """See :class:`runners.base.Instance`."""
        return self.group.path if self.group is not None else None

    def pids(self) -> frozenset[int]:
        """The process and all below it, or with a cgroup all in it."""
        if self.group is not None:
            return self.group.pids()
        if self.alone:
            return frozenset((self.pid,))
        return frozenset((*orphans.family(self.pid), *orphans.LIVING.adopted(self.pid)))

    def explain(self) -> str:
        """How it ended, and whether its limit did that; empty while it runs."""
        if smallest_container.hung_up(self.console):  # a process closes it a moment before its end can be waited for
            self._await_end()
        # WNOWAIT: the zombie stays, and the stop reaps it.
        end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if end is None:
            return ""
        if end.si_code == os.CLD_EXITED:
            return f"the process exited with status {end.si_status}"
        why = f"the process was killed by {signal.Signals(end.si_status).name}"
        return f"{why}: it reached the memory limit of its cgroup" if self.group and _oom_kills(self.group) else why

    def address(self) -> Address:
        """See :class:`runners.base.Instance`."""
        return Address(how=_REACHED)

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        """See :class:`runners.base.Instance`."""
        return (*(word.replace(_PID, str(self.pid)) for word in self.enter), *argv)

    def status(self) -> int | None:
        """See :class:`runners.base.Instance`."""
        if smallest_container.hung_up(self.console):
            self._await_end()
        end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if end is None:
            return None
        return end.si_status if end.si_code == os.CLD_EXITED else 128 + end.si_status

    def reclaim(self, size_bytes: int) -> None:
        """See :class:`runners.base.Instance`."""
        frame.reclaim(self.group, f"process {self.pid}", size_bytes)

    def _await_end(self) -> None:
        pidfd = os.pidfd_open(self.pid)  # not reaped yet, so the number is its own
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(_END_MS)
        finally:
            os.close(pidfd)

    def stop(self) -> None:
        """Kill and reap it, and whatever else is below it or in its cgroup."""
        drain.leave(self.console)
        below = [] if self.alone else orphans.family(self.pid)[1:]
        os.kill(self.pid, signal.SIGKILL)  # ours and not yet reaped: the pid cannot belong to another
        os.waitpid(self.pid, 0)
        orphans.kill(below)
        if self.group is not None:
            self.group.kill()
        if not self.alone:
            orphans.LIVING.end(self.pid)


def _oom_kills(group: cgroups.Cgroup) -> int:
    """How many processes the kernel has killed in *group* because its memory limit was reached.

    From Linux 4.13 on; memory.rst (v1) and cgroup-v2.rst, "memory.events".
    """
    name = "memory.events" if isinstance(group, cgroups.V2) else "memory.oom_control"
    lines = Path(group.file("memory", name)).read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def probe(options: Options, cache: Path) -> Support:
    """Works wherever the payload can be built; with a limit, this tries to start one in a cgroup."""
    limited = options.get("limit") == "cgroup"
    no_cgroups = cgroups.usable() if limited else ""
    if no_cgroups:
        return Support(ok=False, why=f"no cgroup can be made: {no_cgroups}", fix=frame.need_root())
    try:
        if limited:
            frame.prove(prepare, options, cache, label="process", grouped=True, fix=lambda _: "")
        else:
            payload.binary(cache)
    except RunnerError as error:
        return Support(ok=False, why=str(error), fix=error.fix)
    return Support(
        ok=True,
        version=f"Linux {platform.release()}",
        unlimited=() if limited else ("memory", "cpus"),
        reclaims=cgroups.reclaimer() if limited else "",
        reached=_REACHED,
        enters="fork and exec, in its root directory",
        facts={"cgroups": cgroups.mode()} if limited else {},
    )


#: In the words of an entry: the number of the process.
_PID = "@PID@"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Program:
    """What is executed: *argv*, in *directory* where that is not None, with the environment *env*."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    directory: str | None = None
    enter: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    alone: bool = False


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """A process shares the host's file system, unless its workload has an image of its own."""
    limited = options.get("limit") == "cgroup"
    walls = None
    with ExitStack() as stack:
        if frame.runs_payload(spec):
            program = _payload(spec)
        elif spec.image.source == HOST:
            program = _workload(spec, scratch, limited=limited)
        else:
            program, walls = _below_image(spec, scratch, stack), _OWN_ROOT
        launch = _limited(program, spec, scratch) if limited else _unlimited(program)
        yield Prepared(launch=launch, manifest={"argv.txt": shlex.join(program.argv) + "\n"}, walls=walls)


def _payload(spec: Spec) -> _Program:
    """The payload is run where it lies in the root filesystem."""
    path = spec.rootfs / spec.argv[0].lstrip("/")
    if not os.access(path, os.X_OK):
        raise RunnerError(f"cannot run {path}", "it is not an executable file", "check payload.rootfs of the scenario")
    return _Program(argv=(str(path), *spec.argv[1:]), env=dict(spec.env), alone=True)


def _workload(spec: Spec, scratch: Scratch, *, limited: bool) -> _Program:
    """A program of the host's: executed directly, or through the entry where it has another user, or a gate before."""
    _check_user(spec)
    words = (os.fspath(entry.binary(scratch.cache)), *entry.becoming(spec), "--")
    if entry.own_user(spec) and not limited:
        return _Program(argv=spec.argv, env=dict(spec.env), directory=spec.cwd, enter=words, ports=spec.ports)
    return _Program(argv=(*words, *spec.argv), env={}, enter=words, ports=spec.ports)


def _below_image(spec: Spec, scratch: Scratch, stack: ExitStack) -> _Program:
    """A program of another image. Raises RunnerError where this user may not mount."""
    _check_user(spec)
    if os.geteuid() != 0:
        why = "it needs a root directory of its own, and this user may not mount"
        raise RunnerError(f"cannot run a process of the image {spec.image.source}", why, frame.need_root())
    base = scratch.directory / "root"
    base.mkdir()
    stack.callback(base.rmdir)
    binary = entry.binary(scratch.cache)
    below = entry.below(os.fspath(spec.rootfs.resolve()), os.fspath(base))
    words = (os.fspath(binary), *below, *entry.becoming(spec), "--")
    enter = (os.fspath(binary), f"beside={_PID}", *entry.becoming(spec), "--")
    return _Program(argv=(*words, *spec.argv), env={}, enter=enter, ports=spec.ports)


def _check_user(spec: Spec) -> None:
    if os.geteuid() != 0 and not entry.own_user(spec):
        raise RunnerError(
            f"cannot run {spec.argv[0]} as user {spec.user.uid}",
            f"this user, {os.geteuid()}, may not become another",
            frame.need_root(),
        )


def _check_ports(ports: Sequence[int]) -> None:
    """Raise RunnerError where another process listens already: its answers would be taken for the workload's."""
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
            client.bind(("127.0.0.1", 0))
            # The other test: a socket can connect to itself, and a socket that has got the port shows that it is free.
            if client.getsockname()[1] != port and client.connect_ex(("127.0.0.1", port)) == 0:
                raise RunnerError(
                    f"port {port} of this host is taken",
                    "another process listens there, and a bare process has no network of its own",
                    f"end it (ss -ltnp 'sport = :{port}' names it), or take another port",
                )


def _unlimited(program: _Program) -> Launch:
    @contextmanager
    def launch(name: str, mark: Mark) -> Iterator[_Process]:
        _check_ports(program.ports)
        with ExitStack() as stack:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            stack.callback(drain.close, reader)
            with ExitStack() as theirs:
                theirs.callback(os.close, writer)
                null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
                theirs.callback(os.close, null)
                pid = _spawned(program, null, writer) if program.alone else _watched(program, null, writer)
            instance = _Process(reader, pid, enter=program.enter, alone=program.alone)
            try:
                mark("created")
                os.set_blocking(reader, False)
                yield instance
            finally:
                instance.stop()
            mark("stopped")

    return launch


def _watched(program: _Program, null: int, writer: int) -> int:
    """Start it; what it leaves behind is ours from now on."""
    orphans.LIVING.begin()
    try:
        pid = _in_directory(program, null, writer) if program.directory is not None else _spawned(program, null, writer)
    except BaseException:
        orphans.LIVING.end()
        raise
    orphans.LIVING.started(pid)
    return pid


def _spawned(program: _Program, null: int, writer: int) -> int:
    return os.posix_spawn(  # uses vfork: takes the same time however large this process is
        program.argv[0],
        program.argv,
        program.env,
        file_actions=(
            (os.POSIX_SPAWN_DUP2, null, 0),
            (os.POSIX_SPAWN_DUP2, writer, 1),
            (os.POSIX_SPAWN_DUP2, writer, 2),
        ),
        setpgroup=0,  # Ctrl-C is for tare, which then ends it itself
        setsigdef=exec_gate.DEFAULTED,
    )


def _in_directory(program: _Program, null: int, writer: int) -> int:
    """The same for a program that begins in another directory, which posix_spawn(3) of Python cannot set.

    So this thread goes there and back, by itself: other threads stay where they are (unshare(2), CLONE_FS).
    """
    if not hasattr(_thread, "apart"):
        syscalls.unshare(_CLONE_FS)
        _thread.apart = True
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(program.directory or "/")
        return _spawned(program, null, writer)
    finally:
        os.fchdir(here)
        os.close(here)


def _limited(program: _Program, spec: Spec, scratch: Scratch) -> Launch:
    """``created`` is stamped when the process has executed its program. Raises RunnerError."""
    parent = frame.parent(scratch)
    if parent is None:
        raise RunnerError("cannot limit a process", "this user may not make cgroups", frame.need_root())
    waiter = exec_gate.binary(scratch.cache)

    def start(name: str, stack: ExitStack) -> _Process:
        _check_ports(program.ports)
        group = parent.child(name)
        stack.callback(group.remove)
        try:
            group.create()
            group.limit(memory_bytes=spec.memory_bytes, pids=PIDS_LIMIT, cpus=spec.cpus)
        except OSError as error:
            why = f"{error.filename}: {error.strerror}"
            raise RunnerError(f"cannot make the cgroup {group.relative}", why, "see `tare doctor`") from error
        with ExitStack() as theirs:
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            theirs.callback(os.close, null)
            held = exec_gate.hold(waiter, program.argv, program.env, console=console_in, stdin=null, ours=theirs)
            if not program.alone:
                orphans.LIVING.begin()
                orphans.LIVING.started(held.pid)
            enter = (*program.enter[:1], *(f"cgroup={file}" for file in group.entrances()), *program.enter[1:])
            instance = _Process(console, held.pid, group, enter=enter if program.enter else (), alone=program.alone)
            try:
                held.run_in(group)
            except BaseException:
                instance.stop()
                raise
        return instance

    return frame.launcher(start)


def sweep() -> Sequence[str]:
    """Nothing to find by name: a process left behind is found in the run's cgroup."""
    return ()
