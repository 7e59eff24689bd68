"""What else on this host changes memory or time while something is measured, and how to switch it off.

Everything is read from files that any user may read, below a root that tests replace; what only root may read says so
by its traces. Each check gives one finding: fine, or what it does to the figures. Nothing here changes the host.
Sources: the kernel's Documentation/admin-guide/mm (damon, ksm, zswap, multigen_lru, transhuge), sysctl/vm.rst,
sysctl/kernel.rst; proc(5), capabilities(7), cgroups(7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tare.bench.records.header import Finding
from tare.bench.records.metrics import show

_MM = "sys/kernel/mm"
_KDAMONDS = f"{_MM}/damon/admin/kdamonds"
_SLEEP = f"{_MM}/ksm/sleep_millisecs"
_THP = f"{_MM}/transparent_hugepage"
#: What the kernel itself chooses; more means that somebody asked for it.
_USUAL_PROACTIVENESS = 20
#: A ramp uses two descriptors for each instance, and the harness uses some of its own.
_FEW_FILES = 4096
_CAP_SYS_RESOURCE = 24
#: DAMON's actions that only watch.
_WATCHES = frozenset(("stat",))
#: The name of a process (15 characters, proc_pid_comm(5)) -> what it changes.
_DAEMONS = {
    "tuned": "sets governor, huge pages and memory settings by load",
    "ksmtuned": "turns samepage merging on when memory is short",
    "numad": "moves processes and their memory between nodes",
    "systemd-oomd": "ends cgroups under memory pressure",
    "earlyoom": "ends processes when memory is short",
    "nohang": "ends processes when memory is short",
    "auto-cpufreq": "changes the clock rate",
    "tlp": "changes the clock rate",
    "thermald": "lowers the clock rate when it gets warm",
    "power-profiles-": "changes the clock rate",
    "bpftune": "changes kernel settings by load",
    "ananicy-cpp": "changes priorities of processes",
    "ananicy": "changes priorities of processes",
    "uresourced": "gives memory and processor time to the session in front",
}
#: Words of the kernel's command line that make every allocation slower or larger.
_DEBUG = (
    "slub_debug",
    "slab_debug",
    "page_owner=on",
    "page_poison",
    "debug_pagealloc=on",
    "kmemleak=on",
    "init_on_free=1",
)
#: What a kernel says to yes.
_YES = ("Y", "y", "1")


@dataclass(frozen=True, slots=True)
class Tree:
    """The files below *root*, which is ``/`` but in tests."""

    root: Path = Path("/")

    def text(self, path: str) -> str:
        """The content without white space around it; empty where there is none to read."""
        with suppress(OSError):
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        return ""

    def texts(self, pattern: str) -> list[str]:
        """The contents of all files that match, in the order of their names; what cannot be read is left out."""
        found = (self.text(str(path.relative_to(self.root))) for path in sorted(self.root.glob(pattern)))
        return [text for text in found if text]

    def number(self, path: str) -> int:
        """The first number of a file; 0 where there is none."""
        word = (self.text(path).split() or ["0"])[0]
        return int(word) if word.lstrip("-").isdigit() else 0

    def chosen(self, path: str) -> str:
        """``always [madvise] never`` -> ``madvise``."""
        text = self.text(path)
        return text.partition("[")[2].partition("]")[0] or text

    def line(self, path: str, name: str) -> str:
        """What follows *name* on the line of a file that begins with it."""
        for line in self.text(path).splitlines():
            if line.startswith(name):
                return line[len(name) :].strip(" :\t")
        return ""


def findings(tree: Tree = Tree()) -> Iterator[Finding]:
    """The finding of every check, in a fixed order."""
    return (check(tree) for check in _CHECKS)


def damon(tree: Tree) -> Finding:
    """DAMON watches which memory is used, and may act on what is not."""
    on = [
        directory
        for directory in sorted((tree.root / _KDAMONDS).glob("[0-9]*"))
        if tree.text(f"{_KDAMONDS}/{directory.name}/state") == "on"
    ]
    actions = {
        text for one in on for text in tree.texts(f"{_KDAMONDS}/{one.name}/contexts/[0-9]*/schemes/[0-9]*/action")
    }
    modules = [name for name in ("damon_reclaim", "damon_lru_sort") if _enabled(tree, name)]
    acts = sorted(actions - _WATCHES | {{"damon_reclaim": "pageout"}.get(name, "lru_prio") for name in modules})
    fix = "; ".join(
        [*(f"echo off > /{_KDAMONDS}/{one.name}/state" for one in on)]
        + [f"echo N > /sys/module/{name}/parameters/enabled" for name in modules]
    )
    if acts:
        what = f"DAMON is on and acts ({', '.join(acts)}): {_effect(acts)}"
        return _note("idle memory", what, fix)
    threads = [text for text in tree.texts("proc/[0-9]*/comm") if text.startswith("kdamond")]
    if threads and not on and not _enabled(tree, "damon_stat"):
        what = f"DAMON is on ({threads[0]}) and may take idle memory from instances; only root may read what it does"
        return _note("idle memory", what, f"as root: echo off > /{_KDAMONDS}/0/state (`tare doctor` as root says more)")
    if on or threads:
        what = "DAMON watches which memory is used and changes nothing; it only takes processor time"
        return _note("idle memory", what, fix or "echo N > /sys/module/damon_stat/parameters/enabled")
    return _ok("idle memory", "DAMON is off: idle memory stays")


def _enabled(tree: Tree, module: str) -> bool:
    return tree.text(f"sys/module/{module}/parameters/enabled") in _YES


def _effect(actions: list[str]) -> str:
    """What DAMON's actions do to figures."""
    if "pageout" in actions:
        return "memory that an instance does not touch is written out or dropped, so memory figures shrink with time"
    if {"hugepage", "nohugepage", "collapse"} & set(actions):
        return "huge pages are made and split, so memory figures change with time"
    return "memory is moved between lists or nodes, which takes time and changes what is reclaimed first"


def merging(tree: Tree) -> Finding:
    """Samepage merging (KSM)."""
    run, pages = tree.text(f"{_MM}/ksm/run"), tree.number(f"{_MM}/ksm/pages_to_scan")
    advised = tree.chosen(f"{_MM}/ksm/advisor_mode") not in ("", "none")
    shared = tree.number(f"{_MM}/ksm/pages_shared")
    if run == "1" and (pages or advised):
        pace = "at an advisor's pace" if advised else f"{pages} pages every {tree.number(_SLEEP)} ms"
        what = f"on, {pace}: equal pages of different instances are merged, so memory figures shrink with time"
        return _note("samepage merging", what, f"echo 2 > /{_MM}/ksm/run")
    if run != "1" and shared:
        what = f"off, but {shared} pages are still merged; each is split when a program writes to it"
        return _note("samepage merging", what, f"echo 2 > /{_MM}/ksm/run")
    return _ok("samepage merging", "on, but it scans no pages (pages_to_scan is 0)" if run == "1" else "off")


def swap(tree: Tree) -> Finding:
    """Swap, on disk or compressed in memory."""
    rows = [line.split() for line in tree.text("proc/swaps").splitlines()[1:]]
    if not rows:
        return _ok("swap", "none")
    size, used = (sum(int(row[column]) * 1024 for row in rows) for column in (2, 3))
    packed = " (compressed in memory)" if all("zram" in row[0] for row in rows) else ""
    what = f"{_size(size)}{packed}, {_size(used)} used: memory that goes there is missing from the memory figures"
    return _note("swap", what, "swapoff -a")


def zswap(tree: Tree) -> Finding:
    """A compressed cache before swap."""
    on, swaps = _enabled(tree, "zswap"), len(tree.text("proc/swaps").splitlines()) > 1
    if on and swaps:
        what = (
            "on: swapped memory stays in memory, compressed, so free memory and the memory of processes do not add up"
        )
        return _note("zswap", what, "echo N > /sys/module/zswap/parameters/enabled")
    return _ok("zswap", "on, but there is no swap" if on else "off")


def lru(tree: Tree) -> Finding:
    """The multi-generational LRU protects what was used lately."""
    ttl = tree.number(f"{_MM}/lru_gen/min_ttl_ms")
    if ttl:
        what = (
            f"memory that was used in the last {ttl} ms is never reclaimed (lru_gen/min_ttl_ms); the OOM killer comes "
            "instead, so a ramp ends earlier, with killed instances"
        )
        return _note("reclaim", what, f"echo 0 > /{_MM}/lru_gen/min_ttl_ms")
    return _ok("reclaim", "no working set is protected")


def huge_pages(tree: Tree) -> Finding:
    """Transparent huge pages for all, and compaction inside page faults."""
    sizes = {"": tree.chosen(f"{_THP}/enabled")} | {
        path.name.removeprefix("hugepages-"): tree.chosen(f"{_THP}/{path.name}/enabled")
        for path in sorted((tree.root / _THP).glob("hugepages-*"))
    }
    always = [f"{_THP}/{f'hugepages-{size}/' if size else ''}enabled" for size, how in sizes.items() if how == "always"]
    troubles, fixes = [], [f"echo madvise > /{path}" for path in always]
    if always:
        which = ", ".join(size for size, how in sizes.items() if size and how == "always") or "all that fit"
        troubles.append(f"always ({which}): programs get larger pages than they touch, so memory figures grow")
    if tree.chosen(f"{_THP}/defrag") == "always":
        troubles.append("defrag always: a page fault waits until there is room for a huge page, so starts get slower")
        fixes.append(f"echo madvise > /{_THP}/defrag")
    if troubles:
        return _note("huge pages", "; ".join(troubles), "; ".join(fixes))
    return _ok("huge pages", sizes[""] or "none")


def numa(tree: Tree) -> Finding:
    """Automatic balancing of memory between nodes."""
    nodes = tree.text("sys/devices/system/node/has_memory") or "0"
    if tree.number("proc/sys/kernel/numa_balancing") and nodes != "0":
        what = f"balancing is on (nodes {nodes}): the kernel moves memory between nodes, which costs page faults"
        return _note("memory nodes", what, "sysctl kernel.numa_balancing=0")
    return _ok("memory nodes", "one" if nodes == "0" else f"{nodes}, not balanced")


def compaction(tree: Tree) -> Finding:
    """Proactive compaction, where somebody asked for more than the kernel does anyway."""
    proactiveness = tree.number("proc/sys/vm/compaction_proactiveness")
    if proactiveness > _USUAL_PROACTIVENESS:
        what = f"proactive ({proactiveness}): the kernel moves pages in the background, which takes processor time"
        return _note("compaction", what, f"sysctl vm.compaction_proactiveness={_USUAL_PROACTIVENESS}")
    return _ok("compaction", f"proactiveness {proactiveness}")


def overcommit(tree: Tree) -> Finding:
    """Strict accounting of memory that programs asked for."""
    if tree.number("proc/sys/vm/overcommit_memory") == 2:
        what = "strict: memory that programs asked for counts as used, so a ramp ends while much is free"
        return _note("overcommit", what, "sysctl vm.overcommit_memory=0")
    return _ok("overcommit", "not strict")


def ballooned(tree: Tree) -> Finding:
    """Memory that this machine's own host takes away and gives back."""
    inflated = tree.line("proc/vmstat", "balloon_inflate")
    plugged = [path.name for path in (tree.root / "sys/bus/virtio/drivers/virtio_mem").glob("virtio[0-9]*")]
    said = []
    if inflated.isdigit() and int(inflated):
        said.append(f"a balloon has taken {inflated} pages since the boot: free memory may change at any time")
    if plugged:
        said.append(f"{', '.join(plugged)} (virtio-mem) may add and remove memory")
    if said:
        return _note("memory of the machine", "; ".join(said), "give this machine memory of a fixed size")
    return _ok("memory of the machine", "of a fixed size, as far as this can be seen from inside")


def daemons(tree: Tree) -> Finding:
    """Programs that change settings, or end other programs."""
    running = {text for text in tree.texts("proc/[0-9]*/comm") if text in _DAEMONS}
    if running:
        what = "; ".join(f"{name} {_DAEMONS[name]}" for name in sorted(running))
        names = " ".join("power-profiles-daemon" if name == "power-profiles-" else name for name in sorted(running))
        return _note("tuning daemons", what, f"systemctl stop {names}")
    return _ok("tuning daemons", "none of the known ones is running")


def debugging(tree: Tree) -> Finding:
    """A kernel that was told to look at every allocation."""
    words = [word for word in tree.text("proc/cmdline").split() if word.startswith(_DEBUG)]
    if words:
        what = f"{' '.join(words)}: allocations are slower and larger than on other kernels"
        return _note("kernel debugging", what, "boot the kernel without it")
    return _ok("kernel debugging", "off")


def rights(tree: Tree) -> Finding:
    """Root without the right to raise limits."""
    root = tree.line("proc/self/status", "Uid:").split()[1:2] == ["0"]
    effective = int(tree.line("proc/self/status", "CapEff:") or "0", 16)
    if root and not effective >> _CAP_SYS_RESOURCE & 1:
        what = (
            "CAP_SYS_RESOURCE is missing: no limit can be raised above its hard value. Containers of podman and docker "
            "with their default limits do not start, and a ramp ends at the hard limit of open files"
        )
        fix = "start this session with it (docker run --cap-add SYS_RESOURCE), or use podman run --ulimit host"
        return _note("limits", what, fix)
    return _ok("limits", "can be raised" if root else "cannot be raised above their hard values: not root")


def files(tree: Tree) -> Finding:
    """The hard limit of open files."""
    words = tree.line("proc/self/limits", "Max open files").split()
    hard = words[1] if len(words) > 1 else "unlimited"
    if hard.isdigit() and int(hard) < _FEW_FILES:
        what = f"at most {hard}: a ramp ends at about {int(hard) // 2} instances"
        return _note("open files", what, "as root, before tare: ulimit -Hn 1048576")
    return _ok("open files", hard)


def quota(tree: Tree) -> Finding:
    """A limit on everything here, where this is itself a container."""
    words = tree.text("sys/fs/cgroup/cpu.max").split()
    for name in ("cpu", "cpu,cpuacct"):
        base = f"sys/fs/cgroup/{name}"
        words = words or [tree.text(f"{base}/cpu.cfs_quota_us"), tree.text(f"{base}/cpu.cfs_period_us")]
        words = words if all(words) else []
    most = tree.text("sys/fs/cgroup/memory.max") or tree.text("sys/fs/cgroup/memory/memory.limit_in_bytes")
    total = int((tree.line("proc/meminfo", "MemTotal:").split() or ["0"])[0]) * 1024
    said = []
    if len(words) == 2 and words[0].isdigit():
        share = int(words[0]) / int(words[1])
        said.append(f"this container may use {share:.3g} processors: whatever needs more waits for the next period")
    if most.isdigit() and int(most) < total:
        said.append(f"this container may use {_size(int(most))} of {_size(total)}: not all free memory can be used")
    if said:
        return _note("quota", "; ".join(said), "measure outside this container, or start it without limits")
    return _ok("quota", "none")


def _size(value: int) -> str:
    return show(float(value), "bytes")


def _ok(name: str, what: str) -> Finding:
    return Finding(name=name, level="ok", what=what)


def _note(name: str, what: str, fix: str) -> Finding:
    return Finding(name=name, level="note", what=what, fix=fix)


_CHECKS: tuple[Callable[[Tree], Finding], ...] = (
    damon,
    merging,
    swap,
    zswap,
    lru,
    huge_pages,
    numa,
    compaction,
    overcommit,
    ballooned,
    daemons,
    debugging,
    rights,
    files,
    quota,
)
