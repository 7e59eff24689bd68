"""From a planned trial to its readings: which of the trials a scenario's probe means."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import msgspec

from tare.bench.experiments import least_memory, prepare, ramp, startup
from tare.bench.experiments.prepare import Place, Ready
from tare.bench.experiments.start import Contract
from tare.bench.experiments.trial import Weighing
from tare.bench.host.interrupts import Interrupts
from tare.bench.host.run_cgroup import Pan
from tare.bench.readings.stalls import Watch
from tare.bench.scenario.resolve import ASCENTS, Scenario
from tare.runners.base import RunnerError


@dataclass(slots=True, kw_only=True)
class Prober:
    """What all trials of a run share, and what one leaves for the next: ``unsettled`` (:class:`climb.Mountain`)."""

    scenario: Scenario
    place: Place
    pan: Pan | None
    interrupts: Interrupts
    alive: Callable[[int], None]
    watch: Watch
    unsettled: int = 0

    def weigh(self, ready: Ready, name: str) -> Weighing:
        """Run one trial; everything that it makes has a name that begins with *name*. Raises Interrupted.

        A trial in which this process did not run is invalid, however it ended. An ascent is not thrown away for that if
        it ended well: it knows itself which of its steps are spoilt.
        """
        begun = self.watch.begin()
        found = self._weigh(ready, name)
        stalled = self.watch.since(begun)
        if not stalled or (found.status == "ok" and self.scenario.probe in ASCENTS):
            return found
        ended = f"; it ended so: {found.reason}" if found.reason else ""
        return replace(found, status="invalid", reason=stalled + ended)

    def _weigh(self, ready: Ready, name: str) -> Weighing:
        if self.scenario.probe == "startup":
            cpu_ns = self.pan.cpu_ns if self.pan else None
            return startup.weigh(
                ready.prepared.launch, name, self._contract(), interrupts=self.interrupts, cpu_ns=cpu_ns
            )
        if self.scenario.probe == "least-memory":
            return self._least(ready, name)
        return self._climb(ready, name)

    def _contract(self) -> Contract:
        return Contract(ready=self.scenario.run.ready, timeout_s=self.scenario.run.timeout_s)

    def _climb(self, ready: Ready, name: str) -> Weighing:
        mountain = ramp.Mountain(
            launch=ready.prepared.launch,
            memory_bytes=ready.subject.memory_bytes,
            resident_pids=ready.prepared.resident_pids,
            daemon_pids=ready.prepared.daemon_pids,
            counts=ready.subject.counts,
            most=ready.subject.most,
            reclaim_bytes=ready.subject.reclaim_bytes,
            pause_s=ready.prepared.pause_s,
            rules=self.scenario.stack,
            unsettled=self.unsettled,
            meter=self.pan.meter if self.pan else None,
            descends=self.scenario.probe == "density",
            watch=self.watch,
        )
        names = (f"{name}-{number}" for number in itertools.count(1))
        found = ramp.climb(mountain, names, self._contract(), interrupts=self.interrupts, alive=self.alive)
        self.unsettled = found.unsettled
        return found

    def _least(self, ready: Ready, name: str) -> Weighing:
        """Each attempt is prepared anew, since the grant is part of the preparation."""
        numbers = itertools.count(1)

        def attempt(memory_bytes: int) -> str:
            self.interrupts.check()
            own = f"{name}-{next(numbers)}"
            granted = msgspec.structs.replace(ready.subject, memory_bytes=memory_bytes)
            with ExitStack() as helpers:
                try:
                    folder = own.removeprefix(f"{self.place.prefix}-")
                    prepared = prepare.prepare(granted, self.scenario.rootfs, self.place, folder, helpers)
                except (RunnerError, OSError) as error:
                    return str(error)
                tried = startup.weigh(prepared.launch, own, self._contract(), interrupts=self.interrupts, cpu_ns=None)
            return "" if tried.status == "ok" else tried.reason

        table = self.scenario.least
        bounds = least_memory.Bounds(low=table.low_kib << 10, high=table.high_mib << 20, step=ready.subject.step_bytes)
        return least_memory.least(attempt, bounds)
