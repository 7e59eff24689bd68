"""``linux.resources`` of the configuration: the limits of what a container may use.

:func:`parse` reads, and refuses what no kernel does; :mod:`limits` says which text goes into which file of a v1 or v2
cgroup; :mod:`apply` writes. As in crun and runc, zero means "not set" and -1 "no
limit". A limit that is asked for is in force, or it is refused by its name. What newer kernels have removed is ignored
with a warning.

Source: the OCI runtime specification (config-linux.md, "Control groups").
"""

from __future__ import annotations

from ..light.dataclasses import record, replace
from ..reader import SEE, BundleError, Reader
from . import devices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from .blockio import BlockIo

    class _Network(TypedDict):
        class_id: int
        priorities: tuple[tuple[str, int], ...]


#: A value that v1 reads as "no limit" (memory.rst).
_NO_LIMIT = -1
#: docker writes -1 as an unsigned number.
_MINUS_ONE_UNSIGNED = (1 << 64) - 1
_HIGHEST = (1 << 63) - 1
#: What the kernel makes of shares beyond them (kernel/sched/sched.h, MIN_SHARES and MAX_SHARES).
SHARES_LOW, SHARES_HIGH = 2, 262_144


@record(kw_only=True)
class Memory:
    """Bytes; 0 is "not set", -1 "no limit". *swap* is memory and swap together."""

    limit_bytes: int = 0
    reservation_bytes: int = 0
    swap_bytes: int = 0
    kernel_tcp_bytes: int = 0
    swappiness: int | None = None
    disable_oom_killer: bool = False
    check_before_update: bool = False


@record(kw_only=True)
class Cpu:
    """Times in microseconds; 0 is "not set", for *burst_us* None. *cpus* and *mems* are lists as in cpuset(7)."""

    shares: int = 0
    quota_us: int = 0
    period_us: int = 0
    burst_us: int | None = None
    realtime_runtime_us: int = 0
    realtime_period_us: int = 0
    idle: int | None = None
    cpus: str = ""
    mems: str = ""


@record(kw_only=True)
class Resources:
    """All limits of one container; the default sets none."""

    memory: Memory = Memory()
    cpu: Cpu = Cpu()
    pids: int = 0
    block_io: BlockIo | None = None
    #: (size as in the file's name: "2MB", bytes)
    huge_pages: tuple[tuple[str, int], ...] = ()
    class_id: int = 0
    priorities: tuple[tuple[str, int], ...] = ()
    #: (device, words of rdma.max)
    rdma: tuple[tuple[str, str], ...] = ()
    unified: tuple[tuple[str, str], ...] = ()
    devices: tuple[devices.Rule, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether anything is asked for, so that there must be a cgroup."""
        return self != Resources()

    @property
    def limits(self) -> bool:
        """Whether anything but device rules is asked for, which an ordinary user's container does not need."""
        return replace(self, devices=()) != Resources()


def _block_io(reader: Reader) -> BlockIo | None:
    if reader.lacks("blockIO"):
        return None
    from . import blockio

    found = blockio.parse_block_io(reader.below("blockIO", {}))
    return None if found == blockio.BlockIo() else found


def parse(reader: Reader) -> Resources:
    """The :class:`Resources` of ``linux.resources``. Raises :class:`BundleError`."""
    found = Resources(
        memory=_memory(reader.below("memory", {})),
        cpu=_cpu(reader.below("cpu", {})),
        pids=_pids(reader.below("pids", {})),
        block_io=_block_io(reader),
        huge_pages=_huge_pages(reader),
        **_network(reader.below("network", {})),
        rdma=_rdma(reader),
        unified=_unified(reader),
        devices=devices.parse(reader),
    )
    reader.done()
    return found


def _number(reader: Reader, key: str, *, least: int = _NO_LIMIT, default: int = 0) -> int:
    value = reader.take(key, int, default)
    if value == _MINUS_ONE_UNSIGNED and least == _NO_LIMIT:
        return _NO_LIMIT
    if value < least:
        raise BundleError(reader.at(key), f"must not be below {least}", SEE)
    # The kernel would take a larger number modulo 2 to the 64th.
    if value > _HIGHEST:
        raise BundleError(reader.at(key), f"must not be above {_HIGHEST}", SEE)
    return value


def _or_none(reader: Reader, key: str) -> int:
    """A number; a negative one means "no limit", for the kernel (cpu.cfs_quota_us) or for runc (pids)."""
    return max(_NO_LIMIT, _number(reader, key, least=-_HIGHEST))


def _memory(reader: Reader) -> Memory:
    limit, swap = _number(reader, "limit"), _number(reader, "swap")
    if swap > 0 and limit == _NO_LIMIT:
        raise BundleError(reader.at("swap"), "limits memory and swap together, so memory needs a limit", "set limit")
    if 0 < swap < limit:
        raise BundleError(reader.at("swap"), "is memory and swap together: not below limit", f"make it {limit} or more")
    if _number(reader, "kernel"):
        reader.warn("kernel", "ignored: Linux 5.16 removed it")
    if not reader.take("useHierarchy", bool, True):
        reader.warn("useHierarchy", "ignored: since Linux 5.11, hierarchies are always used")
    swappiness = reader.take("swappiness", int, _NO_LIMIT)
    if not 0 <= swappiness <= 100 and swappiness not in (_NO_LIMIT, _MINUS_ONE_UNSIGNED):
        raise BundleError(reader.at("swappiness"), "is not from 0 to 100", SEE)
    found = Memory(
        limit_bytes=limit,
        reservation_bytes=_number(reader, "reservation"),
        swap_bytes=swap,
        kernel_tcp_bytes=_number(reader, "kernelTCP"),
        swappiness=swappiness if 0 <= swappiness <= 100 else None,
        disable_oom_killer=reader.take("disableOOMKiller", bool, False),
        check_before_update=reader.take("checkBeforeUpdate", bool, False),
    )
    reader.done()
    return found


def _cpu(reader: Reader) -> Cpu:
    idle = _number(reader, "idle", default=_NO_LIMIT)
    if idle not in (_NO_LIMIT, 0, 1):
        raise BundleError(reader.at("idle"), "is neither 0 nor 1", SEE)
    shares = _number(reader, "shares", least=0)
    clamped = min(max(shares, SHARES_LOW), SHARES_HIGH)
    if shares and shares != clamped:
        reader.warn("shares", f"{clamped} is in force: the kernel takes {SHARES_LOW} to {SHARES_HIGH}")
    quota, burst = _or_none(reader, "quota"), None if reader.lacks("burst") else _number(reader, "burst", least=0)
    if burst and 0 < quota < burst:
        raise BundleError(reader.at("burst"), "is above quota", f"make it {quota} or less")
    found = Cpu(
        shares=clamped if shares else 0,
        quota_us=quota,
        period_us=_number(reader, "period", least=0),
        burst_us=burst,
        realtime_runtime_us=_number(reader, "realtimeRuntime"),
        realtime_period_us=_number(reader, "realtimePeriod", least=0),
        idle=None if idle == _NO_LIMIT else idle,
        cpus=reader.take("cpus", str, ""),
        mems=reader.take("mems", str, ""),
    )
    reader.done()
    for key, text in (("cpus", found.cpus), ("mems", found.mems)):
        # As the kernel reads them (lib/bitmap-str.c): "0-3,8-15:2/4", "0-N", "all".
        if text.strip("0123456789,-:/Nal\n "):
            raise BundleError(reader.at(key), f"{text!r} is not a list of numbers and ranges", SEE)
    return found


def _pids(reader: Reader) -> int:
    limit = _or_none(reader, "limit")
    reader.done()
    return limit


def _huge_pages(reader: Reader) -> tuple[tuple[str, int], ...]:
    found = []
    for item in reader.each("hugepageLimits"):
        size = item.take("pageSize", str)
        if not size.endswith(("KB", "MB", "GB")) or not size[:-2].isdigit():
            raise BundleError(item.at("pageSize"), f"{size!r} is not a page size", "write it as 64KB, 2MB or 1GB")
        limit = item.take("limit", int)
        if not 0 <= limit <= _MINUS_ONE_UNSIGNED:
            raise BundleError(item.at("limit"), f"is not from 0 to {_MINUS_ONE_UNSIGNED}", SEE)
        found.append((size, limit))
        item.done()
    return tuple(found)


def _network(reader: Reader) -> _Network:
    class_id = _number(reader, "classID", least=0)
    priorities = []
    for item in reader.each("priorities"):
        if item.lacks("priority"):
            raise BundleError(item.at("priority"), "is missing", SEE)
        priorities.append((item.take("name", str), _number(item, "priority", least=0)))
        item.done()
    reader.done()
    return {"class_id": class_id, "priorities": tuple(priorities)}


def _rdma(reader: Reader) -> tuple[tuple[str, str], ...]:
    given: dict[str, object] = reader.take("rdma", dict, {})
    found = []
    for device, value in given.items():
        item = Reader(value, f"{reader.at('rdma')}.{device}", reader.warnings)
        words = []
        for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            if not item.lacks(key):
                words.append(f"{word}={_number(item, key, least=0)}")
        item.done()
        if words:
            found.append((device, " ".join(words)))
    return tuple(found)


def _unified(reader: Reader) -> tuple[tuple[str, str], ...]:
    given: dict[str, object] = reader.take("unified", dict, {})
    found = []
    for name, text in given.items():
        where = f"{reader.at('unified')}.{name}"
        controller, dot, file = name.partition(".")
        if not dot or not controller or not file or "/" in name or "\0" in name:
            raise BundleError(where, "is not the name of a file of cgroup v2", 'write it as "memory.high"')
        if not isinstance(text, str):
            raise BundleError(where, "must be a text", SEE)
        found.append((name, text))
    return tuple(found)
