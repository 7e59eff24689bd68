"""A scenario with nothing left to default: what :mod:`bench.scenario.resolve` makes, what a run's header holds, once.

What belongs to one experiment alone stands below ``tables`` and ``own``, in the words of its TOML: the experiment names
the types (:class:`bench.scenario.design.Design`), and :meth:`Scenario.table` and :meth:`Subject.keys` give them back.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from tare.runners.payload import Payload

_Kind = TypeVar("_Kind", bound=msgspec.Struct)

Option = str | int | float | bool


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How often, in which order, from which state, and when a start is over: what a file says as the record does."""

    rounds: Annotated[int, Meta(ge=1, le=10_000)] = 12
    warmup: Annotated[int, Meta(ge=0, le=100)] = 1
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 1
    cache: Literal["warm", "cold"] = "warm"
    ready: str = "ready"
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    max_rounds: Annotated[int, Meta(ge=0, le=10_000)] = 0


class Schedule(Timing, frozen=True, kw_only=True):
    """The same, and the wanted ``precision``: half of each interval as a part of its median, 0.05 for 5 %.

    0: the rounds are as many as ``rounds`` says. Else that is the least number, and ``max_rounds`` the largest
    (:mod:`bench.stats.precision`).
    """

    precision: Annotated[float, Meta(ge=0, le=0.5)] = 0.0


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to be measured. ``own`` is what its experiment added."""

    label: str
    runner: str
    options: dict[str, Option] = {}
    payload: Payload = Payload()
    memory_bytes: int
    cpus: int
    own: dict[str, Any] = {}

    @property
    def argv(self) -> tuple[str, ...]:
        """What an instance runs."""
        return self.payload.argv

    def keys(self, kind: type[_Kind]) -> _Kind:
        """``own``, as the experiment's type of it."""
        return msgspec.convert(self.own, kind)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A validated scenario, ready to be planned. ``text`` is the file as it was read, the rest the same with all flags.

    ``rootfs`` is None for the built-in tree. ``tables`` has the experiment's own table by its name, if it has one.
    """

    name: str
    text: str
    question: str
    experiment: str = "startup"
    reference: str
    pairs: tuple[tuple[str, str], ...] = ()
    prices: tuple[str, ...] = ()
    run: Schedule = Schedule()
    tables: dict[str, dict[str, Any]] = {}
    rootfs: str | None = None
    subjects: tuple[Subject, ...] = ()

    def table(self, kind: type[_Kind]) -> _Kind:
        """The experiment's own table, as its type; the defaults of *kind* where it has none."""
        return msgspec.convert(next(iter(self.tables.values()), {}), kind)

    def subject(self, label: str) -> Subject:
        """The subject called *label*. Raises StopIteration where there is none."""
        return next(one for one in self.subjects if one.label == label)
