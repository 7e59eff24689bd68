"""What is written into the files of a cgroup, of version 1 or 2, for :class:`resources.Resources`.

Sources: cgroup-v1/{memory,pids,cpusets,hugetlb,net_cls,net_prio,rdma}.rst, cgroup-v2.rst, sched-bwc.rst.
"""

from __future__ import annotations

import os

from ..light.dataclasses import record
from ..linux.files import read
from ..reader import BundleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .cgroups import V1, V2
    from .resources import Cpu, Memory, Resources

#: A value that v1 reads as "no limit" (memory.rst).
_NO_LIMIT = -1
#: CFS shares 2..262144 become v2's weights 1..10000 on a straight line, as in crun and runc.
_SHARES_LOW, _SHARES_HIGH = 2, 262_144
_NO_BURST_V1 = ("cpu.burst", "cpu.cfs_burst_us", 0)


@record
class Write:
    """*text* for the kernel file *path*, because of *where* in the configuration."""

    where: str
    path: str
    text: str


@record
class Pair:
    """Two writes: the kernel checks each against the present value of the other file.

    *reset* are writes after which it accepts both, in this order; see :func:`apply.pair`.
    """

    first: Write
    second: Write
    reset: tuple[Write, ...] = ()


def plain(parts: tuple[Write | Pair, ...]) -> tuple[Write, ...]:
    """All writes of *parts*, in order."""
    found: list[Write] = []
    for each in parts:
        found += (each.first, each.second) if isinstance(each, Pair) else (each,)
    return tuple(found)


def writes(resources: Resources, group: V1 | V2, warn: Callable[[str], None]) -> tuple[Write | Pair, ...]:
    """What is to be written, in order. *warn* gets a line for what this cgroup version ignores.

    Raises BundleError for what it cannot do, and OSError.
    """
    target = _V2(group, warn) if group.version == 2 else _V1(group, warn)
    memory, cpu = resources.memory, resources.cpu
    found = [*target.memory(memory), *target.cpu(cpu)]
    for key, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if text:
            found.append(target.put(f"cpu.{key}", f"cpuset.{key}", text))
    if resources.pids:
        found.append(target.put("pids.limit", "pids.max", resources.pids if resources.pids > 0 else "max"))
    for size, limit in resources.huge_pages:
        for name in (f"hugetlb.{size}", f"hugetlb.{size}.rsvd"):  # as runc: reserved pages, too (Linux 5.7)
            each = target.put("hugepageLimits", f"{name}.{target.hugetlb}", limit)
            if not name.endswith(".rsvd") or os.path.exists(each.path):
                found.append(each)
    if resources.block_io is not None:
        from .blockio import writes as block_io_writes  # imported late: few configurations ask for it

        for key, file, text in block_io_writes(resources.block_io, group):
            found.append(target.put(f"blockIO.{key}", file, text))
    for device, words in resources.rdma:
        found.append(target.put(f"rdma.{device}", "rdma.max", f"{device} {words}"))
    return (*found, *target.others(resources))


class _V1:
    """The files of version 1. Each method returns the writes for a section of the configuration."""

    hugetlb = "limit_in_bytes"

    def __init__(self, group: V1 | V2, warn: Callable[[str], None]) -> None:
        self.group = group
        self.warn = warn

    def put(self, key: str, file: str, text: object) -> Write:
        """*text* for *file*, whose controller its name begins with."""
        controller = file.partition(".")[0]
        try:
            return Write(where(key), self.group.file(controller, file), str(text))
        except FileNotFoundError:
            why = f"cannot be done: no cgroup v1 hierarchy of {controller} is mounted"
            raise BundleError(where(key), why, "leave it out") from None

    def both(self, first: Write | None, second: Write | None, *resets: tuple[str, str, object]) -> list[Write | Pair]:
        """A pair, or the one of it that is asked for; *resets* are as for :meth:`put`."""
        if first and second:
            return [Pair(first, second, tuple(self.put(*each) for each in resets))]
        return [each for each in (first, second) if each]

    def weight(self, asked: Cpu, file: str, value: int) -> list[Write | Pair]:
        """Weight and idle: an idle cgroup takes no weight (kernel/sched/fair.c, sched_group_set_shares)."""
        weight = self.put("cpu.shares", file, value) if value else None
        idle = None if asked.idle is None else self.put("cpu.idle", "cpu.idle", asked.idle)
        if asked.idle == 0:
            return [each for each in (idle, weight) if each]
        return self.both(weight, idle, ("cpu.idle", "cpu.idle", 0))

    def memory(self, asked: Memory) -> list[Write | Pair]:
        found: list[Write | Pair] = []
        both = {
            key: self.put(f"memory.{key}", f"memory.{file}", value)
            for key, file, value in (
                ("limit", "limit_in_bytes", asked.limit_bytes),
                ("swap", "memsw.limit_in_bytes", swap_of(asked)),
            )
            if value
        }
        if "swap" in both and not countable(both["swap"], asked, self.warn):
            del both["swap"]
        # Memory and swap together may not be below memory at any moment (memory.rst, 2.4).
        found += (Pair(both["limit"], both["swap"]),) if len(both) == 2 else both.values()
        if asked.reservation_bytes:
            found.append(self.put("memory.reservation", "memory.soft_limit_in_bytes", asked.reservation_bytes))
        if asked.kernel_tcp_bytes:
            each = self.put("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", asked.kernel_tcp_bytes)
            if os.path.exists(each.path):
                found.append(each)
            else:
                self.warn(f"{each.where}: ignored: this kernel has no {each.path}")
        if asked.swappiness is not None:
            found.append(self.put("memory.swappiness", "memory.swappiness", asked.swappiness))
        if asked.disable_oom_killer:
            found.append(self.put("memory.disableOOMKiller", "memory.oom_control", 1))
        return found

    def cpu(self, asked: Cpu) -> list[Write | Pair]:
        found = self.weight(asked, "cpu.shares", asked.shares)
        period = self.put("cpu.period", "cpu.cfs_period_us", asked.period_us) if asked.period_us else None
        quota = self.put("cpu.quota", "cpu.cfs_quota_us", asked.quota_us) if asked.quota_us else None
        burst = None if asked.burst_us is None else self.put("cpu.burst", "cpu.cfs_burst_us", asked.burst_us)
        # Below a limited cgroup, their ratio may not exceed that one's at any moment; and burst may not exceed quota.
        if quota and period:
            resets = (("cpu.quota", "cpu.cfs_quota_us", _NO_LIMIT), *((_NO_BURST_V1,) if burst else ()))
            found += self.both(period, quota, *resets)
            found += (burst,) if burst else ()
        else:
            found += self.both(quota or period, burst, _NO_BURST_V1)
        rt_period, rt_runtime = asked.realtime_period_us, asked.realtime_runtime_us
        return found + self.both(
            self.put("cpu.realtimePeriod", "cpu.rt_period_us", rt_period) if rt_period else None,
            self.put("cpu.realtimeRuntime", "cpu.rt_runtime_us", rt_runtime) if rt_runtime else None,
            ("cpu.realtimeRuntime", "cpu.rt_runtime_us", 0),
        )

    def others(self, asked: Resources) -> list[Write | Pair]:
        found: list[Write | Pair] = []
        if asked.class_id:
            found.append(self.put("network.classID", "net_cls.classid", asked.class_id))
        for interface, priority in asked.priorities:
            found.append(self.put("network.priorities", "net_prio.ifpriomap", f"{interface} {priority}"))
        if asked.unified:
            why = "invalid configuration: it is for cgroup v2, and this host uses v1"
            raise BundleError(where("unified"), why, "use memory, cpu, pids, blockIO")
        return found


class _V2(_V1):
    """The files of version 2."""

    hugetlb = "max"

    def memory(self, asked: Memory) -> list[Write | Pair]:
        found: list[Write | Pair] = []
        swap = swap_of(asked)
        if swap:
            # v2 counts swap alone. It comes before the limit of memory, at which the kernel swaps out what is above it.
            limit = asked.limit_bytes or (present(self.group, "memory.max") if swap > 0 else 0)
            each = self.put("memory.swap", "memory.swap.max", "max" if swap == _NO_LIMIT else swap - limit)
            if countable(each, asked, self.warn):
                found.append(each)
        for key, file, value in (
            ("limit", "memory.max", asked.limit_bytes),
            ("reservation", "memory.low", asked.reservation_bytes),
        ):
            if value:
                found.append(self.put(f"memory.{key}", file, "max" if value == _NO_LIMIT else value))
        for key, given in (
            ("kernelTCP", asked.kernel_tcp_bytes),
            ("swappiness", asked.swappiness is not None),
            ("disableOOMKiller", asked.disable_oom_killer),
        ):
            if given:
                self._impossible(f"memory.{key}")
        return found

    def _impossible(self, key: str) -> None:
        """By the specification, what cannot be converted is an error ("Unified"); crun does so, runc ignores it."""
        raise BundleError(where(key), "has no counterpart in cgroup v2", "leave it out")

    def cpu(self, asked: Cpu) -> list[Write | Pair]:
        if asked.realtime_runtime_us or asked.realtime_period_us:
            self._impossible("cpu.realtimeRuntime" if asked.realtime_runtime_us else "cpu.realtimePeriod")
        found = self.weight(asked, "cpu.weight", weight_of_shares(asked.shares) if asked.shares else 0)
        limit = None
        if asked.quota_us or asked.period_us:
            # The one that is not asked for stays: the kernel keeps the period, and the quota is written again.
            words = "max" if asked.quota_us < 0 else str(asked.quota_us)
            if not asked.quota_us:
                words = read(self.group.file("cpu", "cpu.max")).split()[0]
            if asked.period_us:
                words += f" {asked.period_us}"
            limit = self.put("cpu.quota" if asked.quota_us else "cpu.period", "cpu.max", words)
        burst = None if asked.burst_us is None else self.put("cpu.burst", "cpu.max.burst", asked.burst_us)
        return found + self.both(limit, burst, ("cpu.burst", "cpu.max.burst", 0))

    def others(self, asked: Resources) -> list[Write | Pair]:
        if asked.class_id or asked.priorities:
            self._impossible("network.classID" if asked.class_id else "network.priorities")
        # Last, because a file of cgroup v2 that is named itself counts more than a translation. A file accepts one line
        # at a time.
        return [
            self.put(f"unified.{name}", name, line) for name, text in asked.unified for line in text.split("\n") if line
        ]


def where(key: str) -> str:
    """The place of *key* in the configuration."""
    return f"linux.resources.{key}"


def swap_of(asked: Memory) -> int:
    """The asked limit of memory and swap together; if memory has no limit, both together have none, as in runc."""
    return asked.swap_bytes or (_NO_LIMIT if asked.limit_bytes == _NO_LIMIT else 0)


def countable(each: Write, asked: Memory, warn: Callable[[str], None]) -> bool:
    """Whether the limit of swap is written: not if the kernel counts no swap, and the host has none.

    A kernel that counts no swap although there is some refuses it: the write reports that.
    """
    if os.path.exists(each.path):
        return True
    if asked.swap_bytes and _swaps():
        return True
    if asked.swap_bytes > 0:
        warn(f"{each.where}: ignored: this kernel counts no swap, and there is none")
    return False


def _swaps() -> bool:
    try:
        return len(read("/proc/swaps").splitlines()) > 1  # the first is a heading
    except FileNotFoundError:  # a kernel without CONFIG_SWAP
        return False


def present(group: V1 | V2, file: str) -> int:
    """The limit of memory that the file holds now; -1 for none."""
    text = read(group.file("memory", file)).strip()
    # v1 says no limit as the highest number of whole pages.
    return _NO_LIMIT if text == "max" or int(text) > 1 << 62 else int(text)


def weight_of_shares(shares: int) -> int:
    """v2's cpu.weight, 1 to 10000, for v1's cpu.shares: 1024, the default there, becomes 39 and not 100."""
    clamped = min(max(shares, _SHARES_LOW), _SHARES_HIGH)
    return 1 + (clamped - _SHARES_LOW) * 9999 // (_SHARES_HIGH - _SHARES_LOW)
