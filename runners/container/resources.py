"""``linux.resources`` of the configuration: what a container may use, and the writes to its cgroup that see to it.

:func:`parse` reads and refuses what no kernel does; ``writes`` (of :mod:`limits`) says which text goes into which file
of a v1 or v2 cgroup, and refuses what that version lacks; ``apply`` writes. As in crun and runc, zero means "not set"
and -1 "no limit". What is asked is in force, or it is refused by its name: no limit is left out silently.

Source: the OCI runtime specification (config-linux.md, "Control groups").
"""

from __future__ import annotations

from . import devices
from .limits import apply, update, writes
from .reader import SEE, BundleError, Reader
from .record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from .blockio import BlockIo

    class _Network(TypedDict):
        class_id: int
        priorities: tuple[tuple[str, int], ...]


__all__ = ["Cpu", "Memory", "Resources", "apply", "parse", "update", "writes"]

#: A value that v1 reads as "no limit" (memory.rst).
_NO_LIMIT = -1
#: docker writes -1 as an unsigned number where it means "not set".
_UNSET_UNSIGNED = (1 << 64) - 1


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
    """Times in microseconds; 0 is "not set". *cpus* and *mems* are lists as in cpuset(7)."""

    shares: int = 0
    quota_us: int = 0
    period_us: int = 0
    burst_us: int = 0
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
    unified: tuple[tuple[str, str], ...] = ()
    devices: tuple[devices.Rule, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether anything is asked, so that there must be a cgroup."""
        return self != Resources()

    @property
    def limits(self) -> bool:
        """Whether anything but device rules is asked. A user's own container needs none: it can make no device node."""
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
        unified=_unified(reader),
        devices=devices.parse(reader),
    )
    reader.done()
    return found


def _number(reader: Reader, key: str, *, least: int = _NO_LIMIT) -> int:
    value = reader.take(key, int, 0)
    if value < least:
        raise BundleError(reader.at(key), f"must not be below {least}", SEE)
    return value


def _memory(reader: Reader) -> Memory:
    limit, swap = _number(reader, "limit"), _number(reader, "swap")
    if swap > 0 and limit <= 0:
        raise BundleError(reader.at("swap"), "limits memory and swap together, so memory needs a limit", "set limit")
    if 0 < swap < limit:
        raise BundleError(reader.at("swap"), "is memory and swap together: not below limit", f"make it {limit} or more")
    if reader.take("kernel", int, 0) > 0:
        raise BundleError(reader.at("kernel"), "is not supported: Linux 5.16 took it away", "leave it out")
    swappiness = reader.take("swappiness", int, _UNSET_UNSIGNED)
    if not 0 <= swappiness <= 100 and swappiness not in (_NO_LIMIT, _UNSET_UNSIGNED):
        raise BundleError(reader.at("swappiness"), "is not from 0 to 100", SEE)
    reader.take("useHierarchy", bool, True)  # the only way since Linux 5.11
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
    idle = reader.take("idle", int, _NO_LIMIT)
    if idle not in (_NO_LIMIT, 0, 1):
        raise BundleError(reader.at("idle"), "is neither 0 nor 1", SEE)
    found = Cpu(
        shares=_number(reader, "shares", least=0),
        quota_us=_number(reader, "quota"),
        period_us=_number(reader, "period", least=0),
        burst_us=_number(reader, "burst", least=0),
        realtime_runtime_us=_number(reader, "realtimeRuntime"),
        realtime_period_us=_number(reader, "realtimePeriod", least=0),
        idle=None if idle == _NO_LIMIT else idle,
        cpus=reader.take("cpus", str, ""),
        mems=reader.take("mems", str, ""),
    )
    reader.done()
    for key, text in (("cpus", found.cpus), ("mems", found.mems)):
        if text.strip("0123456789,-\n "):
            raise BundleError(reader.at(key), f"{text!r} is no list of numbers and ranges", SEE)
    return found


def _pids(reader: Reader) -> int:
    limit = _number(reader, "limit")
    reader.done()
    return limit


def _huge_pages(reader: Reader) -> tuple[tuple[str, int], ...]:
    found = []
    for item in reader.each("hugepageLimits"):
        size = item.take("pageSize", str)
        if not size.endswith(("KB", "MB", "GB")) or not size[:-2].isdigit():
            raise BundleError(item.at("pageSize"), f"{size!r} is no page size", "write it as 64KB, 2MB or 1GB")
        found.append((size, _number(item, "limit", least=0)))
        item.done()
    return tuple(found)


def _network(reader: Reader) -> _Network:
    class_id = _number(reader, "classID", least=0)
    priorities = []
    for item in reader.each("priorities"):
        priorities.append((item.take("name", str), _number(item, "priority", least=0)))
        item.done()
    reader.done()
    return {"class_id": class_id, "priorities": tuple(priorities)}


def _unified(reader: Reader) -> tuple[tuple[str, str], ...]:
    given: dict[str, object] = reader.take("unified", dict, {})
    found = []
    for name, text in given.items():
        where = f"{reader.at('unified')}.{name}"
        controller, dot, file = name.partition(".")
        if not dot or not controller or not file or "/" in name or "\0" in name:
            raise BundleError(where, "is no name of a v2 file", 'write it as "memory.high"')
        if not isinstance(text, str):
            raise BundleError(where, "must be a text", SEE)
        found.append((name, text))
    return tuple(found)
