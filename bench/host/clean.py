"""``tare clean``: remove what killed runs left, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from tare import runners
from tare.bench.host import run_cgroup, workspace


def clean(report: Callable[[str], None]) -> None:
    """Remove what killed runs left, by our prefix only; *report* is told the name of each thing removed.

    Raises UsageError while a run is measuring, HostError for what cannot be removed.
    """
    with workspace.locked():
        for name in runners.REGISTRY:
            for removed in runners.load(name).sweep():
                report(removed)
        for relative in run_cgroup.leftovers():
            report(f"cgroup {relative}")
            run_cgroup.remove(relative)
        for stray in run_cgroup.strays():
            report(f"directory {stray}")
            shutil.rmtree(stray)
        for directory in workspace.leftovers():
            report(f"directory {directory}")
            workspace.remove(directory)
