"""Density: how many instances the first readings promise, how many there really were, and where the two part.

The prediction rests on the readings up to a fifth of what was reached, and on MemAvailable, which is what the rules
that end an ascent look at (bench/stop.py). Its interval is Sen's, of the slope: it knows noise, and no bend.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

import numpy as np
import pandas as pd

from bench.records import Outcome
from bench.stats import CONFIDENCE, LEAST_CHANGE
from bench.store import Run
from reports import frames
from reports.ascents import Ascents
from reports.memory_model import DensityRow

#: The prediction may know the readings up to this part of what was reached, and needs so many above one.
FIFTH = 0.2
LEAST_READINGS = 3
#: So many readings at the end must leave the line.
LEAST_OFF = 2

MEMORY_RULES = ("memory floor", "memory budget")
AVAILABLE = "host_available_bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Promise:
    """``used = a + b * n`` in bytes, with the outer lines of its interval."""

    a: float
    b: float
    low: tuple[float, float]
    high: tuple[float, float]
    readings: tuple[int, ...]

    def used(self, n: int) -> float:
        return self.a + self.b * n


def rows(run: Run, read: Ascents) -> Iterator[DensityRow]:
    """One row for each ascent that ended ok and was read on its way."""
    stack = run.header.scenario.get("stack", {})
    for outcome in frames.last_outcomes(run).values():
        if outcome.kind != "measured" or outcome.status != "ok" or not outcome.stopped_by:
            continue
        host, after = (one(frame, outcome.subject, outcome.round) for frame in (read.host, read.after))
        if 0 in host.index and len(host) > 1:
            yield _row(outcome, host, after, stack)


def used_bytes(host: pd.DataFrame) -> pd.Series:
    """What MemAvailable lost since the first reading, by number alive."""
    available = host[AVAILABLE]
    return -(available - float(available.loc[0]))


def promise(used: pd.Series, reached: int) -> _Promise | str:
    """The line through the first fifth of the readings, or why there is none."""
    above = used[(used.index > 1) & (used.index <= reached)].sort_index()
    early = above[above.index <= reached * FIFTH]
    if len(early) < LEAST_READINGS:
        early = above.iloc[:LEAST_READINGS]
    if len(early) < LEAST_READINGS or early.index[-1] >= reached:
        return f"no prediction: {LEAST_READINGS} readings above one and below the last are needed"
    from scipy import stats

    n, y = early.index.to_numpy(dtype="float64"), early.to_numpy(dtype="float64")
    b, a, low, high = stats.theilslopes(y, n, CONFIDENCE)
    if b <= 0:
        return "no prediction: the first instances took no memory that can be seen"
    middle = (float(np.median(n)), float(np.median(y)))
    return _Promise(
        a=float(a),
        b=float(b),
        low=(middle[1] - float(low) * middle[0], float(low)),
        high=(middle[1] - float(high) * middle[0], float(high)),
        readings=tuple(int(one) for one in early.index),
    )


def knee(used: pd.Series, line: _Promise) -> int | None:
    """The first reading from which on all later ones leave the line by more than 5 %; None while it holds.

    One reading alone, the last, is no bend.
    """
    off = []
    for n, value in sorted(zip(used.index, used, strict=True)):
        if n > line.readings[-1]:
            off.append((int(n), abs(value - line.used(n)) > LEAST_CHANGE * abs(line.used(n))))
    outside = list(takewhile(lambda one: one[1], reversed(off)))
    return outside[-1][0] if len(outside) >= LEAST_OFF else None


def _row(outcome: Outcome, host: pd.DataFrame, after: pd.DataFrame, stack: dict[str, Any]) -> DensityRow:
    used = used_bytes(host)
    reached = outcome.reached
    taken = float(used.get(reached, used.iloc[-1]))
    rule = outcome.stopped_by.partition(":")[0]
    line = promise(used, reached)
    down = _of(after, "teardown_seconds")
    now = _of(after, AVAILABLE)
    ground = float(host[AVAILABLE].loc[0])
    back = 1 - (ground - now) / taken if now is not None and taken > 0 else None
    base: dict[str, Any] = {
        "subject": outcome.subject, "round": outcome.round, "reached": reached, "lost": outcome.lost,
        "stopped_by": outcome.stopped_by, "rule": rule, "reached_bytes": taken, "teardown_seconds": down,
        "given_back_fraction": back,
    }  # fmt: skip
    if isinstance(line, str):
        return DensityRow(
            **base, predicted=None, predicted_low=None, predicted_high=None, compared="nothing", error_fraction=None,
            predicted_bytes=None, predicted_bytes_low=None, predicted_bytes_high=None, margin_bytes=None,
            first_bytes=None, readings=(), knee=None, why=line,
        )  # fmt: skip
    room = _room_bytes(host, rule, stack)
    numbers = [_fits(room, a, b) for a, b in ((line.a, line.b), line.high, line.low)]
    weights = [a + b * reached for a, b in ((line.a, line.b), line.low, line.high)]
    compared: Literal["instances", "bytes"] = "instances" if rule in MEMORY_RULES else "bytes"
    said, real = (numbers[0], float(reached)) if compared == "instances" else (weights[0], taken)
    return DensityRow(
        **base,
        predicted=numbers[0],
        predicted_low=numbers[1],
        predicted_high=numbers[2],
        compared=compared,
        error_fraction=(real - said) / said if said else None,
        predicted_bytes=weights[0],
        predicted_bytes_low=weights[1],
        predicted_bytes_high=weights[2],
        margin_bytes=line.b,
        first_bytes=line.a,
        readings=line.readings,
        knee=knee(used, line),
    )


def _room_bytes(host: pd.DataFrame, rule: str, stack: dict[str, Any]) -> float:
    """What instances may take until a rule on memory ends the ascent: the floor, or a budget that is smaller."""
    floor = float(stack.get("floor_percent", 0.0)) / 100 * float(host["host_total_bytes"].loc[0])
    room = float(host[AVAILABLE].loc[0]) - floor
    budget = float(int(stack.get("budget_mib", 0)) << 20)
    return budget if rule == "memory budget" or 0 < budget < room else room


def _fits(room: float, a: float, b: float) -> int | None:
    """The most instances of ``a + b * n`` that leave the rule unbroken; None where more of them take no more."""
    return max(0, math.floor((room - a) / b)) if b > 0 else None


def one(frame: pd.DataFrame, subject: str, number: int) -> pd.DataFrame:
    """The readings of one ascent, by number alive; empty when there are none."""
    names = frame.index.get_level_values("subject"), frame.index.get_level_values("round")
    return frame[(names[0] == subject) & (names[1] == number)].droplevel(["subject", "round"])


def _of(after: pd.DataFrame, metric: str) -> float | None:
    if after.empty or metric not in after.columns:
        return None
    return float(after[metric].iloc[-1])
