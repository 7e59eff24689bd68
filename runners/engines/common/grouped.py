"""An engine that sets no limits itself: it is started in a cgroup of ours, and all that it starts is in there with it.

It gets into it by a gate (:mod:`runners.launch.exec_gate`), before its program begins.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import RunnerError, Scratch, Spec
from tare.runners.container.cgroup import cgroups
from tare.runners.container.config.defaults import PIDS_LIMIT
from tare.runners.launch import exec_gate, frame, monitored


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """Makes the cgroups of a subject's instances below *parent*; None where this user may make none.

    *limited*: they have the limits of *spec*; else they count alone.
    """

    parent: cgroups.Cgroup | None
    spec: Spec
    gate: Path
    limited: bool = True

    def make(self, name: str, stack: ExitStack) -> cgroups.Cgroup | None:
        """The cgroup of the instance *name*, which *stack* empties and removes. Raises RunnerError."""
        if self.parent is None:
            return None
        group = self.parent.child(name)
        if isinstance(group, cgroups.V1):  # an engine may make cgroups of its own in the v2 hierarchy, beside ours
            group = cgroups.V1(group.relative, group.layout, unified=True)
        stack.callback(group.remove)
        stack.callback(empty, group)
        try:
            group.create()
            if self.limited:
                group.limit(memory_bytes=self.spec.memory_bytes, pids=PIDS_LIMIT, cpus=self.spec.cpus)
        except OSError as error:
            why = f"{error.filename}: {error.strerror}"
            raise RunnerError(f"cannot make the cgroup {group.relative}", why, "see `tare doctor`") from error
        return group


def empty(group: cgroups.Cgroup) -> None:
    """Kill what a monitor that was killed left in *group*, if it left anything."""
    if group.pids():
        group.kill()


def grants(spec: Spec, scratch: Scratch, *, limited: bool = True) -> Grants:
    """Those of a subject. Raises RunnerError."""
    return Grants(parent=frame.parent(scratch), spec=spec, gate=exec_gate.binary(scratch.cache), limited=limited)


@contextmanager
def started(
    argv: Sequence[str],
    *,
    grants: Grants,
    group: cgroups.Cgroup | None,
    console: int,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a monitor in *group*; see :func:`runners.launch.monitored.started`. Raises RunnerError."""
    if group is None:
        with monitored.started(argv, console=console, pass_fds=pass_fds, env=env) as monitor:
            yield monitor
        return
    link, its = exec_gate.sockets()
    with link, its:
        words = exec_gate.words(grants.gate, its, argv)
        with monitored.started(words, console=console, pass_fds=(its.fileno(), *pass_fds), env=env) as monitor:
            its.close()
            monitor.args = list(argv)  # for a reader: the gate becomes this program
            exec_gate.WaitingProcess(monitor.pid, argv[0], link).run_in(group)
            yield monitor
