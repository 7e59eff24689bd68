"""How many rounds a run has where a precision is wanted: it looks at widths of intervals after some, and adds others.

The rule is :mod:`bench.stats.precision`; here are the numbers that it sees, trial by trial, and what it makes of the
plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from tare.bench.experiments.base import Experiment
from tare.bench.experiments.trial import Reading
from tare.bench.records.header import Look, Precision
from tare.bench.records.resolved import Scenario
from tare.bench.records.rows import Outcome, Sample, Trial
from tare.bench.stats import precision
from tare.bench.stats.precision import Goal
from tare.runners import layers


class Rounds:
    """What the figures of a run are so far. Rounds are whole: each that is added has one trial of every subject."""

    def __init__(self, experiment: Experiment, scenario: Scenario, begun: Precision | None) -> None:
        """*begun* is what a run that goes on had found."""
        run = scenario.run
        self._experiment, self._scenario = experiment, scenario
        self._goal = Goal(wanted=run.precision, most=run.max_rounds)
        self.precision = begun
        if run.precision and begun is None:
            self.precision = Precision(metric=experiment.precise, wanted=run.precision, max_rounds=run.max_rounds)
        # What is nothing is there to show the instrument, and is no answer.
        waited = [one.label for one in scenario.subjects if not layers.is_null(one.runner)]
        self._values: dict[str, dict[int, float]] = {label: {} for label in waited}
        self._failed: dict[str, set[int]] = {label: set() for label in waited}

    @property
    def open(self) -> bool:
        """Whether rounds may still be added."""
        return self.precision is not None and not self.precision.ended

    def note(self, trial: Trial, *, ok: bool, readings: Iterable[Reading]) -> None:
        """Remember how a trial ended, and its figure; the last attempt at it counts."""
        if self.precision is None or trial.kind != "measured" or trial.subject not in self._values:
            return
        value = self._experiment.figure_of(tuple(readings)) if ok else None
        self._values[trial.subject].pop(trial.round, None)
        self._failed[trial.subject].discard(trial.round)
        if value is not None and math.isfinite(value):
            self._values[trial.subject][trial.round] = value
        elif not ok:
            self._failed[trial.subject].add(trial.round)

    def recall(self, plan: Iterable[Trial], outcomes: Iterable[Outcome], samples: Iterable[Sample]) -> None:
        """Note the trials that a stretch before this one ended."""
        readings: dict[str, dict[tuple[int, str, str, str], Reading]] = {}
        for row in samples:
            mine = readings.setdefault(row.trial, {})
            place = row.n, row.role, row.serves, row.stage
            empty = Reading(values={}, n=row.n, role=row.role, serves=row.serves, stage=row.stage)
            mine.setdefault(place, empty).values[row.metric] = row.value
        ended = {outcome.trial: outcome.status for outcome in outcomes}
        for trial in plan:
            if ended.get(trial.id) in ("ok", "failed", "timeout"):
                self.note(trial, ok=ended[trial.id] == "ok", readings=readings.get(trial.id, {}).values())

    def look(self, done: int) -> tuple[Trial, ...]:
        """Look at the intervals after *done* rounds; return the trials of the rounds that are added, if any are."""
        if self.precision is None or self.precision.ended:
            return ()
        waited = {label: list(some.values()) for label, some in self._values.items() if not self._fails(label)}
        half = precision.half_widths({label: some for label, some in waited.items() if some})
        widest = max(half.values(), default=math.inf)
        next_look = precision.following(self._goal, done, widest) if half else done
        known = {label: one if math.isfinite(one) else None for label, one in half.items()}
        self.precision = msgspec.structs.replace(
            self.precision,
            looks=(*self.precision.looks, Look(rounds=done, half_widths=known)),
            left_out=tuple(label for label in self._values if self._fails(label)),
        )
        if next_look > done:
            longer = msgspec.structs.replace(self._scenario.run, rounds=next_look)
            planned = self._experiment.trials(msgspec.structs.replace(self._scenario, run=longer))
            return tuple(trial for trial in planned if trial.round > done)
        ended = "no figure" if not half else "reached" if widest <= self._goal.wanted else "cap"
        self.precision = msgspec.structs.replace(self.precision, ended=ended)
        return ()

    def _fails(self, label: str) -> bool:
        """Whether the subject fails too often to have a figure at the end: nobody waits for it."""
        failed, ended = len(self._failed[label]), len(self._failed[label]) + len(self._values[label])
        return failed > precision.MOST_FAILED * ended
