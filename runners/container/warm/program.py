"""What the new process does between clone and exec: its steps, its standard streams, and the program.

It must import nothing and allocate little: a process that is a copy has to copy every page that it touches. One that
runs in its parent's memory (:mod:`vfork`) must leave nothing there.
"""

from __future__ import annotations

import os

from ..linux import syscalls
from ..linux.exec_stub import stub
from ..setup.kernel import flatten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from ..setup.kernel import Call
    from ..setup.sequence import StepSequence
    from ..setup.steps.basic import Step

#: The exit status of a container whose set-up failed, as in shells' "cannot execute".
SETUP_FAILED = 126
#: Where the stub finds the status pipe: the lowest descriptor after the standard streams.
_STATUS = 3


class Program:
    """A sequence of steps, made ready to run in many children."""

    def __init__(self, plan: StepSequence) -> None:
        self.steps = plan.own
        self.calls = flatten(plan.own)
        self.path = plan.argv[0]
        #: The program that executes it, and its words: see :mod:`stub`.
        self.stub = stub.make(plan.last, least=_STATUS + 1)
        self.argv = stub.words(_STATUS, self.path, plan.argv)
        self.env = dict(plan.env)
        self.clone_flags = plan.clone_flags

    def become(self, first: Step | None, *, gate: int, console: int, status: int) -> NoReturn:
        """Run as the child of clone3, a copy: :meth:`set_up`, then exec. Never returns.

        What fails is written to *status*: the name of the step, or what :func:`stub.said` reads. A successful exec
        closes *status*.
        """
        try:
            if self.set_up(first, gate=gate, console=console, status=status):
                os.execve(self.stub, self.argv, self.env)
        except OSError as error:
            os.write(status, f"cannot execute {self.path}: {error}\n".encode())
        finally:
            os._exit(SETUP_FAILED)

    def set_up(self, first: Step | None, *, gate: int, console: int, status: int) -> bool:
        """Wait for *gate*, do *first* and each container's own steps; whether all succeeded.

        What fails is written to *status*. One byte from *gate*, a pipe, means go; end of file means that the parent has
        ended. *console* becomes stdout and stderr. Nothing is left in memory, which may be the parent's (:mod:`vfork`).
        """
        if not os.read(gate, 1):
            return False
        if first is not None and not run((first,), flatten((first,)), status):
            return False
        os.dup2(console, 1)
        os.dup2(console, 2)
        if not run(self.steps, self.calls, status):
            return False
        if status == _STATUS:
            os.set_inheritable(status, True)
        else:
            os.dup2(status, _STATUS)
        # Python opens all its files close-on-exec; this does it for the descriptors that it was started with, too.
        syscalls.close_range(_STATUS + 1, 0xFFFFFFFF, syscalls.CLOSE_RANGE_CLOEXEC)
        return True


def run(steps: Sequence[Step], calls: Sequence[Sequence[Call]], status: int) -> bool:
    """Make the *calls* of *steps*. On the first failure, write to *status* which step it was, and return False."""
    at = 0
    for each in calls:
        for act, arguments, tolerated in each:
            try:
                act(*arguments)
            except OSError as error:
                if error.errno not in tolerated:
                    os.write(status, f"cannot {steps[at].describe()}: {error}\n".encode())
                    return False
        at += 1  # noqa: SIM113 - enumerate would allocate a pair for each
    return True
