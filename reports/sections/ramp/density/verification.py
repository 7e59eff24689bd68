"""Density: how many instances the first readings predict, how many there really were, and where the two part.

The prediction rests on the readings up to a fifth of what was reached (prediction.py). Of memory, on MemAvailable,
which is what the rules that end a ramp look at (bench/experiments/stop_rules.py), with the pages on processors' own
lists, and less what other processes took meanwhile: they come and go by tens of megabytes, and are no instance's. Of
processors, on the processor time that all instances used in each window, less what was used in the window before the
first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import takewhile
from statistics import median
from typing import Any, Literal

import msgspec
import pandas as pd

from tare.bench.experiments.rules import StackTable
from tare.bench.records.rows import Outcome
from tare.bench.records.store import Run
from tare.bench.stats.verdict import LEAST_CHANGE
from tare.reports import words
from tare.reports.analysis import noise, tables
from tare.reports.analysis.figures import Refused
from tare.reports.analysis.noise import Disturbance
from tare.reports.sections.ramp import ramps
from tare.reports.sections.ramp.density import capacity
from tare.reports.sections.ramp.density.capacity import Estimate, Predictions
from tare.reports.sections.ramp.density.model import DensityRow
from tare.reports.sections.ramp.memory import ledger
from tare.reports.sections.ramp.prediction import Prediction, predict, processors
from tare.reports.sections.ramp.ramps import Ramps
from tare.runners import layers

#: So many readings at the end must leave the line.
LEAST_OFF = 2

#: So many ramps of a subject are held against their predictions, each by itself.
MOST_RAMPS = 12

MEMORY_RULES = ("memory floor", "memory budget")
CPU_RULE = "processor floor"
AVAILABLE = "host_available_bytes"
BUSY = "host_busy_ratio"
#: From so busy a host on instances wait for each other: what they use is no longer what they would use.
SATURATED = 0.95


def predictions(run: Run, read: Ramps, taken: pd.DataFrame) -> Iterator[tuple[Outcome, Predictions]]:
    """What each ramp that ended ok, and was read on its way, says of one more instance; *taken* is :func:`used`.

    Of very many ramps of a subject, :data:`MOST_RAMPS`.
    """
    places = {one.label: layers.places(one.facts) for one in run.header.subject_records()}
    for outcome in _shown(run):
        mine, host = (_mine(frame, outcome) for frame in (taken, read.host))
        if 0 not in host.index or len(host) < 2:
            continue
        window = _mine(read.window, outcome)
        number = run.header.host.cpus
        together = places.get(outcome.subject, 1)
        yield (
            outcome,
            Predictions(
                subject=outcome.subject,
                round=outcome.round,
                memory=predict(
                    list(zip(map(int, mine.index), mine["used"], strict=True)), outcome.reached, places=together
                ),
                processors=_cpu_line(window, outcome.reached, together),
                own_bytes=float(host["host_total_bytes"].loc[0] - host[AVAILABLE].loc[0]),
                own_processors=_busy(window) * number,
                places=together,
            ),
        )


def ended(run: Run) -> dict[str, list[Outcome]]:
    """The ramps of each subject that ended ok, by a rule."""
    found: dict[str, list[Outcome]] = {}
    for outcome in tables.last_outcomes(run).values():
        if outcome.kind == "measured" and outcome.status == "ok" and outcome.stopped_by:
            found.setdefault(outcome.subject, []).append(outcome)
    return found


def _shown(run: Run) -> Iterator[Outcome]:
    """All ramps, or of very many some evenly, with those that reached the least and the most."""
    for mine in ended(run).values():
        if len(mine) <= MOST_RAMPS:
            yield from mine
            continue
        ends = {place(range(len(mine)), key=lambda at: mine[at].reached) for place in (min, max)}
        yield from (mine[at] for at in sorted(ends | set(ramps.evenly(range(len(mine)), MOST_RAMPS - len(ends)))))


def rows(
    run: Run, read: Ramps, taken: pd.DataFrame, found: Iterable[tuple[Outcome, Predictions]], meanwhile: Disturbance
) -> Iterator[DensityRow]:
    """One row for each ramp that :func:`predictions` *found*; *meanwhile* is what others did."""
    stack = run.header.scenario.table(StackTable)
    for outcome, line in found:
        host, after, mine = (_mine(frame, outcome) for frame in (read.host, read.after, taken))
        memory = capacity.estimate(line.memory, _room_bytes(host, outcome, stack), line.places)
        room = capacity.cpu_room(run.header.host.cpus, stack.cpu_floor_percent, line.own_processors)
        cpu = capacity.estimate(line.processors, room, line.places)
        row = DensityRow(
            **_reached(outcome, host, after, mine),
            **_numbers(line, memory, cpu),
            **_weight(line, outcome.reached, mine),
            **_error(outcome, line, memory, cpu, mine, stack),
            places=line.places,
            cpu_others=_others(_mine(read.window, outcome), run.header.host.cpus),
        )
        yield msgspec.structs.replace(row, refused=_refused(row, meanwhile))


def _refused(row: DensityRow, meanwhile: Disturbance) -> Refused | None:
    """Why the host spoilt what *row* says: others took more than its instances, or the prediction is too wide."""
    who, named = meanwhile.grew(row.subject), words.plural(row.reached, "instance")
    theirs = [row.others_bytes] if row.rule in MEMORY_RULES or row.compared == "bytes" else []
    found = noise.refuse(
        row.reached_bytes, "bytes", ends=(None, None), rounds=1, others=theirs, who=who,
        name=f"the memory of {named}",
    )  # fmt: skip
    if row.rule == CPU_RULE and row.cpu_margin is not None and found is None:
        found = noise.refuse(
            row.cpu_margin * row.reached, "processors", ends=(None, None), rounds=1, others=[row.cpu_others or 0.0],
            who=meanwhile.ran, name=f"the use of {named}",
        )  # fmt: skip
    if row.predicted is None or row.compared != "instances" or found is not None:
        return found
    ends = (float(row.predicted_low or 0), float(row.predicted_high if row.predicted_high is not None else 0))
    return noise.refuse(row.predicted, "count", ends=ends, rounds=1, who=who, name="the prediction")


def used(read: Ramps, changes: pd.DataFrame) -> pd.DataFrame:
    """By subject, round and n >= 1: what of the available memory instances ``used``, and what ``others`` took."""
    if changes.empty:
        return pd.DataFrame(columns=["used", "others"], index=changes.index)
    lists = ledger.moved(read.host)["host_percpu_lists_bytes"].reindex(changes.index)
    others = changes[ledger.OTHERS]
    return pd.DataFrame({"used": changes[ledger.AVAILABLE] - lists - others, "others": others})


def knee(taken: pd.Series, line: Prediction) -> int | None:
    """The first reading from which on all later ones leave the line, by more than 5 % and beyond its interval.

    One reading alone, the last, is no bend. None while the line holds.
    """
    off = []
    for n, value in sorted(zip(taken.index, taken, strict=True)):
        if n > line.readings[-1]:
            far = abs(value - line.at(n))
            off.append((int(n), far > max(LEAST_CHANGE * abs(line.at(n)), line.within(n))))
    outside = list(takewhile(lambda one: one[1], reversed(off)))
    return outside[-1][0] if len(outside) >= LEAST_OFF else None


def _reached(outcome: Outcome, host: pd.DataFrame, after: pd.DataFrame, taken: pd.DataFrame) -> dict[str, Any]:
    """How the ramp ended."""
    used_bytes, others_bytes = _last_taken(outcome, taken)
    rule = _rule(outcome)
    below = [int(n) for n in host.index if n < outcome.reached]
    return {
        "subject": outcome.subject, "round": outcome.round, "reached": outcome.reached, "lost": outcome.lost,
        "stopped_by": str(outcome.stopped_by or ""), "rule": rule,
        "reached_bytes": used_bytes, "others_bytes": others_bytes,
        "held": max(below) if rule == CPU_RULE and below else None,
        "teardown_seconds": _of(after, "teardown_seconds"),
        "given_back_fraction": _came_back(host, after, used_bytes + others_bytes),
    }  # fmt: skip


def _numbers(line: Predictions, memory: Estimate, cpu: Estimate) -> dict[str, Any]:
    """What is predicted, by memory, by processors and by the smaller of both."""
    held = capacity.smaller(memory, cpu)
    of_cpu = line.processors if isinstance(line.processors, Prediction) else None
    return {
        "predicted": held.instances, "predicted_low": held.low, "predicted_high": held.high, "bound": held.bound,
        "memory_instances": memory.instances, "memory_low": memory.low, "memory_high": memory.high,
        "cpu_instances": cpu.instances, "cpu_low": cpu.low, "cpu_high": cpu.high, "cpu_why": cpu.why,
        "cpu_margin": of_cpu.b if of_cpu else None,
        "cpu_readings": of_cpu.readings if of_cpu else (),
    }  # fmt: skip


def _weight(found: Predictions, reached: int, taken: pd.DataFrame) -> dict[str, Any]:
    """The line of memory: what it says of the number reached, if all machines are full, and where readings leave it."""
    line, weights = found.memory, ("predicted_bytes", "predicted_bytes_low", "predicted_bytes_high")
    if isinstance(line, str):
        return {**dict.fromkeys((*weights, "margin_bytes", "first_bytes", "knee")), "readings": ()}
    full = taken["used"][taken.index % found.places == 0]
    weight, within = line.at(reached), line.within(reached)
    said = (weight, weight - within, weight + within) if reached % found.places == 0 else (None,) * len(weights)
    return {
        **dict(zip(weights, said, strict=True)),
        "margin_bytes": line.b, "first_bytes": line.a, "readings": line.readings, "knee": knee(full, line),
    }  # fmt: skip


def _error(
    outcome: Outcome,
    found: Predictions,
    memory: Estimate,
    cpu: Estimate,
    taken: pd.DataFrame,
    stack: StackTable,
) -> dict[str, Any]:
    """What is compared, and how far it is off; see :class:`reports.sections.ramp.density.model.DensityRow`."""
    rule, reached, line = _rule(outcome), outcome.reached, found.memory
    compared: Literal["instances", "bytes", "nothing"] = "nothing"
    said = real = 0.0
    # Without a floor no rule looks at processors: what they would allow was not put to the test.
    tested = capacity.smaller(memory, cpu if stack.cpu_floor_percent else Estimate()).instances
    if rule in (*MEMORY_RULES, CPU_RULE) and tested is not None:
        compared, said, real = "instances", tested, reached
        if rule == CPU_RULE:
            below = [int(n) for n in taken.index if n < reached]
            real = min(max(tested, max(below, default=0)), reached - 1)
    elif rule not in (*MEMORY_RULES, CPU_RULE) and isinstance(line, Prediction):
        if reached % found.places:
            why = f"memory is predicted for full machines of {found.places}, and {reached} do not fill them"
            return {"compared": compared, "error_fraction": None, "why": why}
        compared, said, real = "bytes", line.at(reached), _last_taken(outcome, taken)[0]
    return {"compared": compared, "error_fraction": (real - said) / said if said else None, "why": memory.why}


def cpu_used(window: pd.DataFrame) -> pd.Series:
    """Processors that the run used in each window, in the order of its index; empty where they were not counted."""
    if not {"window_cpu_seconds", "window_seconds"} <= set(window.columns):
        return pd.Series(index=window.index[:0], dtype="float64")
    return (window["window_cpu_seconds"] / window["window_seconds"]).dropna().sort_index()


def _cpu_line(window: pd.DataFrame, reached: int, places: int) -> Prediction | str:
    """The line of the processors that all instances use, by the windows before the processors are saturated."""
    used = cpu_used(window)
    if 0 not in used.index:
        return "no prediction: processor time was not read"
    seen = window.reindex(used.index)
    free = seen[(seen[BUSY] < SATURATED).cummin()]
    if 0 not in free.index:
        return "no prediction: the processors were saturated before the first instance"
    readings = [(int(n), float(value)) for n, value in (used - used.loc[0]).reindex(free.index).items() if n]
    line = predict(readings, reached, processors(median(free["window_seconds"])), places)
    if isinstance(line, str) and len(free) < len(seen):
        return f"{line}, before the processors are {SATURATED * 100:.0f} % busy"
    return line


def _others(window: pd.DataFrame, processors: int) -> float | None:
    """Processors that other work of the host used at the last reading, more than before the first instance."""
    used = cpu_used(window)
    if 0 not in used.index:
        return None
    others = window[BUSY].reindex(used.index) * processors - used
    return float(others.iloc[-1] - others.loc[0])


def _busy(window: pd.DataFrame) -> float:
    """The share of all processor time that was used before the first instance; 0 where it was not read."""
    if BUSY not in window.columns or 0 not in window.index:
        return 0.0
    return float(window[BUSY].fillna(0.0).to_dict()[0])


def _rule(outcome: Outcome) -> str:
    return outcome.stopped_by.rule if outcome.stopped_by else ""


def _mine(frame: pd.DataFrame, outcome: Outcome) -> pd.DataFrame:
    return ramps.one(frame, outcome.subject, outcome.round)


def _last_taken(outcome: Outcome, taken: pd.DataFrame) -> tuple[float, float]:
    """What instances and what others had taken at the last reading."""
    last = taken[taken.index == (outcome.reached if outcome.reached in taken.index else taken.index.max())]
    return float(last["used"].iloc[0]), float(last["others"].iloc[0])


def _came_back(host: pd.DataFrame, after: pd.DataFrame, taken: float) -> float | None:
    now = _of(after, AVAILABLE)
    return 1 - (float(host[AVAILABLE].loc[0]) - now) / taken if now is not None and taken > 0 else None


def _room_bytes(host: pd.DataFrame, outcome: Outcome, stack: StackTable) -> float:
    """What instances may take until a rule on memory ends the ramp: the floor, or a budget that is smaller."""
    floor = stack.floor_percent / 100 * float(host["host_total_bytes"].loc[0])
    room = float(host[AVAILABLE].loc[0]) - floor
    budget = float(stack.budget_mib << 20)
    return budget if _rule(outcome) == "memory budget" or 0 < budget < room else room


def _of(after: pd.DataFrame, metric: str) -> float | None:
    if after.empty or metric not in after.columns:
        return None
    return float(after[metric].iloc[-1])
