"""A program's share of processors and block devices: ``scheduler``, ``ioPriority``, ``execCPUAffinity``.

They are objects of ``process`` in a configuration. Most have none of them, so this is imported only for one that has.
"""

from __future__ import annotations

import struct

from ..light.dataclasses import record
from ..reader import BundleError, Reader
from .process import number

#: linux/ioprio.h
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
#: linux/sched.h. 4 is reserved for SCHED_ISO, which no kernel has.
POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
}
#: The specification names these flags, and has no field for the number that the kernel needs with them.
_WITHOUT_VALUE = ("SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX")
_LARGEST = (1 << 64) - 1
#: More processors than any kernel can be built for.
_PROCESSORS = 1 << 14


@record(kw_only=True)
class Scheduler:
    """The arguments of sched_setattr(2); times in nanoseconds, for SCHED_DEADLINE alone."""

    policy: int
    flags: int = 0
    nice: int = 0
    priority: int = 0
    runtime_ns: int = 0
    deadline_ns: int = 0
    period_ns: int = 0

    def packed(self) -> bytes:
        """As struct sched_attr of linux/sched/types.h."""
        times = (self.runtime_ns, self.deadline_ns, self.period_ns)
        return struct.pack("=IIQiIQQQ", 48, self.policy, self.flags, self.nice, self.priority, *times)


def scheduler(item: Reader) -> Scheduler:
    """The object ``scheduler``. Raises BundleError."""
    policy = item.take("policy", str)
    if policy not in POLICIES:
        raise BundleError(item.at("policy"), f"{policy!r} exists in no kernel", f"use one of {', '.join(POLICIES)}")
    flags = 0
    for i, name in enumerate(item.texts("flags")):
        if name not in FLAGS:
            why = (
                "needs a value, for which the specification has no field"
                if name in _WITHOUT_VALUE
                else "is not a flag of sched_setattr(2)"
            )
            raise BundleError(f"{item.at('flags')}[{i}]", f"{name!r} {why}", f"use some of {', '.join(FLAGS)}")
        flags |= FLAGS[name]
    made = Scheduler(
        policy=POLICIES[policy],
        flags=flags,
        nice=number(item, "nice", 0, low=-20, high=19),
        priority=number(item, "priority", 0, high=99),
        runtime_ns=number(item, "runtime", 0, high=_LARGEST),
        deadline_ns=number(item, "deadline", 0, high=_LARGEST),
        period_ns=number(item, "period", 0, high=_LARGEST),
    )
    item.done()
    return made


def io_priority(item: Reader) -> int:
    """The object ``ioPriority`` as a value of ioprio_set(2). Raises BundleError."""
    name, level = item.take("class", str), number(item, "priority", 0, high=7)
    item.done()
    if name not in IO_CLASSES:
        raise BundleError(item.at("class"), f"unknown class {name!r}", f"use one of {', '.join(IO_CLASSES)}")
    return IO_CLASSES[name] << 13 | level


def affinity(item: Reader) -> tuple[frozenset[int], frozenset[int]]:
    """The object ``execCPUAffinity``: processors before and after the cgroup is joined; empty leaves them unchanged."""
    made = tuple(_processors(item, key) for key in ("initial", "final"))
    item.done()
    return made[0], made[1]


def _processors(item: Reader, key: str) -> frozenset[int]:
    """A list as "0-3,7". Raises BundleError."""
    text = item.take(key, str, "")
    found: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdecimal() and int(end[:9]) < _PROCESSORS for end in ends):
            raise BundleError(item.at(key), f"{text!r} is not a list of processors", 'write it as "0-3,7"')
        if int(ends[0]) > int(ends[1]):
            raise BundleError(item.at(key), f"{part!r} ends before it begins", 'write it as "0-3,7"')
        found.update(range(int(ends[0]), int(ends[1]) + 1))
    return frozenset(found)
