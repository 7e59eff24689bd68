"""Parsers of memory files, on text recorded from several kernels: v1 and v2, 4.19 to 6.18."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench import settle
from bench.probes import hostmem, memory

MEMINFO_6_18 = """MemTotal:       24684084 kB
MemFree:        24133760 kB
MemAvailable:   24277048 kB
Buffers:            8596 kB
Cached:           342444 kB
SwapCached:            0 kB
AnonPages:         18092 kB
Mapped:            10712 kB
Shmem:              8872 kB
KReclaimable:      61964 kB
Slab:              90056 kB
SReclaimable:      61964 kB
SUnreclaim:        28092 kB
KernelStack:        1488 kB
PageTables:         1680 kB
SecPageTables:         4 kB
VmallocTotal:   34359738367 kB
VmallocUsed:       14236 kB
Percpu:             2096 kB
HugePages_Total:       0
Hugepagesize:       2048 kB
Hugetlb:               0 kB
"""
#: No SecPageTables (6.1), no KReclaimable (4.20), no Hugetlb (4.15 has it), VmallocUsed always 0 (before 5.3).
MEMINFO_4_19 = """MemTotal:        8167848 kB
MemFree:         1409696 kB
MemAvailable:    4956928 kB
Buffers:           92828 kB
Cached:          3516024 kB
AnonPages:       2504444 kB
Mapped:           663960 kB
Shmem:            215264 kB
Slab:             468936 kB
SReclaimable:     387656 kB
SUnreclaim:        81280 kB
KernelStack:       14768 kB
PageTables:        41456 kB
VmallocUsed:           0 kB
Percpu:            10240 kB
Hugetlb:               0 kB
"""
ZONEINFO = """Node 0, zone      DMA
  pages free     3977
  pagesets
    cpu: 0
              count:    0
              high:     0
    cpu: 1
              count:    7
Node 0, zone   Normal
    cpu: 0
              count:    120
              high:     378
"""
ROLLUP_6_1 = """55d0c8a6e000-7ffd3a5f3000 ---p 00000000 00:00 0                          [rollup]
Rss:                1612 kB
Pss:                 368 kB
Pss_Dirty:           112 kB
Pss_Anon:            112 kB
Pss_File:            250 kB
Pss_Shmem:             6 kB
Shared_Clean:       1448 kB
Private_Clean:        52 kB
Private_Dirty:       112 kB
Private_Hugetlb:       0 kB
"""
ROLLUP_4_19 = """00400000-ffffffffff601000 ---p 00000000 00:00 0    [rollup]
Rss:                 884 kB
Pss:                 385 kB
Shared_Clean:        696 kB
Private_Clean:       120 kB
Private_Dirty:        68 kB
"""
SMAPS_QEMU = """7f0a00000000-7f0a08000000 rw-p 00000000 00:00 0
Size:             131072 kB
KernelPageSize:        4 kB
Rss:               61440 kB
Pss:               61440 kB
7f0a10000000-7f0a10021000 rw-p 00000000 00:00 0
Size:                132 kB
Rss:                  28 kB
"""
STAT_V2 = "anon 1048576\nfile 4096\nkernel 524288\nkernel_stack 16384\nslab 300000\nshmem 0\n"
STAT_V1 = "cache 1\nrss 2\ntotal_cache 8192\ntotal_rss 2097152\ntotal_shmem 0\ntotal_mapped_file 0\n"


def test_meminfo_is_read_in_bytes_and_missing_fields_are_zero() -> None:
    new, old = hostmem.parse_meminfo(MEMINFO_6_18), hostmem.parse_meminfo(MEMINFO_4_19)
    assert new["host_free_bytes"] == 24133760 * 1024
    assert new["host_sec_page_tables_bytes"] == 4096
    assert (old["host_sec_page_tables_bytes"], old["host_reclaimable_bytes"]) == (0, 0)
    assert set(new) == set(old) == set(hostmem.FIELDS)


def test_pages_on_the_lists_of_processors_are_summed_over_zones() -> None:
    assert hostmem.parse_percpu_lists_bytes(ZONEINFO) == 127 * 4096


def test_a_process_is_read_on_old_and_new_kernels() -> None:
    new, old = memory.parse_rollup(ROLLUP_6_1), memory.parse_rollup(ROLLUP_4_19)
    assert (new["pss_bytes"], new["pss_anon_bytes"], new["uss_bytes"]) == (368 * 1024, 112 * 1024, 164 * 1024)
    assert new["pss_bytes"] == new["pss_anon_bytes"] + new["pss_file_bytes"] + new["pss_shmem_bytes"]
    assert (old["pss_bytes"], old["uss_bytes"], old["pss_anon_bytes"]) == (385 * 1024, 188 * 1024, 0)


def test_guest_memory_is_the_mapping_as_large_as_the_grant() -> None:
    assert memory.parse_mapping_rss_bytes(SMAPS_QEMU, 128 << 20) == 60 << 20
    assert memory.parse_mapping_rss_bytes(SMAPS_QEMU, 256 << 20) is None


def test_memory_stat_is_read_in_both_versions() -> None:
    assert memory.parse_memory_stat(STAT_V2) == {
        "cgroup_anon_bytes": 1048576,
        "cgroup_file_bytes": 4096,
        "cgroup_shmem_bytes": 0,
        "cgroup_kernel_bytes": 524288,
    }
    assert memory.parse_memory_stat(STAT_V1) == {
        "cgroup_anon_bytes": 2097152,
        "cgroup_file_bytes": 8192,
        "cgroup_shmem_bytes": 0,
    }


@pytest.mark.parametrize(
    "files",
    [
        {"memory.current": "100", "memory.peak": "200", "memory.stat": STAT_V2},
        {"memory.usage_in_bytes": "100", "memory.max_usage_in_bytes": "200", "memory.stat": STAT_V1},
    ],
)
def test_a_cgroup_is_read_in_both_versions(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = memory.cgroup(tmp_path)
    assert (found["cgroup_current_bytes"], found["cgroup_peak_bytes"]) == (100, 200)
    assert found["cgroup_anon_bytes"] > 0


def test_a_cgroup_that_counts_no_memory_gives_nothing(tmp_path: Path) -> None:
    assert memory.cgroup(tmp_path) == {}


def test_this_process_is_counted_under_its_name_and_a_dead_one_not_at_all() -> None:
    dead = 2**22 - 1
    ((name, sums),) = memory.by_role([os.getpid(), dead]).items()
    assert name == Path("/proc/self/comm").read_text().strip()
    assert sums["processes_count"] == 1
    assert 0 < sums["uss_bytes"] <= sums["pss_bytes"] <= sums["rss_bytes"]
    assert memory.pss_bytes([dead]) == 0


def test_the_host_can_be_read_here() -> None:
    found = hostmem.read()
    assert 0 < found["host_free_bytes"] < found["host_total_bytes"]
    assert found["host_available_bytes"] > 0


def test_free_memory_is_what_settling_looks_at() -> None:
    assert settle.free_bytes(MEMINFO_6_18) == 24133760 * 1024
    with pytest.raises(ValueError, match="MemFree"):
        settle.free_bytes("")
