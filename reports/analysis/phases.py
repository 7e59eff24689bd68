"""The timeline of a subject: from each point of a start that was stamped to the next, and the end of an instance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec
import pandas as pd

from tare.bench.stats.estimate import estimate
from tare.reports.analysis import tables
from tare.reports.analysis.figures import Phase

#: What is stamped between the request and readiness, in the usual order: as a phase's name has it, and its metric.
POINTS: tuple[tuple[str, str], ...] = (
    ("provisioned", "provisioned_seconds"),
    ("created", "created_seconds"),
    ("firmware", "firmware_seconds"),
    ("kernel", "kernel_seconds"),
    ("initramfs", "initramfs_seconds"),
    ("init", "init_seconds"),
    ("first instruction", "first_seconds"),
    ("ready", "ready_seconds"),
)
#: Of a guest these may come before its backend says that it is created.
_OF_GUESTS = ("firmware", "kernel", "initramfs", "init")
#: The phase of a workload that does not say when its first instruction runs.
WHOLE = "created to ready"
#: The phases of an end: name, span, metric at its end, metric at its begin (None: the forced stop).
_STOP: tuple[tuple[str, Literal["stop"], str, str | None], ...] = (
    ("stop to stopped", "stop", "stopped_seconds", None),
    ("stopped to removed", "stop", "removed_seconds", "stopped_seconds"),
)


def phases(frame: pd.DataFrame, medians: pd.DataFrame, label: str) -> Iterator[Phase]:
    """The timeline of one subject: only phases whose both ends were measured."""
    found = list(_phases(frame, medians, label))
    for phase in found:
        # A mark that was stamped after the next one leaves a duration below zero: no part of a sum.
        whole = sum(max(0.0, one.duration) for one in found if one.span == phase.span)
        yield msgspec.structs.replace(phase, share=max(0.0, phase.duration) / whole if whole else 0.0)


def between(found: Iterable[Phase], name: str) -> tuple[float, float] | None:
    """Duration and share of what *name* spans (``created to ready``), also where further points were stamped in it.

    The sum of the medians of its parts; None where an end of it was not stamped.
    """
    begin, _, end = name.partition(" to ")
    duration = share = 0.0
    at = ""
    for phase in found:
        before, _, after = phase.name.partition(" to ")
        if phase.span != "start" or (not at and before != begin):
            continue
        duration, share, at = duration + phase.duration, share + phase.share, after
        if at == end:
            return duration, share
    return None


def _phases(frame: pd.DataFrame, medians: pd.DataFrame, label: str) -> Iterator[Phase]:
    spans: list[tuple[str, Literal["start", "stop"], str, str | None]] = [*_start(medians, label), *_STOP]
    for name, span, end, begin in spans:
        lasted = tables.differences(frame, label, end, begin)
        if not lasted:
            continue
        spent = estimate(lasted)
        yield Phase(
            name=name,
            span=span,
            start=0.0 if begin is None else float(tables.series(medians, label, begin).median()),
            end=float(tables.series(medians, label, end).median()),
            duration=spent.median,
            low=spent.low,
            high=spent.high,
        )


def _start(medians: pd.DataFrame, label: str) -> Iterator[tuple[str, Literal["start"], str, str | None]]:
    """(name, span, metric at its end, metric at its begin or None for the request) of each phase of a start."""
    measured = {point: tables.series(medians, label, metric) for point, metric in POINTS}
    at = {point: float(values.median()) for point, values in measured.items() if not values.empty}
    points = [(point, metric) for point, metric in POINTS if point in at]
    early = [one for one in points if one[0] in _OF_GUESTS and at[one[0]] < at.get("created", 0.0)]
    if early:
        later = [one for one in points if one not in early]
        place = 1 + [point for point, _ in later].index("created")
        points = [*later[: place - 1], *early, *later[place - 1 :]]
    before, begin = "requested", None
    for point, metric in points:
        yield f"{before} to {point}", "start", metric, begin
        before, begin = point, metric
