"""A bare process: fork and exec, nothing else. Every other subject can be compared with it.

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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.runners import payload
from tare.runners.base import (
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
from tare.runners.container.warm import smallest_container
from tare.runners.launch import drain, exec_gate, frame

LAYERS: Layers = ()
TYPICAL_S = 0.003
OPTIONS: Mapping[str, Option] = {
    "limit": Option("what enforces the grant: none (nothing), or cgroup (a cgroup of its own)", ("none", "cgroup"))
}

_END_MS = 20_000
_REACHED = "the host's loopback"


@dataclass(frozen=True, slots=True)
class _Process:
    """A started process; see :class:`runners.base.Instance`."""

    console: int
    pid: int
    group: cgroups.Cgroup | None = None  # else it is in the run's own

    @property
    def cgroup(self) -> Path | None:
        """See :class:`runners.base.Instance`."""
        return self.group.path if self.group is not None else None

    def pids(self) -> frozenset[int]:
        """The process, and with a cgroup all in it."""
        return frozenset((self.pid,)) if self.group is None else self.group.pids()

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
        """See :class:`runners.base.Instance`: it shares everything with the host."""
        return tuple(argv)

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
        """Kill and reap it, and whatever else is in its cgroup."""
        drain.leave(self.console)
        os.kill(self.pid, signal.SIGKILL)  # ours and not yet reaped: the pid cannot belong to another
        os.waitpid(self.pid, 0)
        if self.group is not None:
            self.group.kill()


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
        enters="fork and exec",
        facts={"cgroups": cgroups.mode()} if limited else {},
    )


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """A process shares the host's file system: the program is run where it lies in the root filesystem."""
    program = spec.rootfs / spec.argv[0].lstrip("/")
    if not os.access(program, os.X_OK):
        raise RunnerError(
            f"cannot run {program}", "it is not an executable file", "check payload.rootfs of the scenario"
        )
    argv = (str(program), *spec.argv[1:])
    limited = options.get("limit") == "cgroup"
    launch = _limited(argv, spec, scratch) if limited else _unlimited(argv, spec)
    yield Prepared(launch=launch, manifest={"argv.txt": shlex.join(argv) + "\n"})


def _unlimited(argv: tuple[str, ...], spec: Spec) -> Launch:
    @contextmanager
    def launch(name: str, mark: Mark) -> Iterator[_Process]:
        with ExitStack() as stack:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            stack.callback(drain.close, reader)
            with ExitStack() as theirs:
                theirs.callback(os.close, writer)
                null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
                theirs.callback(os.close, null)
                pid = os.posix_spawn(  # uses vfork: takes the same time however large this process is
                    argv[0],
                    argv,
                    dict(spec.env),
                    file_actions=(
                        (os.POSIX_SPAWN_DUP2, null, 0),
                        (os.POSIX_SPAWN_DUP2, writer, 1),
                        (os.POSIX_SPAWN_DUP2, writer, 2),
                    ),
                    setpgroup=0,  # Ctrl-C is for tare, which then ends it itself
                    setsigdef=exec_gate.DEFAULTED,
                )
            instance = _Process(reader, pid)
            try:
                mark("created")
                os.set_blocking(reader, False)
                yield instance
            finally:
                instance.stop()
            mark("stopped")

    return launch


def _limited(argv: tuple[str, ...], spec: Spec, scratch: Scratch) -> Launch:
    """``created`` is stamped when the process has executed its program. Raises RunnerError."""
    parent = frame.parent(scratch)
    if parent is None:
        raise RunnerError("cannot limit a process", "this user may not make cgroups", frame.need_root())
    waiter = exec_gate.binary(scratch.cache)

    def start(name: str, stack: ExitStack) -> _Process:
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
            held = exec_gate.hold(waiter, argv, dict(spec.env), console=console_in, stdin=null, ours=theirs)
            instance = _Process(console, held.pid, group)
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
