"""What memory cgroups are charged with (cgroup-v2.rst, cgroup-v1/memory.rst)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tare.runners.container.cgroup import cgroups, hierarchies

#: Our metric -> where it stands in memory.stat: (v2, v1). v1's total_ lines count the children too, as v2's do.
FIELDS: Mapping[str, tuple[str, str]] = {
    "cgroup_anon_bytes": ("anon", "total_rss"),
    "cgroup_file_bytes": ("file", "total_cache"),
    "cgroup_shmem_bytes": ("shmem", "total_shmem"),
    "cgroup_kernel_bytes": ("kernel", ""),
}


def counters(directory: Path) -> dict[str, str]:
    """What memory cgroups such as the one at *directory* count: our metric -> the file; ``memory.stat`` for itself.

    Asked once for all instances: to look for a file that is not there leaves a negative dentry each time.
    """
    there = set(os.listdir(directory))
    wanted = {
        "cgroup_current_bytes": ("memory.current", "memory.usage_in_bytes"),
        "cgroup_peak_bytes": ("memory.peak", "memory.max_usage_in_bytes"),
        "cgroup_kernel_bytes": ("memory.kmem.usage_in_bytes",),
        "memory.stat": ("memory.stat",),
    }
    return {metric: name for metric, names in wanted.items() for name in names if name in there}


def charged(directory: Path, files: Mapping[str, str]) -> dict[str, float]:
    """What the memory cgroup at *directory* is charged with, by its :func:`counters`: current, peak, and its split."""
    found: dict[str, float] = {}
    for metric, name in files.items():
        text = hierarchies.read(f"{directory}/{name}")
        if metric == "memory.stat":
            found.update(parse_memory_stat(text))
        else:
            found[metric] = float(text)
    return found


def parse_memory_stat(text: str) -> dict[str, float]:
    """The metrics of :data:`FIELDS` that a memory.stat text has, v1 or v2, in bytes."""
    values = dict(line.split() for line in text.splitlines())
    old = "total_rss" in values
    wanted = {metric: names[1] if old else names[0] for metric, names in FIELDS.items()}
    return {metric: float(values[name]) for metric, name in wanted.items() if name in values}


def memory_cgroup(directory: Path | None, where: cgroups.Layout) -> Path | None:
    """The memory cgroup of an instance whose cpuacct (v1) or unified (v2) cgroup is *directory*."""
    if directory is None or "memory" not in where.v1:
        return directory
    for mount in filter(None, (where.v1.get("cpuacct"), where.v2)):
        if directory.is_relative_to(mount):
            return Path(where.v1["memory"], directory.relative_to(mount))
    return None
