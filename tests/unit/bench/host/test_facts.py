"""Parsers of what the kernel says, on recorded text."""

from __future__ import annotations

from tare.bench.host import caches, facts, run_cgroup
from tare.bench.host.audit import _mounts, difference
from tare.runners.container.cgroup import hierarchies

MEMINFO = """MemTotal:       24672104 kB
Dirty:               512 kB
Writeback:            24 kB
WritebackTmp:          0 kB
HugePages_Total:       0
"""
V1 = """31 24 0:27 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
32 24 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 24 0:29 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
34 24 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
"""


def test_unwritten_is_dirty_plus_writeback() -> None:
    assert caches.unwritten_bytes(MEMINFO) == 536 * 1024


def test_steal_is_the_eighth_column() -> None:
    assert facts._steal_fraction("cpu  10 0 10 70 0 0 0 10 0 0\ncpu0 1 1 1\n") == 0.1
    assert facts._steal_fraction("cpu  0 0 0 0 0 0 0 0 0 0\n") == 0.0


def test_the_cpu_model_is_read_on_both_architectures() -> None:
    assert facts._cpu_model("processor : 0\nmodel name\t: Intel(R) Xeon(R)\n") == "Intel(R) Xeon(R)"
    assert facts._cpu_model("Model\t\t: Raspberry Pi 4\n") == "Raspberry Pi 4"


def test_home_is_found_in_every_hierarchy_that_is_mounted() -> None:
    layout = hierarchies.parse(V1)
    text = "4:memory:/login\u2028/1\n2:cpu:/\n1:cpuset:/not/mounted\n0::/unified/not/mounted\n"
    assert [f"{mount}:{path}" for mount, path in run_cgroup._home(text, layout)] == [
        "/sys/fs/cgroup/memory:login\u2028/1",  # the kernel's lines end with a newline alone
        "/sys/fs/cgroup/cpu:",
    ]


def test_mounts_of_the_run_are_told_from_others() -> None:
    text = (
        "40 1 0:40 / /run/tare-1a2b/3/root rw - overlay overlay rw\n"
        "41 1 0:41 / /run/tare-ffff/3/root rw - overlay overlay rw\n"
        "42 1 0:42 / /home rw - ext4 /dev/vda rw\n"
        "43 1 0:43 / /run/tare-1a2b/a\x0cb rw - ext4 /dev/vda rw\n"
    )
    assert _mounts("tare-1a2b", text) == ["/run/tare-1a2b/3/root", "/run/tare-1a2b/a\x0cb"]


def test_the_audit_names_what_is_new_and_its_owner() -> None:
    before = {"mount": frozenset({"/old"}), "cgroup": frozenset[str]()}
    after = {"mount": frozenset({"/old", "/run/tare-1a2b-12/x"}), "cgroup": frozenset[str]()}
    (leak,) = difference(before, after, lambda name: "crun" if "tare-1a2b-12" in name else "")
    assert (leak.kind, leak.name, leak.owner) == ("mount", "/run/tare-1a2b-12/x", "crun")


def test_a_host_can_be_read_and_judged_here() -> None:
    found = facts.collect()
    assert found.cpus >= 1
    assert found.memory_bytes > 0
    assert len(found.machine_id) == 16
    assert [finding.name for finding in found.findings][:2] == ["user", "cgroups"]
    assert all(finding.level == "ok" or finding.fix for finding in found.findings)
