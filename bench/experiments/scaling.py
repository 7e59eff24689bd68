"""Scale-up and scale-down: instances of one subject are started and kept; at given numbers everything is read."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from tare.bench.errors import Interrupted
from tare.bench.experiments.batch import Attempt, Starter
from tare.bench.experiments.readout import Meter, sample, watch
from tare.bench.experiments.rules import Seen, StackTable, reason
from tare.bench.experiments.settle import settle
from tare.bench.experiments.start import Contract, StartFailed, clock_ns
from tare.bench.experiments.trial import Reading, TrialResult
from tare.bench.host import ksm
from tare.bench.host.interrupts import Interrupts, TrialTimeout
from tare.bench.readings import hostmem
from tare.bench.readings.others import Others
from tare.bench.readings.stalls import MOST_REPEATS, Stalled, Watch
from tare.bench.records.rows import Serves, Stop
from tare.runners.base import Instance, Launch, RunnerError

#: What the kernel says when this host can hold no more of something: processes, descriptors, cgroups, addresses.
_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOSPC, errno.ENOMEM)

#: How many instances are removed at a time.
_REMOVERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """What is asked for: one subject, where to read, and the rules that end it.

    ``unsettled`` instances were removed before, and free memory was not seen to stand still since. ``meter`` is None
    where nobody counts the processor time of what the run starts. With ``descends`` the way down is read, too, at the
    numbers of the way up. Each instance that is ready is asked for ``reclaim_bytes``; ``pause_s`` is
    :attr:`runners.base.Prepared.pause_s`. *watch* tells which steps do not count because this process did not run,
    *others* looks at processes that are not tare's.
    """

    launch: Launch
    memory_bytes: int
    resident_pids: frozenset[int]
    daemon_pids: frozenset[int] = frozenset()
    resident_cgroups: frozenset[Path] = frozenset()
    counts: tuple[int, ...]
    most: int
    rules: StackTable
    unsettled: int = 0
    meter: Meter | None = None
    descends: bool = False
    reclaim_bytes: int = 0
    pause_s: float = 0.0
    watch: Watch = field(default_factory=Watch)
    others: Others = field(default_factory=Others)


def scale(
    ramp: Ramp,
    names: Iterator[str],
    contract: Contract,
    *,
    interrupts: Interrupts,
    alive: Callable[[int], None],
) -> TrialResult:
    """Go up, read, come down again, read what was given back. *alive* is told each number reached.

    Raises Interrupted, after all instances were removed.
    """
    began = clock_ns()
    state = _Scale(ramp, contract, interrupts, alive)
    try:
        with ExitStack() as stack:
            if ramp.rules.ksm:
                stack.enter_context(ksm.merging())
            stack.callback(state.down)
            stopped_by = state.up(names)
            if ramp.descends:
                state.descend()
    except (RunnerError, OSError) as error:
        return TrialResult(status="failed", reason=str(error), at_ns=began, unsettled=state.tried)
    except Stalled as stalled:
        return TrialResult(status="invalid", reason=str(stalled), at_ns=began, readings=tuple(state.readings))
    settled = _settled(state.tried, interrupts)
    # With what was removed before a signal ended the reading of the way down.
    unread_s = state.removing_s - sum(one.values.get("removal_seconds", 0.0) for one in state.readings)
    removed = {"teardown_seconds": state.removing_s, "removal_seconds": unread_s}
    after = state.removal(removed, "after", state.seen.alive)
    failed = state.seen.alive == 0 and state.seen.lost > 0
    return TrialResult(
        status="failed" if failed else "ok",
        reason=state.last_failure if failed else "",
        at_ns=began,
        readings=() if failed else (*state.readings, *after),
        console=state.last_console,
        reached=state.seen.alive,
        lost=state.seen.lost,
        stopped_by=stopped_by,
        warnings=tuple(state.warnings) if settled else (*state.warnings, "memory did not settle after the removal"),
        unsettled=0 if settled else state.tried,
    )


def _settled(removed: int, interrupts: Interrupts) -> bool:
    """Wait for the memory of *removed* instances; a signal ends the wait, but what was read is kept."""
    try:
        return settle(removed, interrupts.check)
    except Interrupted:
        return False


class _Scale:
    """The state of one ramp."""

    def __init__(self, ramp: Ramp, contract: Contract, interrupts: Interrupts, alive: Callable[[int], None]) -> None:
        self.ramp = ramp
        self.contract = contract
        self.interrupts = interrupts
        self.alive = alive
        self.removals: list[ExitStack] = []
        self.instances: list[Instance] = []
        self.readings: list[Reading] = []
        self.warnings: list[str] = []
        self.seen = Seen()
        self.last_failure = ""
        self.last_console = ""
        self.unseen = ""
        self.removing_s = 0.0
        self._broken: list[BaseException] = []
        self._ground: dict[str, float] = {}
        self._read_tried = self._asked = self._excused = 0
        self._stalled = self._ever_stalled = ""
        self._numbers: list[int] = []
        self._swapped = _swapped_in(_text("/proc/vmstat"))

    @property
    def tried(self) -> int:
        """How many instances were started, those that got lost among them."""
        return self.seen.alive + self.seen.lost

    def up(self, names: Iterator[str]) -> Stop:
        """Start until a rule holds; return it."""
        # Before the first reading: what the kernel keeps of the files that are opened here is in that one then.
        self.ramp.others.look(self._ours())
        self._ground = self._read(0)
        self._look(self._ground)
        ramp = self.ramp
        with Starter(ramp.launch, self.contract, self.interrupts, ramp.rules.at_once) as starter:
            while not (stop := reason(ramp.rules, ramp.most, self.seen)):
                begun = ramp.watch.begin()
                attempts = starter.start(list(islice(names, self.seen.starting)))
                stalled = ramp.watch.since(begun)
                broken = [self._note(one, stalled) for one in attempts]
                # After all of them were noted: what runs must be removed, whatever became of the others.
                for error in filter(None, broken):
                    raise error
                self._reclaim()
                self.interrupts.check()
                if self.seen.alive in ramp.counts and self.seen.alive not in self._numbers:
                    self._read(self.seen.alive)
                self._look(hostmem.glance())
        if self.seen.alive not in self._numbers:
            self._read(self.seen.alive)
        return stop

    def _batch(self) -> int:
        """How many to start together: one until it is known what one takes, and never past a number that is read."""
        if not self.seen.alive:
            return 1
        ends = (*self.ramp.counts, self.ramp.most)
        following = min((n for n in ends if n > self.seen.alive), default=self.seen.alive + 1)
        return min(self.ramp.rules.at_once, following - self.seen.alive)

    def descend(self) -> None:
        """Come down to each number that was read, the highest first, and read there what was given back.

        What is left then, and all of it after a signal, is for :meth:`down`.
        """
        for n in sorted((n for n in self._numbers if 0 < n < len(self.removals)), reverse=True):
            moved, before_s = len(self.removals) - n, self.removing_s
            self.down(n)
            try:
                if not settle(moved, self.interrupts.check):
                    self.warnings.append(f"memory did not settle at {n} during the scale-down")
            except Interrupted:
                return
            self.readings += self.removal({"removal_seconds": self.removing_s - before_s}, "down", n)

    def down(self, keep: int = 0) -> None:
        """Remove all but the first *keep*, several at once: most of a removal is waiting.

        Raises the first error of the whole way down, after the last removal.
        """
        leaving, begun = self.removals[keep:], self.ramp.watch.begin()
        began, left = clock_ns(), len(self.removals)
        with ThreadPoolExecutor(_REMOVERS) as pool:
            removals = [pool.submit(one.close) for one in reversed(leaving)]
            for _ in as_completed(removals):
                left -= 1
                self.alive(left)
        # In the order of removal, whichever thread was quicker.
        self._broken += filter(None, (removal.exception() for removal in removals))
        del self.removals[keep:]
        self.removing_s += (clock_ns() - began) / 1e9
        self._stalled = self.ramp.watch.since(begun)
        self._ever_stalled = self._ever_stalled or self._stalled
        if self._broken:
            raise self._broken[0]

    def removal(self, took: dict[str, float], stage: Literal["down", "after"], n: int) -> list[Reading]:
        """What the host has now, and what the removal *took*, which is no figure where this process did not run."""
        stalled = self._ever_stalled if stage == "after" else self._stalled
        if stalled:
            self.warnings.append(f"the removal ({stage}, {n}) is not timed: {stalled}")
        return _timed(took, hostmem.read(), Reading(values={}, n=n, stage=stage), stalled)

    def _note(self, attempt: Attempt, stalled: str) -> Exception | None:
        """Count what was started, or why not; return an error that ends the state.

        Where this process *stalled* meanwhile, a start is not timed, and one that got lost is not counted: another
        takes its place.
        """
        started, error = attempt.started, attempt.error
        if stalled:
            self.warnings.append(f"the start after {self.seen.alive} does not count: {stalled}")
        if isinstance(error, StartFailed) and stalled and self._excused < MOST_REPEATS:
            self._excused += 1
            return None
        if isinstance(error, StartFailed):
            self.seen.lost += 1
            self.last_failure, self.last_console = error.reason, error.console
            return None
        if started is None or error is not None:
            if _errno(error) not in _LIMITS:
                return error
            self.seen.limit = str(error)
            return None
        self.removals.append(attempt.removal)
        self.instances.append(started.instance)
        self.seen.alive += 1
        self.alive(self.seen.alive)
        ready_s = started.since_request_s(self.contract.phase)
        self.seen.latencies_s += [] if stalled else [ready_s]
        # The view from inside is kept at the numbers that are read: of thousands it would be part of what is measured.
        inside = started.inside_bytes if self.seen.alive in self.ramp.counts else {}
        self.readings += _timed({"ready_seconds": ready_s}, inside, Reading(values={}, n=self.seen.alive), stalled)
        if started.unseen and not self.unseen:
            self.unseen = started.unseen
            self.warnings.append(f"the payload could not read its memory: {started.unseen}")
        return None

    def _reclaim(self) -> None:
        """Ask the instances for memory that were not asked yet. Raises RunnerError, OSError or Interrupted."""
        if not self.ramp.reclaim_bytes:
            return
        while self._asked < len(self.instances):
            try:
                with self.interrupts.allowed(timeout_s=self.contract.timeout_s):
                    self.instances[self._asked].reclaim(self.ramp.reclaim_bytes)
            except TrialTimeout:
                why = f"no answer within {self.contract.timeout_s:g} s"
                raise RunnerError("an instance was asked for memory", why) from None
            self._asked += 1

    def _read(self, n: int) -> dict[str, float]:
        """Read everything at *n*, and again where this process stalled meanwhile; return the host's memory.

        Raises Stalled where the ground itself could not be read.
        """
        for left in range(MOST_REPEATS, -1, -1):
            begun = self.ramp.watch.begin()
            found: list[Reading] = []
            with suppress(TrialTimeout):  # the alarm of the window, which only a stall lets go off
                found = self._read_once(n)
            stalled = self.ramp.watch.since(begun) or ("" if found else "it took too long")
            self.readings += [replace(one, invalid=stalled) for one in found] if stalled else found
            if stalled:
                self.warnings.append(f"a reading at {n} does not count: {stalled}")
            if not stalled or (n and found and not left):
                self._numbers.append(n)
                return found[0].values
        raise Stalled(self.warnings[-1])

    def _read_once(self, n: int) -> list[Reading]:
        """Once the memory stands still: watch the host for a while, then read everything at once, the host first."""
        if self.ramp.rules.ksm and not ksm.settle(self.interrupts):
            self.warnings.append(f"samepage merging did not settle at {n}")
        moved = self.tried - self._read_tried if n else self.ramp.unsettled
        if not settle(moved, self.interrupts.check, pause_s=self.ramp.pause_s if n else 0.0):
            self.warnings.append(f"memory did not settle at {n}")
        self._read_tried = self.tried
        watched = watch(
            self.ramp.rules.window_s,
            self.interrupts,
            self.instances,
            self.ramp.meter,
            self.ramp.daemon_pids,
            self.ramp.resident_cgroups,
        )
        if "host_busy_ratio" in watched:
            self.seen.idle_percent = 100 * (1 - watched["host_busy_ratio"])
        serving: dict[Serves, frozenset[int]] = {"resident": self.ramp.resident_pids, "daemon": self.ramp.daemon_pids}
        found = sample(n, self.instances, serving, self.ramp.memory_bytes)
        self.ramp.others.look(self._ours())
        return [*found, Reading(values=watched, n=n)] if watched else found

    def _ours(self) -> frozenset[int]:
        """The processes of the instances, and those that serve them."""
        of_instances = (instance.pids() for instance in self.instances)
        return frozenset[int]().union(self.ramp.resident_pids, self.ramp.daemon_pids, *of_instances)

    def _look(self, host: dict[str, float]) -> None:
        seen, ground = self.seen, self._ground
        seen.starting = self._batch()
        seen.total_bytes, seen.available_bytes = host["host_total_bytes"], host["host_available_bytes"]
        seen.used_bytes = ground["host_available_bytes"] - host["host_available_bytes"]
        seen.pressure_percent = _full_pressure_percent(_text("/proc/pressure/memory"))
        seen.swapped_in = _swapped_in(_text("/proc/vmstat")) - self._swapped


def _timed(times: dict[str, float], rest: dict[str, float], at: Reading, stalled: str) -> list[Reading]:
    """*times* and *rest*, both read *at* one place; apart where the times are invalid and the rest is not."""
    whole = [replace(at, values={**times, **rest})]
    return [replace(at, values=times, invalid=stalled), replace(at, values=rest)] if stalled else whole


def _errno(error: BaseException | None) -> int | None:
    """The error number of *error* or of what caused it: runners wrap the kernel's answer in their words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno
        cause = cause.__cause__
    return None


def _full_pressure_percent(pressure: str) -> float:
    """``full avg10=`` of a PSI file (Documentation/accounting/psi.rst); 0 where the kernel keeps none."""
    for line in pressure.splitlines():
        if line.startswith("full "):
            return float(line.split()[1].partition("=")[2])
    return 0.0


def _swapped_in(vmstat: str) -> int:
    for line in vmstat.splitlines():
        if line.startswith("pswpin "):
            return int(line.split()[1])
    return 0


def _text(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""
