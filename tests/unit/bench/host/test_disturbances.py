"""What changes memory or time on a host, on the literal texts of its files, and on this machine as it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tare.bench.host import disturbances, facts
from tare.bench.host.disturbances import Tree

KDAMOND = "sys/kernel/mm/damon/admin/kdamonds/0"
SCHEME = f"{KDAMOND}/contexts/0/schemes/0/action"
KSM = "sys/kernel/mm/ksm"
THP = "sys/kernel/mm/transparent_hugepage"
DISK = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/vda2  partition\t4194300\t\t1024\t\t-2\n"
ZRAM = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/zram0 partition\t8388604\t\t0\t\t100\n"
STATUS = "Name:\ttare\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapPrm:\t000001ffffffffff\nCapEff:\t{caps}\n"
LIMITS = (
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max processes             96365                96365                processes \n"
    "Max open files            1024                 {hard}               files     \n"
)


def tree(root: Path, files: Mapping[str, str]) -> Tree:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree(root)


CASES: list[tuple[str, dict[str, str], str, str]] = [
    # check, files, what must be in the finding, what must be in its fix; no fix: it is fine
    ("damon", {}, "DAMON is off", ""),
    ("damon", {f"{KDAMOND}/state": "off\n", SCHEME: "pageout\n"}, "DAMON is off", ""),
    (
        "damon",
        {f"{KDAMOND}/state": "on\n", SCHEME: "pageout\n"},
        "acts (pageout): memory that an instance does not touch",
        f"echo off > /{KDAMOND}/state",
    ),
    ("damon", {f"{KDAMOND}/state": "on\n", SCHEME: "hugepage\n"}, "huge pages are made", f"/{KDAMOND}/state"),
    ("damon", {f"{KDAMOND}/state": "on\n", SCHEME: "migrate_cold\n"}, "memory is moved", f"/{KDAMOND}/state"),
    ("damon", {f"{KDAMOND}/state": "on\n", SCHEME: "stat\n"}, "only takes processor time", f"/{KDAMOND}/state"),
    ("damon", {f"{KDAMOND}/state": "on\n"}, "only takes processor time", f"/{KDAMOND}/state"),
    (
        "damon",
        {"sys/module/damon_reclaim/parameters/enabled": "Y\n"},
        "acts (pageout)",
        "echo N > /sys/module/damon_reclaim/parameters/enabled",
    ),
    (
        "damon",
        {"sys/module/damon_lru_sort/parameters/enabled": "Y\n"},
        "acts (lru_prio): memory is moved",
        "echo N > /sys/module/damon_lru_sort/parameters/enabled",
    ),
    ("damon", {"sys/module/damon_reclaim/parameters/enabled": "N\n"}, "DAMON is off", ""),
    ("damon", {"proc/76/comm": "kdamond.0\n"}, "only root may read what it does", "as root"),
    (
        "damon",
        {"proc/76/comm": "kdamond.0\n", "sys/module/damon_stat/parameters/enabled": "Y\n"},
        "only takes processor time",
        "damon_stat",
    ),
    ("merging", {f"{KSM}/run": "0\n", f"{KSM}/pages_to_scan": "100\n"}, "off", ""),
    (
        "merging",
        {f"{KSM}/run": "1\n", f"{KSM}/pages_to_scan": "100\n", f"{KSM}/sleep_millisecs": "20\n"},
        "on, 100 pages every 20 ms",
        "echo 2 > /sys/kernel/mm/ksm/run",
    ),
    ("merging", {f"{KSM}/run": "1\n", f"{KSM}/pages_to_scan": "0\n"}, "scans no pages", ""),
    (
        "merging",
        {f"{KSM}/run": "1\n", f"{KSM}/pages_to_scan": "0\n", f"{KSM}/advisor_mode": "none [scan-time]\n"},
        "at an advisor's pace",
        "echo 2",
    ),
    ("merging", {f"{KSM}/run": "0\n", f"{KSM}/pages_shared": "812\n"}, "812 pages are still merged", "echo 2"),
    ("merging", {f"{KSM}/run": "2\n", f"{KSM}/pages_shared": "0\n"}, "off", ""),
    ("swap", {"proc/swaps": DISK.splitlines()[0] + "\n"}, "none", ""),
    ("swap", {"proc/swaps": DISK}, "4.00 GiB, 1.00 MiB used", "swapoff -a"),
    ("swap", {"proc/swaps": ZRAM}, "8.00 GiB (compressed in memory), 0 B used", "swapoff -a"),
    ("zswap", {"sys/module/zswap/parameters/enabled": "Y\n", "proc/swaps": DISK}, "compressed", "echo N > /sys/module"),
    ("zswap", {"sys/module/zswap/parameters/enabled": "Y\n"}, "there is no swap", ""),
    ("zswap", {"sys/module/zswap/parameters/enabled": "N\n", "proc/swaps": DISK}, "off", ""),
    ("lru", {"sys/kernel/mm/lru_gen/min_ttl_ms": "0\n"}, "no working set", ""),
    ("lru", {}, "no working set", ""),
    ("lru", {"sys/kernel/mm/lru_gen/min_ttl_ms": "1000\n"}, "last 1000 ms is never reclaimed", "lru_gen/min_ttl_ms"),
    ("huge_pages", {f"{THP}/enabled": "always [madvise] never\n", f"{THP}/defrag": "always [madvise] never\n"}, "", ""),
    ("huge_pages", {f"{THP}/enabled": "[always] madvise never\n"}, "always (all that fit)", f"> /{THP}/enabled"),
    (
        "huge_pages",
        {
            f"{THP}/enabled": "always madvise [never]\n",
            f"{THP}/hugepages-64kB/enabled": "[always] inherit madvise never\n",
            f"{THP}/hugepages-2048kB/enabled": "always [inherit] madvise never\n",
        },
        "always (64kB)",
        f"echo madvise > /{THP}/hugepages-64kB/enabled",
    ),
    (
        "huge_pages",
        {f"{THP}/enabled": "always [madvise] never\n", f"{THP}/defrag": "[always] defer madvise never\n"},
        "defrag always: a page fault waits",
        f"/{THP}/defrag",
    ),
    (
        "numa",
        {"proc/sys/kernel/numa_balancing": "1\n", "sys/devices/system/node/has_memory": "0-1\n"},
        "nodes 0-1",
        "sysctl kernel.numa_balancing=0",
    ),
    ("numa", {"proc/sys/kernel/numa_balancing": "1\n", "sys/devices/system/node/has_memory": "0\n"}, "one", ""),
    ("numa", {"proc/sys/kernel/numa_balancing": "0\n", "sys/devices/system/node/has_memory": "0,2\n"}, "not", ""),
    ("compaction", {"proc/sys/vm/compaction_proactiveness": "20\n"}, "20", ""),
    ("compaction", {"proc/sys/vm/compaction_proactiveness": "80\n"}, "proactive (80)", "compaction_proactiveness=20"),
    ("overcommit", {"proc/sys/vm/overcommit_memory": "2\n"}, "asked for counts as used", "vm.overcommit_memory=0"),
    ("overcommit", {"proc/sys/vm/overcommit_memory": "1\n"}, "not strict", ""),
    ("ballooned", {"proc/vmstat": "nr_free_pages 5\nballoon_inflate 0\n"}, "fixed size", ""),
    ("ballooned", {"proc/vmstat": "balloon_inflate 51200\nballoon_deflate 0\n"}, "has taken 51200 pages", "fixed size"),
    ("ballooned", {"sys/bus/virtio/drivers/virtio_mem/virtio3": ""}, "virtio3 (virtio-mem)", "fixed size"),
    ("daemons", {"proc/1/comm": "systemd\n", "proc/9/comm": "bash\n"}, "none", ""),
    (
        "daemons",
        {"proc/812/comm": "tuned\n", "proc/813/comm": "power-profiles-\n"},
        "power-profiles- changes the clock rate; tuned sets",
        "systemctl stop power-profiles-daemon tuned",
    ),
    ("daemons", {"proc/5/comm": "systemd-oomd\n"}, "ends cgroups under memory pressure", "systemctl stop systemd-oomd"),
    ("debugging", {"proc/cmdline": "root=/dev/vda1 quiet\n"}, "off", ""),
    ("debugging", {"proc/cmdline": "quiet slub_debug=FZP page_owner=on\n"}, "slub_debug=FZP page_owner=on", "without"),
    ("rights", {"proc/self/status": STATUS.format(uid=0, caps="000001ffffffffff")}, "can be raised", ""),
    (
        "rights",
        {"proc/self/status": STATUS.format(uid=0, caps="000001fffeffffff")},
        "CAP_SYS_RESOURCE is missing",
        "podman run --ulimit host",
    ),
    ("rights", {"proc/self/status": STATUS.format(uid=1000, caps="0000000000000000")}, "not root", ""),
    ("files", {"proc/self/limits": LIMITS.format(hard=1048576)}, "1048576", ""),
    ("files", {"proc/self/limits": LIMITS.format(hard="unlimited")}, "unlimited", ""),
    ("files", {"proc/self/limits": LIMITS.format(hard=1024)}, "at about 512 instances", "ulimit -Hn"),
    ("quota", {"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/memory.max": "max\n"}, "none", ""),
    ("quota", {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, "may use 1.5 processors", "outside this container"),
    (
        "quota",
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
        "may use 0.5 processors",
        "container",
    ),
    (
        "quota",
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
        "none",
        "",
    ),
    (
        "quota",
        {"sys/fs/cgroup/memory.max": "4294967296\n", "proc/meminfo": "MemTotal:       24672104 kB\nMemFree: 1 kB\n"},
        "may use 4.00 GiB of 23.5 GiB",
        "container",
    ),
    (
        "quota",
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "proc/meminfo": "MemTotal:       24672104 kB\n",
        },
        "none",
        "",
    ),
]


@pytest.mark.parametrize(("check", "files", "what", "fix"), CASES)
def test_a_finding_says_what_it_does_and_how_to_end_it(
    tmp_path: Path, check: str, files: dict[str, str], what: str, fix: str
) -> None:
    found = getattr(disturbances, check)(tree(tmp_path, files))
    assert what in found.what
    assert fix in found.fix
    assert (found.level, bool(found.fix)) == (("note", True) if fix else ("ok", False))


def test_every_check_is_fine_on_a_host_that_tells_nothing(tmp_path: Path) -> None:
    found = list(disturbances.findings(Tree(tmp_path)))
    assert {finding.level for finding in found} == {"ok"}
    assert len({finding.name for finding in found}) == len(found) == len(disturbances._CHECKS)


def test_each_check_has_a_case_that_is_fine_and_one_that_is_not() -> None:
    tried = {(name, bool(fix)) for name, _, _, fix in CASES}
    names = {check.__name__ for check in disturbances._CHECKS}
    assert tried == {(name, bad) for name in names for bad in (False, True)}


def test_what_cannot_be_read_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "proc/swaps").mkdir(parents=True)
    (tmp_path / "proc/vmstat").mkdir()
    assert {finding.level for finding in disturbances.findings(Tree(tmp_path))} == {"ok"}


def test_settings_are_recorded_in_words_where_there_is_nothing_to_read(tmp_path: Path) -> None:
    empty = facts.settings(Tree(tmp_path))
    assert empty["mitigations"] == empty["microcode"] == empty["turbo"] == "not exposed"
    files = {
        f"{THP}/enabled": "[always] madvise never\n",
        "sys/module/zswap/parameters/enabled": "Y\n",
        "sys/devices/system/cpu/intel_pstate/no_turbo": "1\n",
        "sys/devices/system/cpu/smt/active": "1\n",
        "sys/devices/system/cpu/vulnerabilities/meltdown": "Mitigation: PTI\n",
        "sys/devices/system/cpu/vulnerabilities/l1tf": "Not affected\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: X\nmicrocode\t: 0xffffffff\n",
        "proc/cmdline": "root=/dev/vda1 quiet\n",
        f"{KDAMOND}/state": "on\n",
        SCHEME: "pageout\n",
    }
    found = facts.settings(tree(tmp_path, files))
    assert found["transparent huge pages"] == "always"
    assert (found["zswap"], found["turbo"], found["hyperthreads"]) == ("on", "off", "on")
    assert (found["mitigations"], found["microcode"]) == ("meltdown: Mitigation: PTI", "0xffffffff")
    assert found["kernel command line"] == "root=/dev/vda1 quiet"
    assert "pageout" in found["idle memory"]


def test_this_machine_is_told_as_it_is() -> None:
    """The same things by other ways than the module's."""
    found = {finding.name: finding for finding in facts.findings()}
    threads = [name for name in Tree().texts("proc/[0-9]*/comm") if name.startswith("kdamond")]
    assert (found["idle memory"].level == "note") == bool(threads)
    if threads and os.geteuid() == 0:
        actions = {path.read_text().strip() for path in Path("/", KDAMOND).glob("contexts/*/schemes/*/action")}
        assert all(action in found["idle memory"].what for action in actions)
    assert (found["swap"].level == "note") == (len(Path("/proc/swaps").read_text().splitlines()) > 1)
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff"))
    missing = os.geteuid() == 0 and not int(held.split()[1], 16) & 1 << 24
    assert (found["limits"].level == "note") == missing
    known = facts.collect().facts
    assert known["kernel command line"] == Path("/proc/cmdline").read_text().strip()
    assert {"mitigations", "microcode", "zswap", "idle memory", "limits"} <= known.keys()
