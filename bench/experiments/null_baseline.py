"""The null baseline: what the instrument reads where nothing is started, and how far its readings spread.

A contract that is awaited by attempts adds what these cannot see: a workload may get ready just after one, and is found
so by the next, one period and the time of an attempt later. Both are measured where something always answers.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from tare import runners
from tare.bench.errors import HostError
from tare.bench.experiments import start, startup
from tare.bench.experiments.trial import TrialResult
from tare.bench.host.interrupts import Interrupts
from tare.bench.readiness import load
from tare.bench.readings import stalls
from tare.bench.records.header import AttemptResolution
from tare.bench.records.readiness import Exec, Http, Mark, Ready, Tcp, kind
from tare.runners.base import Launch, Scratch, Spec
from tare.runners.image.tree import plain

#: How often an instance that is nothing is started before the first trial.
STARTS = 100
_TIMEOUT_S = 5.0


def resolution(cache: Path, prefix: str, interrupts: Interrupts) -> float:
    """The instrument's resolution in seconds: p95 - p5 of ready_seconds of an instance that is nothing.

    Raises HostError where the host stands still again and again, and Interrupted.
    """
    return _spread([one.values["ready_seconds"] for one in _starts(Mark(), cache, prefix, interrupts)])


def of_attempts(ready: Ready, cache: Path, prefix: str, interrupts: Interrupts) -> AttemptResolution | None:
    """What *ready* adds, if it is awaited by attempts: tcp, http and exec are. Raises as :func:`resolution`."""
    period_s = load(ready).PERIOD_S
    if not period_s:
        return None
    found = [one.values for one in _starts(_answered(ready), cache, prefix, interrupts)]
    attempt_s = statistics.median(one["attempt_seconds"] for one in found)
    return AttemptResolution(
        by=kind(ready),
        period_seconds=period_s,
        attempt_seconds=attempt_s,
        resolution_seconds=period_s + attempt_s + _spread([one["ready_seconds"] for one in found]),
    )


def _answered(ready: Ready) -> Ready:
    """The contract of *ready*'s kind that the null runner fulfils."""
    match ready:
        case Tcp():
            return Tcp(port=1)
        case Http():
            return Http(port=1)
        case _:
            return Exec(argv=("true",))


def _spread(readings: list[float]) -> float:
    cuts = statistics.quantiles(readings, n=20)
    return cuts[-1] - cuts[0]


def _starts(ready: Ready, cache: Path, prefix: str, interrupts: Interrupts) -> list[TrialResult]:
    """Start an instance that is nothing :data:`STARTS` times."""
    port = getattr(ready, "port", None)
    ports = () if port is None else (port,)
    spec = Spec(argv=("nothing",), image=plain(Path("/")), memory_bytes=0, cpus=1, ports=ports)
    where = Scratch(directory=Path("/"), cache=cache, cgroup=None, prefix=prefix)
    contract = start.Contract(ready=ready, timeout_s=_TIMEOUT_S)
    with runners.load("null").prepare(spec, {}, where) as prepared:
        return [_one(prepared.launch, contract, interrupts) for _ in range(STARTS)]


def _one(launch: Launch, contract: start.Contract, interrupts: Interrupts) -> TrialResult:
    """One start; another, a limited number of times, where the host stood still."""
    reason = ""
    for _ in range(1 + stalls.MOST_REPEATS):
        one = startup.start_and_stop(launch, "null", contract, interrupts=interrupts, cpu_ns=None)
        if one.status == "ok":
            return one
        interrupts.check()
        reason = one.reason
    raise HostError(
        "the resolution of the instrument cannot be measured",
        reason,
        "check what else runs on this host, then run again",
    )
