"""The null baseline: what the instrument reads where nothing is started, and how far its readings spread."""

from __future__ import annotations

import statistics
from pathlib import Path

from tare import runners
from tare.bench.errors import HostError
from tare.bench.experiments import start, startup
from tare.bench.host.interrupts import Interrupts
from tare.bench.readings import stalls
from tare.bench.records.readiness import Mark
from tare.runners.base import Launch, Scratch, Spec
from tare.runners.image.tree import plain

#: How often an instance that is nothing is started before the first trial.
STARTS = 100
_CONTRACT = start.Contract(ready=Mark(), timeout_s=5.0)


def resolution(cache: Path, prefix: str, interrupts: Interrupts) -> float:
    """The instrument's resolution in seconds: p95 - p5 of ready_seconds of an instance that is nothing.

    Raises HostError where the host stands still again and again, and Interrupted.
    """
    spec = Spec(argv=("nothing",), image=plain(Path("/")), memory_bytes=0, cpus=1)
    where = Scratch(directory=Path("/"), cache=cache, cgroup=None, prefix=prefix)
    with runners.load("null").prepare(spec, {}, where) as prepared:
        readings = [_ready_seconds(prepared.launch, interrupts) for _ in range(STARTS)]
    cuts = statistics.quantiles(readings, n=20)
    return cuts[-1] - cuts[0]


def _ready_seconds(launch: Launch, interrupts: Interrupts) -> float:
    """Of one start; of another, a limited number of times, where the host stood still."""
    reason = ""
    for _ in range(1 + stalls.MOST_REPEATS):
        one = startup.start_and_stop(launch, "null", _CONTRACT, interrupts=interrupts, cpu_ns=None)
        if one.status == "ok":
            return one.values["ready_seconds"]
        interrupts.check()
        reason = one.reason
    raise HostError(
        "the resolution of the instrument cannot be measured",
        reason,
        "check what else runs on this host, then run again",
    )
