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

import psutil

from bench.metrics import show
from bench.records import Finding, Host
from runners.container import cgroups

_LIBRARIES = ("tarebench", "msgspec", "numpy", "scipy", "psutil", "libvirt-python")
_LEAST_FREE_BYTES = 1 << 30


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
        facts=_facts(),
        findings=tuple(findings()),
    )


def findings() -> Iterable[Finding]:
    """Every check's finding, in a fixed order."""
    return [check() for check in _CHECKS]


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that have a part in the measurement; those not installed are left out."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_revision() -> str:
    """``git describe`` of the checkout that this code runs from; empty when it is none, or git is missing."""
    git = shutil.which("git")
    root = Path(__file__).resolve().parent.parent
    if git is None or not (root / ".git").exists():
        return ""
    command = [git, "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


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


def _facts() -> dict[str, str]:
    load = os.getloadavg()
    facts = {
        "distribution": _distribution(),
        "clock source": _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "frequency governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "not exposed",
        "transparent huge pages": _chosen(_text("/sys/kernel/mm/transparent_hugepage/enabled")),
        "kernel samepage merging": {"0": "off", "1": "on", "2": "off, unmerged"}.get(
            _text("/sys/kernel/mm/ksm/run"), "absent"
        ),
        "swap": show(float(psutil.swap_memory().total), "bytes"),
        "load average": f"{load[0]:.2f} {load[1]:.2f} {load[2]:.2f}",
        "steal since boot": f"{_steal_fraction(_text('/proc/stat')):.2%}",
        "memory available": show(float(psutil.virtual_memory().available), "bytes"),
        "open files limit": str(os.sysconf("SC_OPEN_MAX")),
        "user": "root" if os.geteuid() == 0 else "not root",
    }
    return {name: value for name, value in facts.items() if value}


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _chosen(text: str) -> str:
    """``always [madvise] never`` -> ``madvise``."""
    return text.partition("[")[2].partition("]")[0] or text


def _steal_fraction(proc_stat: str) -> float:
    """Share of processor time that the hypervisor gave to others, since boot (proc_stat(5), column 8)."""
    first = proc_stat.partition("\n")[0].split()[1:]
    ticks = [int(word) for word in first[:8]]
    total = sum(ticks)
    return ticks[7] / total if len(ticks) == 8 and total else 0.0


def _check_cgroups() -> Finding:
    if why := cgroups.usable():
        return Finding(
            name="cgroups",
            level="bad",
            what=f"no cgroup can be made: {why}; no processor time is measured, and containers cannot run",
            fix="run as root, or in a delegated cgroup (systemd-run --user --scope -p Delegate=yes)",
        )
    return Finding(name="cgroups", level="ok", what=f"{cgroups.mode()}: memory, pids and cpu can be limited")


def _check_user() -> Finding:
    if os.geteuid():
        return Finding(
            name="user",
            level="note",
            what="not root: caches cannot be dropped, and containers that need root are skipped",
            fix="run as root (sudo .venv/bin/tare ...)",
        )
    return Finding(name="user", level="ok", what="root")


def _check_memory() -> Finding:
    free = psutil.virtual_memory().available
    if free < _LEAST_FREE_BYTES:
        return Finding(
            name="memory",
            level="bad",
            what=f"only {show(float(free), 'bytes')} available: the host may swap or kill during a run",
            fix="stop what uses the memory",
        )
    return Finding(name="memory", level="ok", what=f"{show(float(free), 'bytes')} available")


def _check_load() -> Finding:
    load, cpus = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > cpus / 2:
        return Finding(
            name="load",
            level="note",
            what=f"load {load:.2f} on {cpus} processors: other work competes with what is measured",
            fix="wait until the host is idle",
        )
    return Finding(name="load", level="ok", what=f"{load:.2f} on {cpus} processors")


def _check_steal() -> Finding:
    steal = _steal_fraction(_text("/proc/stat"))
    if steal > 0.01:
        return Finding(
            name="steal",
            level="note",
            what=f"{steal:.1%} of processor time since boot went to other guests of this machine's host",
            fix="measure on a dedicated machine, or take more rounds",
        )
    return Finding(name="steal", level="ok", what=f"{steal:.2%} since boot")


def _check_virtualization() -> Finding:
    kind = _virtualization()
    if kind == "none":
        return Finding(name="virtualization", level="ok", what="none: bare metal, or well hidden")
    return Finding(
        name="virtualization",
        level="note",
        what=f"{kind}: virtual machines here are nested or emulated, and slower than on bare metal",
        fix="measure virtual machines on bare metal",
    )


def _check_governor() -> Finding:
    governor = _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor and governor != "performance":
        return Finding(
            name="frequency",
            level="note",
            what=f"governor {governor}: the clock rate changes with the load",
            fix="cpupower frequency-set -g performance",
        )
    return Finding(name="frequency", level="ok", what=governor or "not exposed to this host")


def _check_ksm() -> Finding:
    if _text("/sys/kernel/mm/ksm/run") == "1":
        return Finding(
            name="samepage merging",
            level="note",
            what="on: equal pages of different instances are merged, memory figures shrink with time",
            fix="echo 0 > /sys/kernel/mm/ksm/run",
        )
    return Finding(name="samepage merging", level="ok", what="off")


def _check_swap() -> Finding:
    swap = psutil.swap_memory()
    if swap.total:
        return Finding(
            name="swap",
            level="note",
            what=f"{show(float(swap.total), 'bytes')}, {show(float(swap.used), 'bytes')} used: memory may leave unseen",
            fix="swapoff -a",
        )
    return Finding(name="swap", level="ok", what="none")


def _check_clock() -> Finding:
    source = _text("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    if source not in ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"):
        return Finding(
            name="clock",
            level="note",
            what=f"clock source {source or 'unknown'}: reading it costs a microsecond or more",
            fix="boot with clocksource=tsc if the processor's is stable",
        )
    return Finding(name="clock", level="ok", what=source)


_CHECKS: tuple[Callable[[], Finding], ...] = (
    _check_user,
    _check_cgroups,
    _check_memory,
    _check_load,
    _check_steal,
    _check_virtualization,
    _check_governor,
    _check_clock,
    _check_ksm,
    _check_swap,
)
