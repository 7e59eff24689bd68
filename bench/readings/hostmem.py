"""The host's memory, counter by counter, read as one: /proc/meminfo and the pages that per-processor lists hold.

Sources: proc_meminfo(5); Documentation/filesystems/proc.rst, "meminfo"; admin-guide/sysctl/vm.rst, "stat_refresh".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_PAGE = 4096  # zoneinfo counts base pages, whatever the architecture's huge page

#: Our metric -> the field of /proc/meminfo. A field that a kernel lacks counts as 0, which is what it had of it.
FIELDS: Mapping[str, str] = {
    "host_total_bytes": "MemTotal",
    "host_free_bytes": "MemFree",
    "host_available_bytes": "MemAvailable",
    "host_buffers_bytes": "Buffers",
    "host_cached_bytes": "Cached",
    "host_shmem_bytes": "Shmem",
    "host_anon_bytes": "AnonPages",
    "host_mapped_bytes": "Mapped",
    "host_slab_reclaimable_bytes": "SReclaimable",
    "host_slab_unreclaimable_bytes": "SUnreclaim",
    "host_reclaimable_bytes": "KReclaimable",
    "host_page_tables_bytes": "PageTables",
    "host_sec_page_tables_bytes": "SecPageTables",
    "host_kernel_stack_bytes": "KernelStack",
    "host_percpu_bytes": "Percpu",
    "host_vmalloc_bytes": "VmallocUsed",
    "host_hugetlb_bytes": "Hugetlb",
    "host_anon_huge_bytes": "AnonHugePages",
    "host_active_anon_bytes": "Active(anon)",
    "host_inactive_anon_bytes": "Inactive(anon)",
    "host_unevictable_bytes": "Unevictable",
    "host_swap_cached_bytes": "SwapCached",
}
#: Pages on the free lists of single processors: MemFree leaves them out, though nobody uses them.
PERCPU_LISTS = "host_percpu_lists_bytes"

#: How often the kernel put off splitting a huge page of which a part was given back (admin-guide/mm/transhuge.rst).
DEFERRED_SPLITS = "host_deferred_splits_count"


def read() -> dict[str, float]:
    """Every counter, in bytes but for :data:`DEFERRED_SPLITS`."""
    _refresh()
    found = parse_meminfo(Path("/proc/meminfo").read_text(encoding="ascii"))
    found[PERCPU_LISTS] = _percpu_lists_bytes()
    found[DEFERRED_SPLITS] = float(parse_deferred_splits(Path("/proc/vmstat").read_text(encoding="ascii")))
    found["host_ksm_sharing_bytes"] = float(_number(Path("/sys/kernel/mm/ksm/pages_sharing")) * _PAGE)
    return found


def glance() -> dict[str, float]:
    """The counters of /proc/meminfo alone: quick, and good enough for a rule that says stop."""
    return parse_meminfo(Path("/proc/meminfo").read_text(encoding="ascii"))


def unused_bytes(host: Mapping[str, float]) -> float:
    """What nobody uses, of the counters of *host*: free pages, and those on processors' own lists."""
    return host["host_free_bytes"] + host[PERCPU_LISTS]


def unused_now_bytes() -> float:
    """:func:`unused_bytes` of this moment: quick, and not refreshed as :func:`read` is."""
    return unused_bytes({**glance(), PERCPU_LISTS: _percpu_lists_bytes()})


def parse_meminfo(text: str) -> dict[str, float]:
    """The counters of :data:`FIELDS` in a meminfo text, in bytes."""
    values = {name: rest.split() for name, _, rest in (line.partition(":") for line in text.splitlines()) if rest}
    return {metric: float(int(values[field][0]) * 1024) if field in values else 0.0 for metric, field in FIELDS.items()}


def parse_percpu_lists_bytes(zoneinfo: str) -> int:
    """The sum of the ``count:`` lines below ``pagesets``, in bytes."""
    words = (line.split() for line in zoneinfo.splitlines())
    return sum(int(word[1]) for word in words if len(word) == 2 and word[0] == "count:") * _PAGE


def parse_deferred_splits(vmstat: str) -> int:
    """``thp_deferred_split_page`` of a /proc/vmstat text; 0 for a kernel without transparent huge pages."""
    lines = (line.split() for line in vmstat.splitlines())
    return next((int(line[1]) for line in lines if line[0] == "thp_deferred_split_page"), 0)


def _percpu_lists_bytes() -> float:
    return float(parse_percpu_lists_bytes(Path("/proc/zoneinfo").read_text(encoding="ascii")))


def _refresh() -> None:
    """Fold the processors' pending changes into the global counters: each may hold back some hundred kilobytes."""
    try:
        Path("/proc/sys/vm/stat_refresh").read_bytes()
    except OSError:  # root alone may; without it the counters are a second old at most
        return


def _number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except OSError:  # a kernel without samepage merging
        return 0
