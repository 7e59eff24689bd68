"""Machines that several containers share: what one more takes while there is room, and what the next machine takes.

Between full machines the memory of the host rises by steps, which no line shows: its slope lies between both. A step
rests on few readings, so the anonymous memory of other processes is left out of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import pandas as pd

from tare.bench.records.header import SubjectRecord
from tare.bench.stats.estimate import estimate
from tare.reports import words
from tare.reports.analysis.model import Claim
from tare.reports.sections.ramp.memory import slopes
from tare.reports.sections.ramp.memory.model import Step
from tare.runners import layers


def steps(table: pd.DataFrame, subjects: Sequence[SubjectRecord]) -> Iterator[Step]:
    """One row for each subject whose machines take several, and of which a full one and a further one were read."""
    for subject in subjects:
        places = layers.places(subject.facts)
        if places == 1:
            continue
        rounds = slopes.points(table, subject.label, slopes.OWN).values()
        found = [one for one in (_of_round(points, places) for points in rounds) if one is not None]
        if not found:
            continue
        inner, whole = (estimate(list(values)) for values in zip(*found, strict=True))
        yield Step(
            subject=subject.label, places=places, rounds=len(found), emulated=subject.accelerator == "tcg",
            margin_bytes=inner.median, margin_low=inner.low, margin_high=inner.high,
            step_bytes=whole.median, step_low=whole.low, step_high=whole.high,
        )  # fmt: skip


def _of_round(points: slopes.Points, places: int) -> tuple[float, float] | None:
    """What one more takes in one machine (the median slope between two readings), and the first one of the next."""
    read = [(int(n), taken) for n, taken in points if n > 1]
    machine = {n: (n - 1) // places for n, _ in read}
    pairs = list(itertools.combinations(read, 2))
    within = [(z - y) / (m - n) for (n, y), (m, z) in pairs if machine[n] == machine[m]]
    if not within:
        return None
    margin = median(within)
    # Between two readings that follow each other, all but one find room in one of both machines.
    beyond = [
        z - y - (m - n - 1) * margin for (n, y), (m, z) in itertools.pairwise(read) if machine[m] == machine[n] + 1
    ]
    return (margin, median(beyond)) if beyond else None


def claims(found: Sequence[Step], refused: Mapping[str, str]) -> Iterator[Claim]:
    """The sentence of each, but for *refused* subjects."""
    for one in found:
        if one.subject in refused:
            continue
        ends = [
            f"{name} {words.interval(low, high, 'bytes')}"
            for name, low, high in (
                ("while there is room", one.margin_low, one.margin_high),
                ("the next machine", one.step_low, one.step_high),
            )
            if low is not None
        ]
        grounds = f"95 % CI {', '.join(ends)}; " if ends else ""
        mark = f" ({words.EMULATED})" if one.emulated else ""
        rounds = words.plural(one.rounds, "round")
        yield Claim(
            lead=(
                f"{one.subject}: a machine takes {one.places} containers. One more takes "
                f"{words.size(one.margin_bytes)} while there is room, and {words.size(one.step_bytes)} where the next "
                "machine boots for it"
            ),
            detail=f"memory of the host, without that of other processes, {grounds}{rounds}{mark}.",
            subject=one.subject,
            verdict="no difference shown",
            emulated=one.emulated,
        )
