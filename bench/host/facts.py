"""What this host is, and what about it will show in the numbers.

Facts go into the header of every run; findings are what the doctor says. Nothing here changes the host.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from tare.bench.host import disturbances
from tare.bench.host.disturbances import Tree
from tare.bench.records.header import Finding, Host
from tare.bench.records.metrics import show
from tare.runners.container.cgroup import cgroups

_LIBRARIES = ("tarebench", "msgspec", "numpy", "scipy", "psutil", "libvirt-python")
_LEAST_FREE_BYTES = 1 << 30
_MOST_STEAL = 0.01
_FAST_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")


def collect() -> Host:
    """Read the facts and judge them. Takes some milliseconds."""
    return Host(
        machine_id=_machine_id(),
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
        cpu_model=_cpu_model(_text("/proc/cpuinfo")),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=psutil.virtual_memory().total,
        kernel=platform.release(),
        cgroup_mode=cgroups.mode(),
        virtualization=_virtualization(),
        facts=_facts(Tree()),
        findings=tuple(findings()),
    )


def findings() -> Iterable[Finding]:
    """Every check's finding, in a fixed order, what disturbs (:mod:`bench.host.disturbances`) last."""
    return [*(check() for check in _CHECKS), *disturbances.findings()]


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that have a part in the measurement; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


_GIT_S = 20


def git_revision() -> str:
    """``git describe`` of the checkout that this code runs from; empty when it is none, or git is missing or stuck."""
    git = shutil.which("git")
    root = Path(__file__).resolve().parents[2]
    if git is None or not (root / ".git").exists():
        return ""
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=_GIT_S)
    except (subprocess.TimeoutExpired, OSError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _machine_id() -> str:
    """A stable name for this machine that does not give away the original (machine-id(5) asks for a keyed hash)."""
    own = _text("/etc/machine-id") or platform.node()
    return hashlib.sha256(f"tare:{own}".encode()).hexdigest()[:16]


def _cpu_model(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def _virtualization() -> str:
    """``none``, or that this host is itself a guest and of what, as far as it can tell."""
    if "hypervisor" not in _text("/proc/cpuinfo").split():
        return "none"
    vendor = _text("/sys/class/dmi/id/sys_vendor") or _text("/sys/hypervisor/type")
    return f"guest of {vendor}" if vendor else "guest of an unnamed hypervisor"


def _facts(tree: Tree) -> dict[str, str]:
    load = os.getloadavg()
    facts = {
        "distribution": _distribution(),
        **settings(tree),
        "swap": show(float(psutil.swap_memory().total), "bytes"),
        "load average": f"{load[0]:.2f} {load[1]:.2f} {load[2]:.2f}",
        "steal since boot": f"{_steal_fraction(_text('/proc/stat')):.2%}",
        "memory available": show(float(psutil.virtual_memory().available), "bytes"),
        "open files limit": str(os.sysconf("SC_OPEN_MAX")),
        "user": "root" if os.geteuid() == 0 else "not root",
    }
    return {name: value for name, value in facts.items() if value}


def settings(tree: Tree) -> dict[str, str]:
    """What somebody chose on this host, and what shows in numbers; in words also where there is nothing to read."""
    cpu = "sys/devices/system/cpu"
    boost = tree.text(f"{cpu}/cpufreq/boost") or {"0": "1", "1": "0"}.get(tree.text(f"{cpu}/intel_pstate/no_turbo"), "")
    on_off = {"0": "off", "1": "on"}
    return {
        "clock source": tree.text("sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "frequency governor": tree.text(f"{cpu}/cpu0/cpufreq/scaling_governor") or "not exposed",
        "turbo": on_off.get(boost, "not exposed"),
        "hyperthreads": on_off.get(tree.text(f"{cpu}/smt/active"), "not exposed"),
        "microcode": tree.line("proc/cpuinfo", "microcode") or "not exposed",
        "mitigations": _mitigations(tree) or "not exposed",
        "kernel command line": tree.text("proc/cmdline"),
        "transparent huge pages": tree.chosen("sys/kernel/mm/transparent_hugepage/enabled") or "absent",
        "huge page defragmentation": tree.chosen("sys/kernel/mm/transparent_hugepage/defrag") or "absent",
        "kernel samepage merging": {"0": "off", "1": "on", "2": "off, unmerged"}.get(
            tree.text("sys/kernel/mm/ksm/run"), "absent"
        ),
        "samepage merging pace": _pace(
            tree.text("sys/kernel/mm/ksm/pages_to_scan"), tree.text("sys/kernel/mm/ksm/sleep_millisecs")
        ),
        "idle memory": disturbances.damon(tree).what,
        "zswap": {"Y": "on", "N": "off"}.get(tree.text("sys/module/zswap/parameters/enabled"), "absent"),
        "multi-generational LRU": tree.text("sys/kernel/mm/lru_gen/enabled") or "absent",
        "protected working set": f"{tree.number('sys/kernel/mm/lru_gen/min_ttl_ms')} ms",
        "overcommit": tree.text("proc/sys/vm/overcommit_memory"),
        "swappiness": tree.text("proc/sys/vm/swappiness"),
        "proactive compaction": tree.text("proc/sys/vm/compaction_proactiveness") or "absent",
        "balancing between nodes": tree.text("proc/sys/kernel/numa_balancing") or "absent",
        "tuning daemons": disturbances.daemons(tree).what,
        "quota": disturbances.quota(tree).what,
        "limits": disturbances.rights(tree).what.partition(":")[0],
    }


def _mitigations(tree: Tree) -> str:
    """What the kernel does against each flaw that the processor has (Documentation/admin-guide/hw-vuln)."""
    flaws = sorted((tree.root / "sys/devices/system/cpu/vulnerabilities").glob("*"))
    said = {flaw.name: tree.text(f"sys/devices/system/cpu/vulnerabilities/{flaw.name}") for flaw in flaws}
    return "; ".join(f"{name}: {text}" for name, text in said.items() if text and text != "Not affected") or (
        "none needed" if said else ""
    )


def _pace(pages: str, milliseconds: str) -> str:
    """How fast samepage merging looks at memory when it is on."""
    return f"{pages} pages every {milliseconds} ms" if pages and milliseconds else "absent"


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _steal_fraction(proc_stat: str) -> float:
    """Share of processor time that the hypervisor gave to others, since boot (proc_stat(5), column 8)."""
    first = proc_stat.partition("\n")[0].split()[1:]
    ticks = [int(word) for word in first[:8]]
    total = sum(ticks)
    return ticks[7] / total if len(ticks) == 8 and total else 0.0


def _judged(name: str, fine: str, trouble: str, fix: str, *, level: Literal["note", "bad"] = "note") -> Finding:
    """ok with *fine*, unless there is *trouble*."""
    if trouble:
        return Finding(name=name, level=level, what=trouble, fix=fix)
    return Finding(name=name, level="ok", what=fine)


def _check_user() -> Finding:
    trouble = "not root: caches cannot be dropped, and runners that need root are skipped" if os.geteuid() else ""
    return _judged("user", "root", trouble, "run as root (sudo .venv/bin/tare ...)")


def _check_cgroups() -> Finding:
    why = cgroups.usable()
    trouble = f"no cgroup can be made: {why}; processor time is not measured, and containers cannot run" if why else ""
    fix = "run as root, or in a delegated cgroup (systemd-run --user --scope -p Delegate=yes)"
    return _judged("cgroups", f"{cgroups.mode()}: memory, pids and cpu can be limited", trouble, fix, level="bad")


def _check_memory() -> Finding:
    free = psutil.virtual_memory().available
    said = f"{show(float(free), 'bytes')} available"
    trouble = f"only {said}: the host may swap or kill during a run" if free < _LEAST_FREE_BYTES else ""
    return _judged("memory", said, trouble, "stop what uses the memory", level="bad")


def _check_load() -> Finding:
    load, cpus = os.getloadavg()[0], len(os.sched_getaffinity(0))
    said = f"{load:.2f} on {cpus} processors"
    trouble = f"{said}: other programs compete with what is measured" if load > cpus / 2 else ""
    return _judged("load", said, trouble, "wait until the host is idle")


def _check_steal() -> Finding:
    steal = _steal_fraction(_text("/proc/stat"))
    trouble = f"{steal:.1%} of processor time since boot went to other guests of this machine's host"
    fix = "measure on a dedicated machine, or measure more rounds"
    return _judged("steal", f"{steal:.2%} since boot", trouble if steal > _MOST_STEAL else "", fix)


def _check_virtualization() -> Finding:
    kind = _virtualization()
    trouble = f"{kind}: virtual machines here are nested or emulated, and slower than on bare metal"
    fine = "none found: bare metal, or a hypervisor that hides itself"
    return _judged("virtualization", fine, trouble if kind != "none" else "", "measure virtual machines on bare metal")


def _check_governor() -> Finding:
    governor = _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    moves = governor not in ("", "performance")
    trouble = f"governor {governor}: the clock rate changes with the load" if moves else ""
    return _judged(
        "frequency", governor or "not exposed to this host", trouble, "cpupower frequency-set -g performance"
    )


def _check_clock() -> Finding:
    source = _text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    slow = source not in _FAST_CLOCKS
    trouble = f"clock source {source or 'unknown'}: reading the clock takes a microsecond or more" if slow else ""
    return _judged("clock", source, trouble, "boot with clocksource=tsc, if the processor's clock is stable")


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _check_user,
    _check_cgroups,
    _check_memory,
    _check_load,
    _check_steal,
    _check_virtualization,
    _check_governor,
    _check_clock,
)
