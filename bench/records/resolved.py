"""A scenario with nothing left to default: what :mod:`bench.scenario.resolve` makes, what a run's header holds, once.

What belongs to one experiment alone stands below ``tables`` and ``own``, in the words of its TOML: the experiment names
the types (:class:`bench.scenario.design.Design`), and :meth:`Scenario.table` and :meth:`Subject.keys` give them back.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from tare.bench.records.readiness import Mark, Port, Ready
from tare.runners.payload import Payload

_Kind = TypeVar("_Kind", bound=msgspec.Struct)

Option = str | int | float | bool


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How often, in which order, from which state, and when a start is over: what a file says as the record does.

    rounds: how many rounds; each has one trial of every subject; a verdict needs at least 8
    warmup: how many trials of each subject come first, are recorded, and are not counted
    seed: shuffles the subjects within each round
    cache: ``cold``: sync, drop the caches and wait until the disks are quiet before every trial; ``warm``: nothing of
        it
    ready: the payload's mark that ends a start: ``ready``, or ``first`` (the first instruction of PID 1)
    timeout_s: a start that takes longer than this many seconds counts as timed out
    max_rounds: with a ``precision``: the largest number of rounds; 0: 5 times the least
    """

    rounds: Annotated[int, Meta(ge=1, le=10_000)] = 12
    warmup: Annotated[int, Meta(ge=0, le=100)] = 1
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 1
    cache: Literal["warm", "cold"] = "warm"
    ready: str = "ready"
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    max_rounds: Annotated[int, Meta(ge=0, le=10_000)] = 0


class Schedule(Timing, frozen=True, kw_only=True):
    """How often, in which order, from which state, when a start is over, and how precise the figures must be.

    precision: half of each 95 % interval, as a part of its median, that is wanted (0.05 for 5 %; see
        :mod:`bench.stats.precision`); ``rounds`` is then the least number; 0: the rounds are as many as ``rounds`` says
    """

    precision: Annotated[float, Meta(ge=0, le=0.5)] = 0.0


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What runs in every instance, where it is not the built-in payload.

    name: its name, where a scenario has several
    command: the program and its arguments; empty: those that the image names
    env: environment variables, beside those of the image
    cwd: the directory in which it begins; empty: that of the image
    user: whose rights it has, as ``NAME`` or ``UID[:GID]`` of the image; empty: the image's own
    image: what it finds below its root (:mod:`runners.image`)
    ports: on which it listens
    ready: when it counts as ready
    """

    name: str = ""
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    cwd: str = ""
    user: str = ""
    image: str = "host"
    ports: tuple[Port, ...] = ()
    ready: Ready


def named(workload: str, label: str) -> str:
    """The label of a subject, with the name of its *workload* in front where a scenario has several."""
    return f"{workload}/{label}" if workload else label


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to be measured.

    label: its name in the plan, the records and the report
    runner: the runner that starts it
    options: options of the runner
    payload: what the built-in payload is told to do
    workload: what runs instead of the payload
    memory_bytes: memory that is granted to each instance
    cpus: processors that are granted to each instance
    own: what its experiment added, in the words of the scenario file
    """

    label: str
    runner: str
    options: dict[str, Option] = {}
    payload: Payload = Payload()
    workload: Workload | None = None
    memory_bytes: int
    cpus: int
    own: dict[str, Any] = {}

    @property
    def argv(self) -> tuple[str, ...]:
        """What an instance runs; of a workload, what the scenario says of it."""
        return self.payload.argv if self.workload is None else self.workload.command

    @property
    def base(self) -> str:
        """Its label without the name of its workload."""
        return self.label.removeprefix(named(self.workload.name if self.workload else "", ""))

    def ready(self, run: Timing) -> Ready:
        """When an instance counts as ready: by its workload, or by the payload's mark that *run* names."""
        return Mark(word=run.ready) if self.workload is None else self.workload.ready

    def keys(self, kind: type[_Kind]) -> _Kind:
        """``own``, as the experiment's type of it."""
        return msgspec.convert(self.own, kind)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A validated scenario, ready to be planned.

    name: the name of the file, without its ending
    text: the file as it was read; all else holds what options of the command line replaced, too
    question: the question that the report answers
    experiment: what is done to a subject in a trial
    reference: the label that the others are compared with
    pairs: further pairs of labels to compare
    prices: the names of price books
    run: how often, in which order, from which state
    tables: the experiment's own table by its name, if it has one
    rootfs: the directory of the root filesystem; null for the built-in one
    subjects: what is compared
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

    def reference_of(self, label: str) -> str:
        """What the subject *label* is compared with: the reference, with the same workload where there are several."""
        found = next((one for one in self.subjects if one.label == label), None)
        return named(found.workload.name if found and found.workload else "", self.reference)

    @property
    def references(self) -> frozenset[str]:
        """The labels with which others are compared."""
        return frozenset(self.reference_of(one.label) for one in self.subjects)

    def subject(self, label: str) -> Subject:
        """The subject called *label*. Raises StopIteration where there is none."""
        return next(one for one in self.subjects if one.label == label)
