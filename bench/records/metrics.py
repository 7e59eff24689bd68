"""The registry of metrics: what each name means, its unit, which way is better, and what cannot be true.

Names follow OpenMetrics: the base unit is the suffix, and a value is a float in that unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

Unit = Literal["seconds", "bytes", "count", "ratio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One measured quantity. ``most`` is the largest believable value, in ``unit``; only a change is ``signed``.

    One that is ``optional`` is measured in some runs only, and in the others nobody asks for it.
    """

    name: str
    unit: Unit
    title: str
    meaning: str
    lower_is_better: bool = True
    most: float
    signed: bool = False
    optional: bool = False

    def implausible(self, value: float) -> str:
        """Why *value* cannot be true, or an empty string."""
        if not math.isfinite(value):
            return f"{self.name} is {value}"
        if value < 0 and not self.signed:
            return f"{self.name} is negative: {value!r} {self.unit}"
        if abs(value) > self.most:
            return f"{self.name} is {show(value, self.unit)}, more than the {show(self.most, self.unit)} it could be"
        return ""


_DAY_S = 86400.0
_TIB = 2.0**40

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="provisioned_seconds",
            unit="seconds",
            title="provisioned",
            meaning="from the request until the instance has a disk of its own",
            most=_DAY_S,
            optional=True,
        ),
        Metric(
            name="created_seconds",
            unit="seconds",
            title="created",
            meaning="from the request until the backend says that the instance exists",
            most=_DAY_S,
        ),
        Metric(
            name="firmware_seconds",
            unit="seconds",
            title="firmware handed over",
            meaning="from the request until a guest's firmware says on its console that it starts a boot loader",
            most=_DAY_S,
            optional=True,
        ),
        Metric(
            name="kernel_seconds",
            unit="seconds",
            title="kernel entered",
            meaning="from the request until the first line of a guest's kernel arrives on its console",
            most=_DAY_S,
            optional=True,
        ),
        Metric(
            name="initramfs_seconds",
            unit="seconds",
            title="initramfs",
            meaning="from the request until the first process of a guest's initramfs says that it runs",
            most=_DAY_S,
            optional=True,
        ),
        Metric(
            name="init_seconds",
            unit="seconds",
            title="first process of the root",
            meaning="from the request until the first process of a guest's own root file system says that it runs",
            most=_DAY_S,
            optional=True,
        ),
        Metric(
            name="first_seconds",
            unit="seconds",
            title="first instruction",
            meaning="from the request until the first line of the payload arrives on the console: PID 1 runs",
            most=_DAY_S,
            optional=True,
        ),
        Metric(
            name="ready_seconds",
            unit="seconds",
            title="ready",
            meaning="from the request until the readiness mark arrives on the console",
            most=_DAY_S,
        ),
        Metric(
            name="stopped_seconds",
            unit="seconds",
            title="stopped",
            meaning="from the forced stop (SIGKILL, virDomainDestroy) until no process of the instance runs",
            most=_DAY_S,
        ),
        Metric(
            name="removed_seconds",
            unit="seconds",
            title="removed",
            meaning="from the forced stop until nothing of the instance is left: cgroup, mounts, state, domain",
            most=_DAY_S,
        ),
        Metric(
            name="cpu_seconds",
            unit="seconds",
            title="processor time of the start",
            meaning="processor time that the start cost the host until ready, including the harness",
            most=_DAY_S,
        ),
        Metric(
            name="slowest_seconds",
            unit="seconds",
            title="ready, the slowest of a burst",
            meaning="from the request until the last of those that were started together is ready",
            most=_DAY_S,
            optional=True,
        ),
        Metric(
            name="further_seconds",
            unit="seconds",
            title="a further command",
            meaning="how long the command takes once more in an instance that is ready by it",
            most=_DAY_S,
            optional=True,
        ),
        Metric(
            name="attempt_seconds",
            unit="seconds",
            title="the attempt that found it ready",
            meaning="how long the connection, request or command took that succeeded; part of the time to ready",
            most=_DAY_S,
            optional=True,
        ),
        Metric(
            name="runtime_seconds",
            unit="seconds",
            title="the OCI runtime's own share",
            meaning="of the time to ready, the part in which a process of the engine's OCI runtime was alive",
            most=_DAY_S,
            optional=True,
        ),
        Metric(
            name="daemon_cpu_seconds",
            unit="seconds",
            title="processor time of the daemon",
            meaning="processor time of the engine's daemon from the request until ready; part of cpu_seconds only "
            "where the daemon was started for the run",
            most=_DAY_S,
            optional=True,
        ),
        Metric(
            name="provisioned_bytes",
            unit="bytes",
            title="disk when provisioned",
            meaning="what an instance's own disk took of the host's when it had been made; shared blocks count",
            most=_TIB * 64,
            optional=True,
        ),
        Metric(
            name="disk_bytes",
            unit="bytes",
            title="disk when ready",
            meaning="what an instance's own disk took of the host's once it was ready: it has been written to",
            most=_TIB * 64,
            optional=True,
        ),
        Metric(
            name="pss_bytes",
            unit="bytes",
            title="memory when ready (PSS)",
            meaning="proportional set size of all processes that the instance needs, read once after ready",
            most=_TIB,
        ),
    )
}

#: (name, title, meaning) of the readings of memory; the host's counters are the kernel's own.
_MEMORY = (
    ("host_total_bytes", "host memory", "MemTotal"),
    ("host_free_bytes", "free", "MemFree"),
    ("host_available_bytes", "available", "MemAvailable: the kernel's estimate of what new work could get"),
    ("host_percpu_lists_bytes", "free on processors' lists", "free pages that MemFree does not count"),
    ("host_buffers_bytes", "buffers", "Buffers: page cache of block devices"),
    ("host_cached_bytes", "page cache", "Cached: page cache of files, including shared memory"),
    ("host_swap_cached_bytes", "swap cache", "SwapCached"),
    ("host_shmem_bytes", "shared memory", "Shmem: tmpfs, memfd and System V, part of Cached"),
    ("host_anon_bytes", "anonymous", "AnonPages: memory of processes that is not backed by a file"),
    ("host_anon_huge_bytes", "anonymous huge pages", "AnonHugePages, part of AnonPages"),
    ("host_active_anon_bytes", "anonymous, active", "Active(anon): on the list of recently used pages"),
    ("host_inactive_anon_bytes", "anonymous, inactive", "Inactive(anon): on the list of pages not used recently"),
    ("host_unevictable_bytes", "unevictable", "Unevictable: on neither list, because it is locked"),
    ("host_mapped_bytes", "mapped", "Mapped: page cache that processes have mapped"),
    ("host_slab_reclaimable_bytes", "slab, reclaimable", "SReclaimable: kernel objects such as dentries and inodes"),
    ("host_slab_unreclaimable_bytes", "slab, unreclaimable", "SUnreclaim: kernel objects that are in use"),
    ("host_reclaimable_bytes", "kernel, reclaimable", "KReclaimable: SReclaimable and other memory that shrinks"),
    ("host_page_tables_bytes", "page tables", "PageTables"),
    ("host_sec_page_tables_bytes", "secondary page tables", "SecPageTables: those of virtual machines and of IOMMUs"),
    ("host_kernel_stack_bytes", "kernel stacks", "KernelStack: one for each thread"),
    ("host_percpu_bytes", "per-processor data", "Percpu"),
    ("host_vmalloc_bytes", "vmalloc", "VmallocUsed, including kernel stacks where they are mapped there"),
    ("host_hugetlb_bytes", "huge pages", "Hugetlb: the reserved pool"),
    ("host_ksm_sharing_bytes", "merged", "pages that samepage merging saves"),
    ("rss_bytes", "RSS", "resident set size: shared pages count in every process"),
    ("uss_bytes", "USS", "unique set size: pages that no other process maps"),
    ("pss_anon_bytes", "PSS, anonymous", "the part of PSS that is not backed by a file"),
    ("pss_file_bytes", "PSS, file", "the part of PSS that is page cache"),
    ("pss_shmem_bytes", "PSS, shared memory", "the part of PSS that is shared memory"),
    ("guest_ram_bytes", "guest memory", "resident part of the mapping that is the guests' memory"),
    ("cgroup_current_bytes", "cgroup", "what the instances' memory cgroups are charged with, summed"),
    ("cgroup_peak_bytes", "cgroup peak", "the most that each was charged with, summed"),
    ("cgroup_anon_bytes", "cgroup, anonymous", "the part that is anonymous"),
    ("cgroup_file_bytes", "cgroup, file", "the part that is page cache, charged to whoever touched it first"),
    ("cgroup_shmem_bytes", "cgroup, shared memory", "the part that is shared memory"),
    ("cgroup_kernel_bytes", "cgroup, kernel", "the part that is kernel memory"),
)

#: (name, title, meaning) of what the payload reads in /proc/meminfo from where it stands (``tell=memory``).
_INSIDE = (
    ("inside_total_bytes", "total, seen inside", "MemTotal: what a guest's own kernel took before is not in it"),
    ("inside_free_bytes", "free, seen inside", "MemFree"),
    ("inside_available_bytes", "available, seen inside", "MemAvailable"),
    ("inside_cached_bytes", "page cache, seen inside", "Cached"),
    ("inside_slab_bytes", "slab, seen inside", "Slab"),
    ("inside_page_tables_bytes", "page tables, seen inside", "PageTables"),
    ("inside_kernel_stack_bytes", "kernel stacks, seen inside", "KernelStack"),
    ("inside_anon_bytes", "anonymous, seen inside", "AnonPages"),
    ("inside_percpu_bytes", "per-processor data, seen inside", "Percpu"),
)

#: (name, title, meaning) of what the window after settling shows, while the instances wait, or work as told.
_WINDOW = (
    ("host_busy_ratio", "processors busy", "share of all processor time that everything on the host used"),
    ("pressure_cpu_some_ratio", "waiting for a processor", "share of the window that some task waited for a processor"),
    ("pressure_memory_some_ratio", "waiting for memory", "share of the window that some task waited for memory"),
    ("pressure_memory_full_ratio", "stopped by memory", "share of the window that all tasks waited for memory"),
    ("pressure_io_some_ratio", "waiting for input/output", "share of the window that some task waited for I/O"),
    ("pressure_io_full_ratio", "stopped by input/output", "share of the window that all tasks waited for I/O"),
)
#: Unit, and the largest believable value, of each of these tables.
_READINGS: tuple[tuple[Unit, float, tuple[tuple[str, str, str], ...]], ...] = (
    ("bytes", _TIB * 64, _MEMORY),
    ("bytes", _TIB * 64, _INSIDE),
    ("ratio", 1.0, _WINDOW),
)
METRICS |= {
    name: Metric(name=name, unit=unit, title=title, meaning=meaning, most=most)
    for unit, most, rows in _READINGS
    for name, title, meaning in rows
}
METRICS |= {
    "window_seconds": Metric(
        name="window_seconds",
        unit="seconds",
        title="window",
        meaning="how long the host was watched while the instances waited, or used the share that the scenario gives",
        most=_DAY_S,
    ),
    "window_cpu_seconds": Metric(
        name="window_cpu_seconds",
        unit="seconds",
        title="processor time in the window",
        meaning="processor time that all instances, and the sleeping harness, used in the window",
        most=_DAY_S,
    ),
    "daemon_window_cpu_seconds": Metric(
        name="daemon_window_cpu_seconds",
        unit="seconds",
        title="processor time of the daemon in the window",
        meaning="processor time of the engine's daemon in the window; at 0 instances, what it uses when idle",
        most=_DAY_S,
        optional=True,
    ),
    "sampling_seconds": Metric(
        name="sampling_seconds",
        unit="seconds",
        title="reading",
        meaning="how long reading all counters took at one count, without settling and the window",
        most=_DAY_S,
    ),
    "sampling_bytes": Metric(
        name="sampling_bytes",
        unit="bytes",
        title="taken by the reading",
        meaning="free memory lost by reading itself; negative if other processes freed more in this time",
        most=_TIB,
        signed=True,
    ),
    "host_deferred_splits_count": Metric(
        name="host_deferred_splits_count",
        unit="count",
        title="huge pages partly unmapped",
        meaning="thp_deferred_split_page: how often a part of a huge page was given back since the boot",
        most=1e15,
    ),
    "processes_count": Metric(
        name="processes_count",
        unit="count",
        title="processes",
        meaning="processes of one program that the instances need",
        most=1e7,
    ),
    "attempts_count": Metric(
        name="attempts_count",
        unit="count",
        title="attempts",
        meaning="instances that were started to find the smallest grant",
        most=1e4,
    ),
    "least_memory_bytes": Metric(
        name="least_memory_bytes",
        unit="bytes",
        title="least memory",
        meaning="the smallest grant at which the payload got ready; with one step less it did not",
        most=_TIB,
    ),
    "removal_seconds": Metric(
        name="removal_seconds",
        unit="seconds",
        title="removal",
        meaning="time of the removals between two counts of the scale-down, several at a time",
        most=_DAY_S,
    ),
    "teardown_seconds": Metric(
        name="teardown_seconds",
        unit="seconds",
        title="teardown",
        meaning="from the first forced stop until nothing of all instances is left",
        most=_DAY_S,
    ),
}


def add(metrics: Iterable[Metric]) -> None:
    """Make *metrics* known: those of an experiment that is not tare's own. What is known already stays as it is."""
    for metric in metrics:
        METRICS.setdefault(metric.name, metric)


def misfit(name: str, unit: str) -> str:
    """Why a number of the metric *name* cannot be in *unit*, or an empty string.

    Names end with their unit, so that it is known of metrics of another tare, too.
    """
    known = METRICS.get(name)
    right = known.unit if known else name.rpartition("_")[2]
    if unit == right or (known is None and right not in get_args(Unit)):
        return ""
    return f"{name} is in {right}, and the row says {unit!r}"


_SECONDS = ((Decimal(1), "s"), (Decimal("1e-3"), "ms"), (Decimal("1e-6"), "µs"), (Decimal("1e-9"), "ns"))
_BYTES = ((Decimal(2**30), "GiB"), (Decimal(2**20), "MiB"), (Decimal(2**10), "KiB"), (Decimal(1), "B"))
_COUNTS = ((Decimal(1), ""),)
_SCALES = {"seconds": _SECONDS, "bytes": _BYTES, "count": _COUNTS}
#: What is smaller is told as smaller than this: more zeros say no more to a reader.
_LEAST = Decimal("0.000001")


def digits(value: float) -> str:
    """*value* with three significant digits, all of those before the point, and never as a power of ten.

    ``0.0000400``, ``0.304``, ``10.0``, ``3134``; ``< 0.000001`` for what is nearer to zero than that.
    """
    return _digits(_decimal(value)) if math.isfinite(value) else str(value)


def _decimal(value: float) -> Decimal:
    """*value* as it is written. In binary 0.9995 lies below that, and 999.5 does not: two units would differ."""
    return Decimal(repr(float(value)))


def _digits(value: Decimal) -> str:
    if value == 0:
        return "0"
    if abs(value) < _LEAST:
        return f"> -{_LEAST:f}" if value < 0 else f"< {_LEAST:f}"
    # The place of the first digit is that of the rounded number: 9.996 has two before the point, as 10.0.
    exponent = int(f"{value:.2e}".partition("e")[2])
    return f"{value:.{max(0, 2 - exponent)}f}"


def show(value: float, unit: str) -> str:
    """*value* for a reader: three significant digits and a scaled unit. Never feed the result to arithmetic.

    The unit is the largest of which the *rounded* number is at least one: 999.6 ms are ``1.00 s``.
    """
    if unit == "count" and float(value).is_integer():
        return f"{value:.0f}"
    if not math.isfinite(value) or value == 0:
        text = {"ratio": "%", "bytes": "B", "seconds": "s"}.get(unit, "")
        return f"{digits(value)} {text}".rstrip()
    exact = _decimal(value)
    if unit == "ratio":
        return f"{_digits(100 * exact)} %"
    scales = _SCALES.get(unit, _COUNTS)
    fitting = (scale for scale in scales if abs(Decimal(f"{exact / scale[0]:.2e}")) >= 1)
    factor, suffix = next(fitting, scales[-1])
    return f"{_digits(exact / factor)} {suffix}".rstrip()
