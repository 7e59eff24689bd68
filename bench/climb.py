"""An ascent: instances of one subject are started one after another and stay; at given numbers everything is read.

The trial of the probes ``memory`` (read the ledger at few instances) and ``density`` (go on until a rule says stop).
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.interrupts import Interrupts
from bench.probes import hostmem, memory
from bench.reading import Reading, Weighing
from bench.scenario_file import StackTable
from bench.settle import settle
from bench.start import Contract, StartFailed, clock_ns, start
from bench.stop import Seen, reason
from runners.base import Instance, Launch, RunnerError
from runners.container import cgroups

#: What the kernel says when this host can hold no more of something: processes, descriptors, cgroups, addresses.
_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOSPC, errno.ENOMEM)


#: How many instances are removed at a time.
_REMOVERS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Mountain:
    """What is climbed: one subject, where to read, and the rules that end it."""

    launch: Launch
    memory_bytes: int
    resident_pids: frozenset[int]
    counts: tuple[int, ...]
    most: int
    rules: StackTable


def climb(
    mountain: Mountain,
    names: Iterator[str],
    contract: Contract,
    *,
    interrupts: Interrupts,
    alive: Callable[[int], None],
) -> Weighing:
    """Climb, read, come down again, read what was given back. *alive* is told each number reached.

    Raises Interrupted, after all instances were removed.
    """
    began = clock_ns()
    try:
        with ExitStack() as stack:
            ascent = _Ascent(mountain, contract, interrupts, alive)
            stack.callback(ascent.down)
            stopped_by = ascent.up(names)
            descent = clock_ns()
        down_s = (clock_ns() - descent) / 1e9
    except (RunnerError, OSError) as error:
        return Weighing(status="failed", reason=str(error), at_ns=began)
    settled = settle()
    after = Reading(values={**hostmem.read(), "teardown_seconds": down_s}, n=ascent.seen.alive, stage="after")
    failed = ascent.seen.alive == 0 and ascent.seen.lost > 0
    return Weighing(
        status="failed" if failed else "ok",
        reason=ascent.last_failure if failed else "",
        at_ns=began,
        readings=() if failed else (*ascent.readings, after),
        console=ascent.last_console,
        reached=ascent.seen.alive,
        lost=ascent.seen.lost,
        stopped_by=stopped_by,
        warnings=tuple(ascent.warnings) if settled else (*ascent.warnings, "memory did not settle after the removal"),
    )


class _Ascent:
    """The state of one climb."""

    def __init__(
        self, mountain: Mountain, contract: Contract, interrupts: Interrupts, alive: Callable[[int], None]
    ) -> None:
        self.mountain = mountain
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
        self._ground: dict[str, float] = {}
        self._read_at = -1
        self._swapped = _swapped_in(_text("/proc/vmstat"))

    def up(self, names: Iterator[str]) -> str:
        """Start until a rule holds; return it."""
        self._read(0)
        self._ground = self.readings[0].values
        self._look(self._ground)
        for name in names:
            if stop := reason(self.mountain.rules, self.mountain.most, self.seen):
                if self._read_at != self.seen.alive:
                    self._read(self.seen.alive)
                return stop
            if self._one(name):
                self.alive(self.seen.alive)
                if self.seen.alive in self.mountain.counts:
                    self._read(self.seen.alive)
            self._look(hostmem.glance())
        raise AssertionError("names never end")

    def down(self) -> None:
        """Remove all, several at once: most of a removal is waiting. Raises the first error, after the last removal."""
        errors: list[BaseException] = []
        with ThreadPoolExecutor(_REMOVERS) as pool:
            left = len(self.removals)
            for done in as_completed([pool.submit(one.close) for one in reversed(self.removals)]):
                left -= 1
                self.alive(left)
                if error := done.exception():
                    errors.append(error)
        self.removals.clear()
        if errors:
            raise errors[0]

    def _one(self, name: str) -> bool:
        with ExitStack() as own:
            try:
                started = start(own, self.mountain.launch, name, self.contract, interrupts=self.interrupts)
            except StartFailed as failure:
                self.seen.lost += 1
                self.last_failure, self.last_console = failure.reason, failure.console
                return False
            except (RunnerError, OSError) as error:
                number = _errno(error)
                if number not in _LIMITS:
                    raise
                self.seen.limit = str(error)
                return False
            self.removals.append(own.pop_all())
        self.instances.append(started.instance)
        self.seen.alive += 1
        ready_s = started.since_request_s(self.contract.ready)
        self.seen.latencies_s.append(ready_s)
        self.readings.append(Reading(values={"ready_seconds": ready_s}, n=self.seen.alive))
        return True

    def _read(self, n: int) -> None:
        """Everything at once, once the memory stands still; the host first: reading processes allocates a little."""
        if not settle():
            self.warnings.append(f"memory did not settle at {n}")
        self._read_at = n
        self.readings.append(Reading(values=hostmem.read(), n=n))
        pids = frozenset().union(*(instance.pids() for instance in self.instances)) if self.instances else frozenset()
        for role, values in memory.by_role(pids).items():
            self.readings.append(Reading(values=values, n=n, role=role))
        for role, values in memory.by_role(self.mountain.resident_pids).items():
            self.readings.append(Reading(values=values, n=n, role=f"{role} (resident)"))
        if charged := self._charged():
            self.readings.append(Reading(values=charged, n=n))
        ram = [memory.guest_ram_bytes(pid, self.mountain.memory_bytes) for pid in pids] if self._is_vm(pids) else []
        if any(ram):
            self.readings.append(Reading(values={"guest_ram_bytes": float(sum(filter(None, ram)))}, n=n))

    def _is_vm(self, pids: frozenset[int]) -> bool:
        """Only an emulator has the guest's memory as a mapping; smaps of a thousand small processes is not read."""
        return any("qemu" in _text(f"/proc/{pid}/comm") or "kvm" in _text(f"/proc/{pid}/comm") for pid in pids)

    def _charged(self) -> dict[str, float]:
        """What the instances' memory cgroups are charged with, summed."""
        sums: dict[str, float] = {}
        for instance in self.instances:
            directory = _memory_cgroup(instance.cgroup)
            for metric, value in (memory.cgroup(directory) if directory else {}).items():
                sums[metric] = sums.get(metric, 0.0) + value
        return sums

    def _look(self, host: dict[str, float]) -> None:
        seen, ground = self.seen, self._ground
        seen.total_bytes, seen.available_bytes = host["host_total_bytes"], host["host_available_bytes"]
        seen.used_bytes = ground["host_available_bytes"] - host["host_available_bytes"]
        seen.pressure_percent = _full_pressure_percent(_text("/proc/pressure/memory"))
        seen.swapped_in = _swapped_in(_text("/proc/vmstat")) - self._swapped


def _memory_cgroup(directory: Path | None) -> Path | None:
    """The memory cgroup of an instance whose cpuacct (v1) or unified (v2) cgroup is *directory*."""
    if directory is None:
        return None
    where = cgroups.layout()
    if "memory" not in where.v1:
        return directory
    for mount in filter(None, (where.v1.get("cpuacct"), where.v2)):
        if directory.is_relative_to(mount):
            found = Path(where.v1["memory"], directory.relative_to(mount))
            return found if found.is_dir() else None
    return None


def _errno(error: BaseException) -> int | None:
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
