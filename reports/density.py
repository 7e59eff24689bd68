"""Density: how many instances the first readings promise, how many there really were, and where the two part.

The prediction rests on the readings up to a fifth of what was reached (reports/promise.py), and on MemAvailable, which
is what the rules that end an ascent look at (bench/stop.py), with the pages on processors' own lists, and less what
other processes took meanwhile: they come and go by tens of megabytes, and are no instance's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any, Literal

import pandas as pd

from bench.records import Outcome
from bench.stats import LEAST_CHANGE
from bench.store import Run
from reports import ascents, frames, ledger
from reports.ascents import Ascents
from reports.memory_model import DensityRow
from reports.promise import Promise, promise

#: So many readings at the end must leave the line.
LEAST_OFF = 2

MEMORY_RULES = ("memory floor", "memory budget")
AVAILABLE = "host_available_bytes"


def rows(run: Run, read: Ascents) -> Iterator[DensityRow]:
    """One row for each ascent that ended ok and was read on its way."""
    stack = run.header.scenario.get("stack", {})
    taken = used(read)
    for outcome in frames.last_outcomes(run).values():
        if outcome.kind != "measured" or outcome.status != "ok" or not outcome.stopped_by:
            continue
        host, after = (ascents.one(frame, outcome.subject, outcome.round) for frame in (read.host, read.after))
        if 0 in host.index and len(host) > 1:
            yield _row(outcome, host, after, ascents.one(taken, outcome.subject, outcome.round), stack)


def used(read: Ascents) -> pd.DataFrame:
    """By subject, round and n >= 1: what of the available memory instances ``used``, and what ``others`` took."""
    changes = ledger.changes(read)
    if changes.empty:
        return pd.DataFrame(columns=["used", "others"], index=changes.index)
    lists = ledger.moved(read.host)["host_percpu_lists_bytes"].reindex(changes.index)
    others = changes[ledger.OTHERS]
    return pd.DataFrame({"used": changes[ledger.AVAILABLE] - lists - others, "others": others})


def knee(taken: pd.Series, line: Promise) -> int | None:
    """The first reading from which on all later ones leave the line, by more than 5 % and beyond its interval.

    One reading alone, the last, is no bend. None while the line holds.
    """
    off = []
    for n, value in sorted(zip(taken.index, taken, strict=True)):
        if n > line.readings[-1]:
            far = abs(value - line.used(n))
            off.append((int(n), far > max(LEAST_CHANGE * abs(line.used(n)), line.within(n))))
    outside = list(takewhile(lambda one: one[1], reversed(off)))
    return outside[-1][0] if len(outside) >= LEAST_OFF else None


def _row(
    outcome: Outcome, host: pd.DataFrame, after: pd.DataFrame, taken: pd.DataFrame, stack: dict[str, Any]
) -> DensityRow:
    reached = outcome.reached
    last = taken[taken.index == (reached if reached in taken.index else taken.index.max())]
    used_bytes, others_bytes = float(last["used"].iloc[0]), float(last["others"].iloc[0])
    rule = outcome.stopped_by.partition(":")[0]
    line = promise(list(zip(map(int, taken.index), taken["used"], strict=True)), reached)
    base: dict[str, Any] = {
        "subject": outcome.subject, "round": outcome.round, "reached": reached, "lost": outcome.lost,
        "stopped_by": outcome.stopped_by, "rule": rule, "reached_bytes": used_bytes,
        "others_bytes": others_bytes, "teardown_seconds": _of(after, "teardown_seconds"),
        "given_back_fraction": _came_back(host, after, used_bytes + others_bytes),
    }  # fmt: skip
    if isinstance(line, str):
        return DensityRow(
            **base, predicted=None, predicted_low=None, predicted_high=None, compared="nothing", error_fraction=None,
            predicted_bytes=None, predicted_bytes_low=None, predicted_bytes_high=None, margin_bytes=None,
            first_bytes=None, readings=(), knee=None, why=line,
        )  # fmt: skip
    room = _room_bytes(host, rule, stack)
    number, weight = line.fits(room), line.used(reached)
    compared: Literal["instances", "bytes"] = "instances" if rule in MEMORY_RULES else "bytes"
    said, real = (float(number), float(reached)) if compared == "instances" else (weight, used_bytes)
    return DensityRow(
        **base,
        predicted=number,
        predicted_low=line.fits_least(room),
        predicted_high=line.fits_most(room),
        compared=compared,
        error_fraction=(real - said) / said if said else None,
        predicted_bytes=weight,
        predicted_bytes_low=weight - line.within(reached),
        predicted_bytes_high=weight + line.within(reached),
        margin_bytes=line.b,
        first_bytes=line.a,
        readings=line.readings,
        knee=knee(taken["used"], line),
    )


def _came_back(host: pd.DataFrame, after: pd.DataFrame, taken: float) -> float | None:
    now = _of(after, AVAILABLE)
    return 1 - (float(host[AVAILABLE].loc[0]) - now) / taken if now is not None and taken > 0 else None


def _room_bytes(host: pd.DataFrame, rule: str, stack: dict[str, Any]) -> float:
    """What instances may take until a rule on memory ends the ascent: the floor, or a budget that is smaller."""
    floor = float(stack.get("floor_percent", 0.0)) / 100 * float(host["host_total_bytes"].loc[0])
    room = float(host[AVAILABLE].loc[0]) - floor
    budget = float(int(stack.get("budget_mib", 0)) << 20)
    return budget if rule == "memory budget" or 0 < budget < room else room


def _of(after: pd.DataFrame, metric: str) -> float | None:
    if after.empty or metric not in after.columns:
        return None
    return float(after[metric].iloc[-1])
