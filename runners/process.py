"""A bare process: fork and exec, nothing else. It is the tare that every other subject is compared with."""

from __future__ import annotations

import os
import platform
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from runners import payload
from runners.base import Kind, Mark, Option, Options, Prepared, RunnerError, Scratch, Spec, Support

KIND: Kind = "process"
TYPICAL_S = 0.003
OPTIONS: Mapping[str, Option] = {}


@dataclass(frozen=True, slots=True)
class _Process:
    console: int
    pid: int
    cgroup: Path | None = None  # it lives in the run's own cgroup

    def pids(self) -> frozenset[int]:
        return frozenset((self.pid,))

    def explain(self) -> str:
        # WNOWAIT: the zombie stays, for the stop to reap.
        end = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if end is None:
            return ""
        if end.si_code == os.CLD_EXITED:
            return f"the process exited with status {end.si_status}"
        return f"the process was killed by {signal.Signals(end.si_status).name}"


def probe(options: Options, cache: Path) -> Support:
    """Possible wherever the payload can be built."""
    try:
        payload.binary(cache)
    except RunnerError as error:
        return Support(ok=False, why=str(error), fix=error.fix)
    return Support(ok=True, version=f"Linux {platform.release()}", unlimited=("memory", "cpus"))


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """A process shares the host's file system: the program is run where it lies in the root filesystem."""
    program = spec.rootfs / spec.argv[0].lstrip("/")
    if not os.access(program, os.X_OK):
        raise RunnerError(
            f"cannot run {program}", "it is not an executable file", "check payload.rootfs of the scenario"
        )
    argv = (str(program), *spec.argv[1:])

    @contextmanager
    def launch(name: str, mark: Mark) -> Iterator[_Process]:
        with ExitStack() as stack:
            reader, writer = os.pipe2(os.O_CLOEXEC)
            stack.callback(os.close, reader)
            with ExitStack() as theirs:
                theirs.callback(os.close, writer)
                null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
                theirs.callback(os.close, null)
                pid = os.posix_spawn(  # vfork inside: does not pay for the size of this process
                    argv[0],
                    argv,
                    dict(spec.env),
                    file_actions=((os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, writer, 1)),
                    setsigdef=(signal.SIGPIPE, signal.SIGINT, signal.SIGTERM),
                )
            try:
                mark("created")
                os.set_blocking(reader, False)
                yield _Process(reader, pid)
            finally:
                os.kill(pid, signal.SIGKILL)  # ours and not yet reaped: the pid cannot belong to another
                os.waitpid(pid, 0)
            mark("stopped")

    yield Prepared(launch=launch, manifest={"argv.txt": shlex.join(argv) + "\n"})


def sweep() -> Sequence[str]:
    """Nothing by a name of ours: a process left behind is found in the run's cgroup."""
    return ()
