"""``memory`` and ``density``: instances of one subject are started and kept, and read at given numbers.

``memory`` reads the account at few instances; ``density`` goes on until a rule says stop, and comes down by steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Annotated

import msgspec
from msgspec import Meta

from tare.bench.experiments.base import Experiment, Session
from tare.bench.experiments.prepare import Ready
from tare.bench.experiments.rules import Counts, StackTable
from tare.bench.experiments.scaling import Ramp, scale
from tare.bench.experiments.trial import Reading, TrialResult
from tare.bench.host import ksm, workspace
from tare.bench.readings import cgroup, guest, hostload, hostmem, processes
from tare.bench.records.metrics import METRICS
from tare.bench.records.resolved import Scenario, Subject
from tare.bench.scenario.design import Refusal, Table
from tare.bench.scenario.file import Touched
from tare.bench.scenario.plan import Effort

_METRICS = (
    "ready_seconds",
    *(*hostmem.FIELDS, hostmem.PERCPU_LISTS, hostmem.DEFERRED_SPLITS, "host_ksm_sharing_bytes"),
    *(*processes.FIELDS, "processes_count", "guest_ram_bytes"),
    *("cgroup_current_bytes", "cgroup_peak_bytes", *cgroup.FIELDS),
    *guest.FIELDS.values(),
    *("window_seconds", "window_cpu_seconds", "daemon_window_cpu_seconds", "host_busy_ratio", *hostload.PRESSURES),
    *("sampling_seconds", "sampling_bytes", "removal_seconds", "teardown_seconds"),
)


class Keys(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a subject may set for itself: where to read, how many at most, what each is asked for.

    counts: as in ``[stack]``, for this subject alone
    most: as in ``[stack]``, for this subject alone
    reclaim_mib: as in ``[stack]``, for this subject alone
    """

    counts: Counts | None = None
    most: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    reclaim_mib: Touched | None = None


class RampSubject(msgspec.Struct, frozen=True, kw_only=True):
    """How the ramps of one subject go.

    counts: the numbers of living instances at which everything is read
    most: so many instances at most
    reclaim_bytes: how much of its memory each instance is asked for
    """

    counts: tuple[int, ...]
    most: int
    reclaim_bytes: int = 0


class Ramps(Experiment):
    """Both experiments: they differ in whether the way down is read, too."""

    table = "stack"
    table_type = StackTable
    keys_type = Keys
    own_type = RampSubject
    exclusive = frozenset(("ksm", "reclaim_mib"))
    tells_memory = True
    keeps = True
    noun = "ramp"
    spots_stalls = True
    precise = "margin_bytes"
    metrics = tuple(METRICS[name] for name in _METRICS)

    def __init__(self, name: str, section: str, *, descends: bool) -> None:
        self.name = name
        self.section = section
        self._descends = descends

    def check(self, table: StackTable) -> None:
        """Refuse a rule that nothing would be read for."""
        if table.cpu_floor_percent and not table.window_s:
            why = "stack.cpu_floor_percent needs the window before a reading, and stack.window_s = 0 leaves it out"
            raise Refusal(why, "set window_s above 0, or leave cpu_floor_percent out")

    def own(self, table: StackTable, keys: Keys, memory_bytes: int) -> RampSubject:
        """Where to read, how many at most, and what each is asked for."""
        counts = table.counts if keys.counts is None else keys.counts
        if not counts:
            raise Refusal("counts is empty", "name at least one number of instances")
        reclaim_mib = table.reclaim_mib if keys.reclaim_mib is None else keys.reclaim_mib
        if reclaim_mib << 20 >= memory_bytes:
            why = f"the host asks it for {reclaim_mib} of its {memory_bytes >> 20} MiB"
            raise Refusal(why, "reclaim_mib must be below memory_mib")
        most = keys.most or table.most or max(counts)
        return RampSubject(counts=tuple(sorted(set(counts))), most=most, reclaim_bytes=reclaim_mib << 20)

    def require(self, scenario: Scenario) -> None:
        """Samepage merging must be there if it is asked for."""
        if scenario.table(StackTable).ksm:
            ksm.require()

    def effort(self, scenario: Scenario, subject: Subject) -> Effort:
        """All instances, and a window before the first start, at each count, and on top."""
        own = subject.keys(RampSubject)
        windows = 1 + len({n for n in own.counts if n < own.most} | {own.most})
        return Effort(starts=own.most, besides_s=scenario.table(StackTable).window_s * windows)

    def figure_of(self, readings: Sequence[Reading]) -> float | None:
        """The marginal cost of one ramp: the median slope between all readings above one (Theil and Sen).

        As reports/sections/ramp/memory/slopes.py fits it; a test holds both against each other.
        """
        free = {one.n: hostmem.unused_bytes(one.values) for one in readings if _of_host(one)}
        points = sorted((n, -left) for n, left in free.items() if n > 1)
        slopes = [(z - y) / (m - n) for (n, y), (m, z) in itertools.combinations(points, 2)]
        return median(slopes) if slopes and 0 in free else None

    def reclaims(self, subject: Subject) -> int:
        """As the scenario says."""
        return subject.keys(RampSubject).reclaim_bytes

    @contextmanager
    def around(self, session: Session) -> Iterator[None]:
        """Many open files, and a ceiling for all instances together."""
        with many_instances(session, session.scenario.table(StackTable).floor_percent):
            yield

    def trial(self, session: Session, ready: Ready, name: str) -> TrialResult:
        """One ramp."""
        own = ready.subject.keys(RampSubject)
        ramp = Ramp(
            launch=ready.prepared.launch,
            memory_bytes=ready.prepared.guest_bytes or ready.subject.memory_bytes,
            resident_pids=ready.prepared.resident_pids,
            daemon_pids=ready.prepared.daemon_pids,
            resident_cgroups=ready.prepared.resident_cgroups,
            counts=own.counts,
            most=own.most,
            reclaim_bytes=own.reclaim_bytes,
            pause_s=ready.prepared.pause_s,
            rules=session.scenario.table(StackTable),
            unsettled=session.unsettled,
            meter=session.run_cgroup.meter if session.run_cgroup else None,
            descends=self._descends,
            watch=session.watch,
            others=session.others,
        )
        names = (f"{name}-{number}" for number in itertools.count(1))
        contract = session.contract(ready.subject)
        found = scale(ramp, names, contract, interrupts=session.interrupts, alive=session.alive)
        session.unsettled = found.unsettled
        return found


def _of_host(one: Reading) -> bool:
    """Whether it is a reading of the host's memory on the way up that counts."""
    return hostmem.PERCPU_LISTS in one.values and not (one.stage or one.role or one.invalid)


@contextmanager
def many_instances(session: Session, floor_percent: float) -> Iterator[None]:
    """Inside, many files may be open, and all instances together may take what is above the floor of memory."""
    with workspace.many_open_files():
        if session.run_cgroup:
            session.run_cgroup.ceiling(round(session.host_bytes * (1 - floor_percent / 100)))
        yield


MEMORY = Ramps("memory", "tare.reports.sections.ramp.section:MEMORY", descends=False)
DENSITY = Ramps("density", "tare.reports.sections.ramp.section:DENSITY", descends=True)
