"""What a wait for readiness is given, and what each module of this room defines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tare.bench.readiness.console import Console
from tare.runners.base import Instance

#: The stamp that every contract sets, but for a mark of another name.
READY = "ready"


@dataclass(slots=True, kw_only=True)
class Waited:
    """One start that is awaited: of *instance*, through *console*, until *deadline_ns* of the monotonic clock.

    ``check`` is called ten times a second while nothing comes, and may raise what ends the wait. What attempts came to:
    ``attempts`` is their number, ``attempt_s`` how long the one that succeeded took, ``last_words`` why the last one
    that failed did.
    """

    instance: Instance
    console: Console
    deadline_ns: int
    check: Callable[[], None] | None = None
    last_words: str = ""
    attempts: int = 0
    attempt_s: float = 0.0

    @property
    def stamps(self) -> dict[str, int]:
        """Phase -> nanoseconds of the monotonic clock."""
        return self.console.stamps


class Contract(Protocol):
    """A module of this room: how one kind of readiness is awaited."""

    #: How long it waits between two attempts, in seconds, where the kernel has no event for it; 0 where it has.
    PERIOD_S: float

    def wait(self, asked: Any, start: Waited) -> bool:
        """Return True when it is ready, with the time in ``start.stamps``; False if the instance ended before.

        *asked* is the record of the contract (:mod:`bench.records.readiness`). Raises TrialTimeout at the deadline, and
        RunnerError where the runner has no means for it.
        """
        ...
