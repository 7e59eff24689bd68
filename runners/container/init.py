"""What the new process does between clone and exec: its steps, its standard streams, and the program.

It must import nothing and allocate little: every page that it touches is copied from the parent first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NoReturn

from . import syscalls
from .kernel import Call, flatten
from .plan import Plan
from .steps import Step

#: The exit status of a container whose set-up failed, as in shells' "cannot execute".
SETUP_FAILED = 126


class Program:
    """A plan made ready to run in many children."""

    def __init__(self, plan: Plan) -> None:
        self.steps = plan.own
        self.calls = flatten(plan.own)
        self.path = plan.argv[0]
        self.argv = list(plan.argv)
        self.env = dict(plan.env)
        self.clone_flags = plan.clone_flags

    def become(self, first: Step | None, *, gate: int, console: int, status: int) -> NoReturn:
        """Run as the child of clone3: wait for *gate*, do *first* and the plan's own steps, exec. Never returns.

        *gate* is a pipe from which one byte means go, and end of file that the parent is gone. What fails is written to
        *status*, naming the step; *status* closes on a successful exec. *console* becomes stdout and stderr.
        """
        try:
            if not os.read(gate, 1):
                os._exit(SETUP_FAILED)
            if first is not None:
                run((first,), flatten((first,)), status)
            run(self.steps, self.calls, status)
            os.dup2(console, 1)
            os.dup2(console, 2)
            # Python opens all its files close-on-exec already; this holds for what it was started with, too.
            syscalls.close_range(3, 0xFFFFFFFF, syscalls.CLOSE_RANGE_CLOEXEC)
            os.execve(self.path, self.argv, self.env)
        except OSError as error:
            os.write(status, f"cannot execute {self.path}: {error}\n".encode())
        finally:
            os._exit(SETUP_FAILED)


def run(steps: Sequence[Step], calls: Sequence[Sequence[Call]], status: int) -> None:
    """Make the *calls* of *steps*; on the first failure, say on *status* which step it was and exit."""
    at = 0
    for each in calls:
        for act, arguments, tolerated in each:
            try:
                act(*arguments)
            except OSError as error:
                if error.errno not in tolerated:
                    os.write(status, f"cannot {steps[at].describe()}: {error}\n".encode())
                    os._exit(SETUP_FAILED)
        at += 1  # noqa: SIM113 - enumerate would allocate a pair for each
