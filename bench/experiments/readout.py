"""What is read at one number of instances: how busy the host is while they idle, then all memory at once.

The host is read first, since reading processes allocates a little: the kernel keeps a name and an inode for each file
of /proc and of a cgroup that was opened. It is read again at the end, and what went meanwhile is a figure of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tare.bench.experiments.start import clock_ns
from tare.bench.experiments.trial import Reading
from tare.bench.host.interrupts import Interrupts
from tare.bench.readings import cgroup, hostload, hostmem, processes
from tare.bench.records.rows import Serves
from tare.runners.base import Instance
from tare.runners.container.cgroup import cgroups

#: Beyond its length, how long a window may last before it counts as hanging.
_GRACE_S = 60.0

#: From the instances' cgroups to what reads, in ns, the processor time of all that the run started
#: (:meth:`bench.host.run_cgroup.RunCgroup.meter`).
Meter = Callable[[Iterable[Path | None]], Callable[[], int]]


def watch(
    window_s: float,
    interrupts: Interrupts,
    instances: Sequence[Instance],
    meter: Meter | None,
    daemon_pids: frozenset[int] = frozenset(),
    resident: frozenset[Path] = frozenset(),
) -> dict[str, float]:
    """Let *window_s* pass and see what the host and *instances* did in it; nothing for 0. Raises Interrupted.

    *resident* are the cgroups of what serves all of them. The processor time of the run is left out without a *meter*,
    and where an instance's cgroup went meanwhile: what that one had used went with it.
    """
    if not window_s:
        return {}
    used_ns = meter([*(instance.cgroup for instance in instances), *resident]) if meter else None
    used_before_ns = _unless_gone(used_ns)
    daemon_before_ns = processes.cpu_ns(daemon_pids)
    began, before = clock_ns(), hostload.read()
    with interrupts.allowed(timeout_s=window_s + _GRACE_S):
        time.sleep(window_s)
    took_s = (clock_ns() - began) / 1e9
    found = {"window_seconds": took_s, **hostload.difference(before, hostload.read(), took_s)}
    used_after_ns = _unless_gone(used_ns)
    if used_before_ns is not None and used_after_ns is not None:
        found["window_cpu_seconds"] = (used_after_ns - used_before_ns) / 1e9
    if daemon_pids:
        found["daemon_window_cpu_seconds"] = max(0, processes.cpu_ns(daemon_pids) - daemon_before_ns) / 1e9
    return found


def _unless_gone(read_ns: Callable[[], int] | None) -> int | None:
    """What *read_ns* says; None where there is nothing to read, or a cgroup went."""
    with suppress(FileNotFoundError):
        return read_ns() if read_ns else None
    return None


def sample(
    n: int, instances: Sequence[Instance], serving: Mapping[Serves, frozenset[int]], granted_bytes: int
) -> list[Reading]:
    """Everything, at *n* instances alive.

    *serving* are processes that serve all instances, by what they do for them. *granted_bytes* is the
    memory of a guest, by which it is found among the mappings of its emulator.
    """
    began, before = clock_ns(), hostmem.read()
    readings = [Reading(values=before, n=n)]
    pids = frozenset[int]().union(*(instance.pids() for instance in instances))
    own = processes.by_role(pids)
    readings += [Reading(values=values, n=n, role=role) for role, values in own.items()]
    for what, theirs in serving.items():
        with suppress(PermissionError):  # another user's daemon: it has no figures then
            roles = processes.by_role(theirs)
            readings += [Reading(values=values, n=n, role=role, serves=what) for role, values in roles.items()]
    if charged := _charged(instances):
        readings.append(Reading(values=charged, n=n))
    # Only an emulator has a guest's memory as a mapping: smaps of a thousand small processes is not read.
    if any("qemu" in role or "kvm" in role for role in own):
        ram = [size for pid in pids if (size := processes.guest_ram_bytes(pid, granted_bytes)) is not None]
        readings += [Reading(values={"guest_ram_bytes": float(sum(ram))}, n=n)] if ram else []
    after = hostmem.read()
    taken = hostmem.unused_bytes(before) - hostmem.unused_bytes(after)
    took_s = (clock_ns() - began) / 1e9
    readings.append(Reading(values={"sampling_seconds": took_s, "sampling_bytes": taken}, n=n))
    return readings


def _charged(instances: Sequence[Instance]) -> dict[str, float]:
    """What the instances' memory cgroups are charged with, summed."""
    where = cgroups.layout()
    own = dict.fromkeys(instance.cgroup for instance in instances)  # that of a machine is of all that are in it
    directories = [found for one in own if (found := cgroup.memory_cgroup(one, where))]
    files: Mapping[str, str] = {}
    sums: dict[str, float] = {}
    for directory in directories:
        with suppress(FileNotFoundError):  # it died: its processes are not counted either
            files = files or cgroup.counters(directory)
            for metric, value in cgroup.charged(directory, files).items():
                sums[metric] = sums.get(metric, 0.0) + value
    return sums
