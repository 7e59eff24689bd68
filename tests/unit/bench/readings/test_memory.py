"""Parsers of memory files, on text recorded from several kernels: v1 and v2, 4.19 to 6.18."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tare.bench.experiments import settle
from tare.bench.readings import cgroup, guest, hostload, hostmem, processes
from tare.bench.records.metrics import METRICS

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
#: 2.6.32 has no guest_nice; 6.18 has all ten. Idle and iowait are the fourth and the fifth number.
PROC_STAT_2_6 = "cpu  100 0 50 800 50 0 0 0 0\ncpu0 100 0 50 800 50 0 0 0 0\nintr 1\n"
PROC_STAT_6_18 = "cpu  36408 1 9372 65936 957 2 401 2292 77 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nctxt 5\n"
#: cpu has no "full" before 5.13.
PRESSURE_CPU_4_20 = "some avg10=0.00 avg60=0.03 avg300=0.50 total=99\n"
PRESSURE_CPU_6_18 = """some avg10=0.62 avg60=9.61 avg300=6.79 total=35458220
full avg10=0.00 avg60=0.00 avg300=0.00 total=0
"""
TOLD = ["inside MemTotal 91932", "inside MemFree 60000", "inside Percpu 0"]


def test_meminfo_is_read_in_bytes_and_missing_fields_are_zero() -> None:
    new, old = hostmem.parse_meminfo(MEMINFO_6_18), hostmem.parse_meminfo(MEMINFO_4_19)
    assert new["host_free_bytes"] == 24133760 * 1024
    assert new["host_sec_page_tables_bytes"] == 4096
    assert (old["host_sec_page_tables_bytes"], old["host_reclaimable_bytes"]) == (0, 0)
    assert set(new) == set(old) == set(hostmem.FIELDS)


def test_pages_on_the_lists_of_processors_are_summed_over_zones() -> None:
    assert hostmem.parse_percpu_lists_bytes(ZONEINFO) == 127 * 4096


def test_a_process_is_read_on_old_and_new_kernels() -> None:
    new, old = processes.parse_rollup(ROLLUP_6_1), processes.parse_rollup(ROLLUP_4_19)
    assert (new["pss_bytes"], new["pss_anon_bytes"], new["uss_bytes"]) == (368 * 1024, 112 * 1024, 164 * 1024)
    assert new["pss_bytes"] == new["pss_anon_bytes"] + new["pss_file_bytes"] + new["pss_shmem_bytes"]
    assert (old["pss_bytes"], old["uss_bytes"], old["pss_anon_bytes"]) == (385 * 1024, 188 * 1024, 0)


def test_guest_memory_is_the_mapping_as_large_as_the_grant() -> None:
    assert processes.parse_mapping_rss_bytes(SMAPS_QEMU, 128 << 20) == 60 << 20
    assert processes.parse_mapping_rss_bytes(SMAPS_QEMU, 256 << 20) is None


def test_memory_stat_is_read_in_both_versions() -> None:
    assert cgroup.parse_memory_stat(STAT_V2) == {
        "cgroup_anon_bytes": 1048576,
        "cgroup_file_bytes": 4096,
        "cgroup_shmem_bytes": 0,
        "cgroup_kernel_bytes": 524288,
    }
    assert cgroup.parse_memory_stat(STAT_V1) == {
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
    found = cgroup.charged(tmp_path, cgroup.counters(tmp_path))
    assert (found["cgroup_current_bytes"], found["cgroup_peak_bytes"]) == (100, 200)
    assert found["cgroup_anon_bytes"] > 0


def test_a_cgroup_that_counts_no_memory_gives_nothing(tmp_path: Path) -> None:
    assert cgroup.charged(tmp_path, cgroup.counters(tmp_path)) == {}


def test_this_process_is_counted_under_its_name_and_a_dead_one_not_at_all() -> None:
    dead = 2**22 - 1
    ((name, sums),) = processes.by_role([os.getpid(), dead]).items()
    assert name == Path("/proc/self/comm").read_text().strip()
    assert sums["processes_count"] == 1
    assert 0 < sums["uss_bytes"] <= sums["pss_bytes"] <= sums["rss_bytes"]
    assert processes.pss_bytes([dead]) == 0


def test_the_host_can_be_read_here() -> None:
    found = hostmem.read()
    assert 0 < found["host_free_bytes"] < found["host_total_bytes"]
    assert found["host_available_bytes"] > 0


def test_pages_on_a_processor_s_own_list_are_used_by_nobody() -> None:
    before = {"host_free_bytes": 8.0 * 2**20, hostmem.PERCPU_LISTS: 5.0 * 2**20}
    drained = {"host_free_bytes": 13.0 * 2**20, hostmem.PERCPU_LISTS: 0.0}
    assert hostmem.unused_bytes(before) == hostmem.unused_bytes(drained) == 13 * 2**20
    assert 0 < hostmem.unused_now_bytes() < hostmem.glance()["host_total_bytes"]


def still(monkeypatch: pytest.MonkeyPatch, free: Callable[[int], int], moved: int = 0) -> tuple[bool, int]:
    """Whether it settles where free memory is ``free(look)``, and after how many looks; a look advances the clock."""
    looks: list[float] = []
    monkeypatch.setattr("tare.bench.experiments.settle.time.sleep", looks.append)
    monkeypatch.setattr("tare.bench.experiments.settle.time.monotonic", lambda: sum(looks))
    monkeypatch.setattr(settle, "_free_now", lambda: free(len(looks)))
    return settle.settle(moved), len(looks)


def test_settling_waits_for_the_last_movement_and_then_some_looks_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert still(monkeypatch, lambda look: 0) == (True, 3)
    assert still(monkeypatch, lambda look: min(look, 10) << 20) == (True, 13)
    assert still(monkeypatch, lambda look: look << 20)[0] is False


def test_the_wait_and_its_cap_grow_with_what_was_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel pauses: after 5000 containers, two seconds of silence are not the end."""
    paused = lambda look: (1 if look > 45 else 0) << 30  # noqa: E731
    assert still(monkeypatch, paused) == (True, 3)
    assert still(monkeypatch, paused, 5000) == (True, 166)
    assert settle.LOOK_S * settle.patience(5000).looks > 5  # kfree_rcu() may take so long
    assert settle.patience(50).looks == 5
    restless, looks = still(monkeypatch, lambda look: look << 24, 5000)
    assert (restless, looks * settle.LOOK_S > 50) == (False, True)


def test_a_check_may_end_the_wait() -> None:
    def refuse() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        settle.settle(0, refuse)


def test_processor_time_is_what_worked_and_what_idled_and_nothing_stolen() -> None:
    assert hostload.parse_stat(PROC_STAT_2_6) == (150, 850)
    assert hostload.parse_stat(PROC_STAT_6_18) == (36408 + 1 + 9372 + 2 + 401, 65936 + 957)
    with pytest.raises(ValueError, match="cpu"):
        hostload.parse_stat("intr 1\n")


def test_pressure_is_read_in_both_shapes_and_may_be_absent() -> None:
    assert hostload.parse_pressure(PRESSURE_CPU_4_20) == {"some": 99}
    assert hostload.parse_pressure(PRESSURE_CPU_6_18) == {"some": 35458220, "full": 0}
    assert hostload.parse_pressure("") == {}


def test_a_window_is_the_difference_of_totals_and_never_beyond_all_of_it() -> None:
    stalled = {"pressure_cpu_some_ratio": 1_000_000, "pressure_io_full_ratio": 5}
    before = hostload.Totals(busy_ticks=100, idle_ticks=900, stalled_us=stalled)
    stalled = {"pressure_cpu_some_ratio": 1_500_000, "pressure_io_full_ratio": 2_000_105}
    after = hostload.Totals(busy_ticks=150, idle_ticks=1050, stalled_us=stalled)
    assert hostload.difference(before, after, 2.0) == {
        "host_busy_ratio": 0.25,
        "pressure_cpu_some_ratio": 0.25,
        "pressure_io_full_ratio": 1.0,
    }
    backwards = hostload.Totals(busy_ticks=100, idle_ticks=899)  # as iowait does, and a kernel without PSI
    assert hostload.difference(before, backwards, 2.0) == {}


def test_the_load_of_this_host_can_be_read() -> None:
    before = hostload.read()
    while (after := hostload.read()).busy_ticks == before.busy_ticks:
        pass
    assert 0 < hostload.difference(before, after, 1.0)["host_busy_ratio"] <= 1


def test_the_view_from_inside_is_read_line_by_line() -> None:
    assert guest.parse(TOLD) == {
        "inside_total_bytes": 91932 * 1024,
        "inside_free_bytes": 60000 * 1024,
        "inside_percpu_bytes": 0,
    }
    assert guest.parse(["inside MemTotal -5", "inside Nonsense 5", "inside MemTotal", "insider MemTotal 5"]) == {}
    assert guest.refusal(TOLD) == ""
    assert guest.refusal(["inside: cannot read /proc/meminfo: No such file"]).startswith("cannot read")


def test_every_probe_speaks_of_metrics_that_are_registered() -> None:
    for names in (hostload.PRESSURES, hostmem.FIELDS, processes.FIELDS, cgroup.FIELDS, guest.FIELDS.values()):
        assert set(names) <= set(METRICS)


def test_what_pauses_and_goes_on_is_waited_for_longer_than_it_pauses() -> None:
    rule = settle.patience(3, pause_s=2.0)
    assert rule.looks * settle.LOOK_S > 2.0
    assert rule.cap_s > settle.patience(3).cap_s + 2 * 2.0
    assert settle.patience(3) == settle.patience(3, pause_s=0.0)


def test_deferred_splits_are_counted_where_the_kernel_has_huge_pages() -> None:
    text = "thp_split_page 3\nthp_split_page_failed 1\nthp_deferred_split_page 817\nthp_split_pmd 9\n"
    assert hostmem.parse_deferred_splits(text) == 817
    assert hostmem.parse_deferred_splits("nr_free_pages 5\n") == 0
