"""What :class:`resources.Resources` write into the files of a cgroup, of version 1 or 2, and the writing.

Sources: cgroup-v1/{memory,pids,cpusets,hugetlb,net_cls,net_prio}.rst, cgroup-v2.rst, sched-bwc.rst.
"""

from __future__ import annotations

from . import devices
from .hierarchies import CPU_PERIOD_US, read, write
from .reader import BundleError
from .record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .cgroups import V1, V2
    from .resources import Cpu, Memory, Resources

    _No = Callable[[str, str], BundleError]
    _Put = Callable[[str, str, object], None]
    _PutV1 = Callable[[str, str, str, object], None]

#: A value that v1 reads as "no limit" (memory.rst).
_NO_LIMIT = -1
#: CFS shares 2..262144 become v2's weights 1..10000 on a straight line, as in crun and runc.
_SHARES_LOW, _SHARES_HIGH = 2, 262_144


@record
class Write:
    """*text* for the kernel file *path*, because of *where* in the configuration."""

    where: str
    path: str
    text: str


def apply(resources: Resources, group: V1 | V2) -> None:
    """Put *group*, which exists, under *resources*, device rules last. Raises BundleError and OSError (with the file).

    A child must be in the cgroup before it does anything, and the limits in force before it is: create, apply, join.
    """
    update(resources, group)
    devices.apply(resources.devices, group)


def update(resources: Resources, group: V1 | V2) -> None:
    """As :func:`apply`, without the device rules: what may change while the container runs."""
    if resources.memory.check_before_update and 0 < resources.memory.limit_bytes < _memory_used(group):
        raise BundleError("linux.resources.memory.limit", "is below what is in use", "stop the container first")
    for each in _in_order(writes(resources, group)):
        try:
            write(each.path, each.text)
        except FileNotFoundError:
            raise BundleError(
                each.where, f"cannot be done: there is no {each.path} here", "leave it out, or enable the controller"
            ) from None
        except OSError as error:
            why = f"{each.where}: {error.strerror}"
            raise OSError(error.errno, why, each.path) from None


def _memory_used(group: V1 | V2) -> int:
    return int(read(group.file("memory", "memory.current" if group.version == 2 else "memory.usage_in_bytes")))


def _in_order(all_writes: tuple[Write, ...]) -> tuple[Write, ...]:
    """v1 refuses memory+swap below memory at any moment: raising both, memory+swap comes first (memory.rst, 2.4)."""
    both = [each for each in all_writes if each.path.endswith(".memsw.limit_in_bytes")]
    if not both:
        return all_writes
    asked = int(both[0].text)
    try:
        now = int(read(both[0].path))
    except FileNotFoundError:
        return all_writes  # writing says so
    if asked != _NO_LIMIT and asked <= now:
        return all_writes
    return (*both, *(each for each in all_writes if each not in both))


def writes(resources: Resources, group: V1 | V2) -> tuple[Write, ...]:
    """What :func:`update` writes, in order. Raises BundleError for what the cgroup version lacks."""
    return _v2(resources, group) if group.version == 2 else _v1(resources, group)


def _where(path: str) -> str:
    return f"linux.resources.{path}"


def _v1(asked: Resources, group: V1 | V2) -> tuple[Write, ...]:
    found: list[Write] = []

    def put(key: str, controller: str, file: str, text: object) -> None:
        try:
            found.append(Write(_where(key), group.file(controller, file), str(text)))
        except FileNotFoundError:
            raise BundleError(
                _where(key), f"cannot be done: no cgroup v1 hierarchy of {controller} is mounted", "leave it out"
            ) from None

    _v1_memory(asked.memory, put)
    _v1_cpu(asked.cpu, put)
    if asked.pids:
        put("pids.limit", "pids", "pids.max", asked.pids if asked.pids > 0 else "max")
    for size, limit in asked.huge_pages:
        put("hugepageLimits", "hugetlb", f"hugetlb.{size}.limit_in_bytes", limit)
    if asked.block_io is not None:
        from .blockio import writes as block_io_writes  # late: few configurations ask for it

        for key, file, text in block_io_writes(asked.block_io, group):
            put(f"blockIO.{key}", "blkio", file, text)
    if asked.class_id:
        put("network.classID", "net_cls", "net_cls.classid", asked.class_id)
    for interface, priority in asked.priorities:
        put("network.priorities", "net_prio", "net_prio.ifpriomap", f"{interface} {priority}")
    if asked.unified:
        raise BundleError(_where("unified"), "is for cgroup v2; this host drives v1", "use memory, cpu, pids, blockIO")
    return tuple(found)


def _v1_memory(memory: Memory, put: _PutV1) -> None:
    for key, file, value in (
        ("limit", "memory.limit_in_bytes", memory.limit_bytes),
        ("swap", "memory.memsw.limit_in_bytes", memory.swap_bytes),
        ("reservation", "memory.soft_limit_in_bytes", memory.reservation_bytes),
        ("kernelTCP", "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp_bytes),
    ):
        if value:
            put(f"memory.{key}", "memory", file, value)
    if memory.swappiness is not None:
        put("memory.swappiness", "memory", "memory.swappiness", memory.swappiness)
    if memory.disable_oom_killer:
        put("memory.disableOOMKiller", "memory", "memory.oom_control", 1)


def _v1_cpu(cpu: Cpu, put: _PutV1) -> None:
    for key, file, value in (
        ("shares", "cpu.shares", cpu.shares),
        ("period", "cpu.cfs_period_us", cpu.period_us),
        ("quota", "cpu.cfs_quota_us", cpu.quota_us),
        ("burst", "cpu.cfs_burst_us", cpu.burst_us),
        ("realtimePeriod", "cpu.rt_period_us", cpu.realtime_period_us),
        ("realtimeRuntime", "cpu.rt_runtime_us", cpu.realtime_runtime_us),
    ):
        if value:
            put(f"cpu.{key}", "cpu", file, value)
    if cpu.idle is not None:
        put("cpu.idle", "cpu", "cpu.idle", cpu.idle)
    for key, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if text:
            put(f"cpu.{key}", "cpuset", f"cpuset.{key}", text)


def _v2(asked: Resources, group: V1 | V2) -> tuple[Write, ...]:
    found: list[Write] = []

    def put(key: str, file: str, text: object) -> None:
        found.append(Write(_where(key), group.file(file.partition(".")[0], file), str(text)))

    def no(key: str, instead: str) -> BundleError:
        return BundleError(_where(key), "has no counterpart in cgroup v2", instead)

    _v2_memory(asked.memory, put, no)
    _v2_cpu(asked.cpu, put, no)
    if asked.pids:
        put("pids.limit", "pids.max", asked.pids if asked.pids > 0 else "max")
    for size, limit in asked.huge_pages:
        put("hugepageLimits", f"hugetlb.{size}.max", limit)
    if asked.block_io is not None:
        from .blockio import writes as block_io_writes

        for key, file, text in block_io_writes(asked.block_io, group):
            put(f"blockIO.{key}", file, text)
    if asked.class_id or asked.priorities:
        raise no("network", "leave it out; tc(8) and eBPF do that there")
    # Last: the words of cgroup v2 itself overrule their translations.
    for name, text in asked.unified:
        put(f"unified.{name}", name, text)
    return tuple(found)


def _or_max(value: int) -> object:
    return "max" if value == _NO_LIMIT else value


def _v2_memory(memory: Memory, put: _Put, no: _No) -> None:
    if memory.swap_bytes:
        # v2 counts swap alone. Before the memory limit: what is over it is swapped out on its arrival.
        swap = memory.swap_bytes
        put("memory.swap", "memory.swap.max", "max" if swap == _NO_LIMIT else swap - memory.limit_bytes)
    if memory.limit_bytes:
        put("memory.limit", "memory.max", _or_max(memory.limit_bytes))
    if memory.reservation_bytes:
        put("memory.reservation", "memory.low", _or_max(memory.reservation_bytes))
    for key, asked in (
        ("kernelTCP", memory.kernel_tcp_bytes),
        ("swappiness", memory.swappiness is not None),
        ("disableOOMKiller", memory.disable_oom_killer),
    ):
        if asked:
            raise no(f"memory.{key}", "leave it out")


def _v2_cpu(cpu: Cpu, put: _Put, no: _No) -> None:
    if cpu.realtime_runtime_us or cpu.realtime_period_us:
        raise no("cpu.realtimeRuntime", "leave it and realtimePeriod out")
    if cpu.idle is not None:
        put("cpu.idle", "cpu.idle", cpu.idle)
    if cpu.shares:
        put("cpu.shares", "cpu.weight", weight_of_shares(cpu.shares))
    if cpu.quota_us or cpu.period_us:
        quota = cpu.quota_us if cpu.quota_us > 0 else "max"
        put("cpu.quota", "cpu.max", f"{quota} {cpu.period_us or CPU_PERIOD_US}")
    if cpu.burst_us:
        put("cpu.burst", "cpu.max.burst", cpu.burst_us)
    for key, text in (("cpus", cpu.cpus), ("mems", cpu.mems)):
        if text:
            put(f"cpu.{key}", f"cpuset.{key}", text)


def weight_of_shares(shares: int) -> int:
    """v2's cpu.weight, 1 to 10000, for v1's cpu.shares: 1024, the default there, becomes 39 and not 100."""
    clamped = min(max(shares, _SHARES_LOW), _SHARES_HIGH)
    return 1 + (clamped - _SHARES_LOW) * 9999 // (_SHARES_HIGH - _SHARES_LOW)
