"""The time and the memory of a start, by the definitions that people use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tare.reports.analysis.definitions import counted, quantity
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Counted, Definition, OneQuantity
from tare.reports.sections import Found
from tare.runners import layers

#: The runner whose helper stays and is warm, and the one that starts a fresh program of the same runtime each time.
_WARM, _COLD = "container", "container-cold"


def definitions(found: Found) -> tuple[OneQuantity, ...]:
    """How long a start takes, and what it holds once it is ready."""
    measured = [one for one in found.subjects if not one.skipped and not layers.is_null(one.runner)]
    scenario = found.header.scenario
    return (
        *quantity("the time of a start", "seconds", _times(measured, scenario.name, scenario.run.cache)),
        *quantity("the memory of one instance", "bytes", _memory(measured)),
    )


def _times(subjects: Sequence[SubjectFigures], scenario: str, cache: str) -> Iterator[Definition]:
    yield Definition(
        name="the whole way, by the host's clock",
        text=f"from the request until ready, with a {cache} page cache: what somebody waits who asks for an instance",
        ours=True,
        numbers=_numbers(subjects, "ready_seconds"),
    )
    yield Definition(
        name="until its first instruction",
        text="where a boot counts as done once the first program runs: without what the payload does until ready",
        numbers=_numbers(subjects, "first_seconds"),
    )
    yield Definition(
        name="until the backend says that it is created",
        text="where a tool times its own call: it ends before the instance runs",
        numbers=_numbers(subjects, "created_seconds"),
    )
    yield Definition(
        name="processor time",
        text="what the start used of processors, on all of them together; waiting is not in it",
        numbers=_numbers(subjects, "cpu_seconds"),
    )
    if shares := _numbers(subjects, "runtime_seconds"):
        yield Definition(
            name="the OCI runtime's own share",
            text="the part of the whole way in which the runtime under an engine worked; the rest is the engine: "
            "client, daemon, monitor",
            numbers=shares,
        )
    fresh = next((one for one in subjects if one.runner == _COLD), None)
    warm = [one for one in subjects if one.runner == _WARM]
    yield Definition(
        name="without a helper that stays",
        text="a fresh program of the same runtime for each start, in place of a fork server that is already running",
        command="" if not warm or fresh else "tare run runtime",
        numbers=tuple(counted(one.label, fresh.figure("ready_seconds")) for one in warm) if fresh else (),
    )
    other = "cold" if cache == "warm" else "warm"
    yield Definition(
        name=f"with a {other} page cache",
        text="the same way, when files must be read from the disk"
        if other == "cold"
        else "the same way, files in memory",
        command=f"tare run {scenario} --cache {other}",
    )


def _memory(subjects: Sequence[SubjectFigures]) -> Iterator[Definition]:
    yield Definition(
        name="PSS when ready",
        text="of all processes that the instance needs; what several map counts in parts",
        ours=True,
        numbers=_numbers(subjects, "pss_bytes"),
    )
    yield Definition(
        name="RSS, USS, cgroup, MemAvailable, or all that the host lacks",
        text="other counters, and the memory of the host's kernel, which no process shows",
        command="tare run memory",
    )


def _numbers(subjects: Sequence[SubjectFigures], metric: str) -> tuple[Counted, ...]:
    figures = ((one.label, one.figure(metric)) for one in subjects if one.has(metric))
    return tuple(counted(label, figure) for label, figure in figures if figure.median is not None)
