"""What a container's cgroup has counted, by the names that callers of runc's ``events`` know.

A counter that this kernel or this container's cgroup lacks is 0, and a list of them is empty: readers of that interface
treat a missing name in the same way. Times are in nanoseconds, sizes in bytes. "No limit" is what the kernel says on
v1, and 2**64-1 on v2; for pids it is 0.

Sources: Documentation/admin-guide/cgroup-v1/{blkio-controller,cpuacct,cpusets,hugetlb,memory,pids}.rst, cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os

from ..linux.files import read
from .v1 import V1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .cgroups import Cgroup

#: Why a process ended without a message, if :func:`oom_kills` says so.
NO_MEMORY = "the kernel's OOM killer ended it, as its cgroup has too little memory (linux.resources.memory)"
_ABSENT = (errno.ENOENT, errno.EOPNOTSUPP)
_NO_LIMIT = 2**64 - 1
#: Name in the interface -> name of the kernel's file.
_BLKIO = {
    "ioServiceBytesRecursive": "io_service_bytes",
    "ioServicedRecursive": "io_serviced",
    "ioQueueRecursive": "io_queued",
    "ioServiceTimeRecursive": "io_service_time",
    "ioWaitTimeRecursive": "io_wait_time",
    "ioMergedRecursive": "io_merged",
    "ioTimeRecursive": "time",
    "sectorsRecursive": "sectors",
}
#: The scheduler bfq, older kernels' cfq, the throttling layer: the one that drives a device counts.
_LAYERS = ("blkio.bfq.", "blkio.", "blkio.throttle.")
#: Key of v2's io.stat -> where its value goes, and the operation.
_IO_STAT = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
}
_CPUSET_FLAGS = (
    *("cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab"),
    *("memory_pressure", "sched_load_balance", "sched_relax_domain_level"),
)


def collect(group: Cgroup) -> dict[str, object]:
    """All counters of *group*, as the ``data`` of a line of ``events``. Raises OSError."""
    return {
        "cpu": _cpu(group),
        "cpuset": _cpuset(group),
        "memory": _memory(group),
        "pids": {
            "current": number(_text(group, "pids", "pids.current")),
            "limit": number(_text(group, "pids", "pids.max"), no_limit=0),
        },
        "blkio": _blkio_v1(group) if isinstance(group, V1) else io_stat(_text(group, "io", "io.stat")),
        "hugetlb": {size: _huge_pages(group, size) for size in _page_sizes(group)},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _text(group: Cgroup, controller: str, name: str) -> str:
    """A file of the cgroup; empty where there is none."""
    try:
        return read(group.file(controller, name))
    except OSError as error:
        if error.errno in _ABSENT:
            return ""
        raise


def number(text: str, *, no_limit: int = _NO_LIMIT) -> int:
    """A file of one number, or of "max"."""
    word = text.strip()
    return no_limit if word == "max" else int(word or 0)


def oom_kills(group: Cgroup | None) -> int:
    """How many processes of *group* the kernel has killed because memory was short; 0 where that is unknown."""
    if group is None:
        return 0
    try:
        name = "memory.oom_control" if isinstance(group, V1) else "memory.events"
        return flat(read(group.file("memory", name))).get("oom_kill", 0)
    except OSError:
        return 0


def ended(what: str, group: Cgroup | None) -> str:
    """The words *what* about a process that has ended, with the reason if :func:`oom_kills` knows it."""
    return f"{what}: {NO_MEMORY}" if oom_kills(group) else what


def flat(text: str) -> dict[str, int]:
    """Lines of a name and a number."""
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


def ids(text: str) -> list[int]:
    """A list of processors or nodes: ``0-2,7``."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            found += range(int(first), int(last or first) + 1)
    return found


def _cpu(group: Cgroup) -> dict[str, object]:
    stat = flat(_text(group, "cpu", "cpu.stat"))
    if isinstance(group, V1):
        tick_ns = 10**9 // os.sysconf("SC_CLK_TCK")
        parts = flat(_text(group, "cpuacct", "cpuacct.stat"))
        columns = per_cpu(_text(group, "cpuacct", "cpuacct.usage_all"))
        usage: dict[str, object] = {
            "total": number(_text(group, "cpuacct", "cpuacct.usage")),
            "percpu": [int(word) for word in _text(group, "cpuacct", "cpuacct.usage_percpu").split()],
            "percpu_kernel": columns.get("system", []),
            "percpu_user": columns.get("user", []),
            "kernel": parts.get("system", 0) * tick_ns,
            "user": parts.get("user", 0) * tick_ns,
        }
        throttled_ns = stat.get("throttled_time", 0)
    else:
        names = {"total": "usage_usec", "kernel": "system_usec", "user": "user_usec"}
        usage = {name: stat.get(key, 0) * 1000 for name, key in names.items()}
        throttled_ns = stat.get("throttled_usec", 0) * 1000
    throttling = {
        "periods": stat.get("nr_periods", 0),
        "throttledPeriods": stat.get("nr_throttled", 0),
        "throttledTime": throttled_ns,
    }
    return {"usage": usage, "throttling": throttling}


def per_cpu(text: str) -> dict[str, list[int]]:
    """The columns of ``cpuacct.usage_all``, by the names in its first line."""
    rows = [line.split() for line in text.splitlines()]
    return {name: [int(row[at]) for row in rows[1:]] for at, name in enumerate(rows[0])} if rows else {}


def _cpuset(group: Cgroup) -> dict[str, object]:
    if not isinstance(group, V1):
        return {"cpus": ids(_text(group, "cpuset", "cpuset.cpus")), "mems": ids(_text(group, "cpuset", "cpuset.mems"))}
    found: dict[str, object] = {name: number(_text(group, "cpuset", f"cpuset.{name}")) for name in _CPUSET_FLAGS}
    return found | {name: ids(_text(group, "cpuset", f"cpuset.{name}")) for name in ("cpus", "mems")}


def _memory(group: Cgroup) -> dict[str, object]:
    raw = flat(_text(group, "memory", "memory.stat"))
    if isinstance(group, V1):
        kinds = {"usage": "memory", "swap": "memory.memsw", "kernel": "memory.kmem", "kernelTCP": "memory.kmem.tcp"}
        files = {"limit": "limit_in_bytes", "usage": "usage_in_bytes", "max": "max_usage_in_bytes"}
        return {
            "cache": raw.get("cache", 0),
            **{kind: _entry(group, base, files | {"failcnt": "failcnt"}) for kind, base in kinds.items()},
            "raw": raw,
        }
    files = {"limit": "max", "usage": "current", "max": "peak"}
    usage, swap = _entry(group, "memory", files), _entry(group, "memory.swap", files)
    # Memory and swap together, as on v1: callers expect that. The sum of two peaks means nothing.
    limit = _NO_LIMIT if _NO_LIMIT in (usage["limit"], swap["limit"]) else usage["limit"] + swap["limit"]
    both = {"limit": limit, "usage": usage["usage"] + swap["usage"], "max": 0, "failcnt": 0}
    none = {"limit": 0, "usage": 0, "max": 0, "failcnt": 0}
    return {"cache": raw.get("file", 0), "usage": usage, "swap": both, "kernel": none, "kernelTCP": none, "raw": raw}


def _entry(group: Cgroup, base: str, files: dict[str, str]) -> dict[str, int]:
    return {"failcnt": 0} | {name: number(_text(group, "memory", f"{base}.{file}")) for name, file in files.items()}


def _blkio_v1(group: Cgroup) -> dict[str, object]:
    found = {}
    for name, file in _BLKIO.items():
        texts = (_text(group, "blkio", f"{layer}{file}_recursive") for layer in _LAYERS)
        found[name] = next((entries for entries in map(blkio, texts) if entries), [])
    return dict(found)


def blkio(text: str) -> list[dict[str, object]]:
    """Lines of v1 such as ``8:0 Read 4096`` and ``8:0 4096``; not those of sums, ``Total 4096``."""
    found: list[dict[str, object]] = []
    for words in map(str.split, text.splitlines()):
        major, colon, minor = words[0].partition(":")
        if colon:
            operation = words[1] if len(words) > 2 else ""
            found.append(_device(major, minor, operation, words[-1]))
    return found


def io_stat(text: str) -> dict[str, object]:
    """v2's ``io.stat``, a line a device, as v1 has it: a table for bytes, another for the count of operations."""
    found: dict[str, list[dict[str, object]]] = {name: [] for name in _BLKIO}
    for words in map(str.split, text.splitlines()):
        major, _, minor = words[0].partition(":")
        for key, _, value in (word.partition("=") for word in words[1:]):
            if key in _IO_STAT:
                table, operation = _IO_STAT[key]
                found[table].append(_device(major, minor, operation, value))
    return dict(found)


def _device(major: str, minor: str, operation: str, value: str) -> dict[str, object]:
    return {"major": int(major), "minor": int(minor), "op": operation, "value": int(value)}


def _page_sizes(group: Cgroup) -> Iterator[str]:
    """The sizes of huge pages that are counted here: ``2MB``."""
    last = ".usage_in_bytes" if isinstance(group, V1) else ".current"
    try:
        names = os.listdir(os.path.dirname(group.file("hugetlb", "")))
    except FileNotFoundError:
        return
    for name in sorted(names):
        size = name.removeprefix("hugetlb.").removesuffix(last)
        # hugetlb.2MB.rsvd.current counts what is reserved.
        if name == f"hugetlb.{size}{last}" and "." not in size:
            yield size


def _huge_pages(group: Cgroup, size: str) -> dict[str, int]:
    base = f"hugetlb.{size}"
    if isinstance(group, V1):
        files = {"usage": "usage_in_bytes", "max": "max_usage_in_bytes", "failcnt": "failcnt"}
        return {name: number(_text(group, "hugetlb", f"{base}.{file}")) for name, file in files.items()}
    refused = flat(_text(group, "hugetlb", f"{base}.events")).get("max", 0)
    return {"usage": number(_text(group, "hugetlb", f"{base}.current")), "max": 0, "failcnt": refused}
