"""Scenario and seed to Plan: every trial, in order. Pure; printing a plan changes nothing.

Subjects are shuffled within each round, so that a drift of the host falls on all of them alike (docs/method.md).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

from tare.bench.records.rows import Trial
from tare.bench.scenario.resolve import ASCENTS, Scenario, Subject


@dataclass(frozen=True, slots=True)
class Plan:
    """The trials of a run in the order of their running: warm-ups first."""

    scenario: Scenario
    trials: tuple[Trial, ...]

    def arithmetic(self) -> str:
        """How the number of starts comes about: ``4 subjects x 12 rounds + 4 warm-ups = 52 starts``."""
        subjects, run = len(self.scenario.subjects), self.scenario.run
        text = f"{_count(subjects, 'subject')} x {_count(run.rounds, 'round')}"
        if run.warmup:
            text += f" + {_count(subjects * run.warmup, 'warm-up')}"
        if self.scenario.probe == "startup":
            return f"{text} = {_count(len(self.trials), 'start')}"
        most = sum(self._starts(trial.subject) for trial in self.trials)
        kind = "bisection" if self.scenario.probe == "least-memory" else "ascent"
        return f"{text} = {_count(len(self.trials), kind)}, at most {_count(most, 'start')}"

    def estimate_s(self, typical_s: Mapping[str, float]) -> float:
        """About how long the trials take, from a typical duration of one start and stop per subject's label."""
        delays_s = {subject.label: subject.payload.delay_ms / 1000 for subject in self.scenario.subjects}
        each_s = {label: typical_s[label] + delay_s for label, delay_s in delays_s.items()}
        starts_s = sum(each_s[trial.subject] * self._starts(trial.subject) for trial in self.trials)
        return starts_s + self.scenario.stack.window_s * sum(self._windows(trial.subject) for trial in self.trials)

    def _starts(self, label: str) -> int:
        """How many instances one trial of the subject starts, if no rule ends it early."""
        subject = self._subject(label)
        if self.scenario.probe == "startup":
            return 1
        if self.scenario.probe == "least-memory":
            steps = (self.scenario.least.high_mib << 20) // subject.step_bytes
            return 1 + math.ceil(math.log2(max(2, steps)))
        return subject.most

    def _windows(self, label: str) -> int:
        """How often one trial of the subject watches the idle host: before its first start, at the counts, on top."""
        if self.scenario.probe not in ASCENTS:
            return 0
        subject = self._subject(label)
        return 1 + len({n for n in subject.counts if n < subject.most} | {subject.most})

    def _subject(self, label: str) -> Subject:
        return next(one for one in self.scenario.subjects if one.label == label)


def make(scenario: Scenario) -> Plan:
    """Plan *scenario*; the same scenario and seed give the same plan on every host and Python."""
    rng = random.Random(scenario.run.seed)
    trials: list[Trial] = []
    for warmup in range(1, scenario.run.warmup + 1):
        trials += _round(scenario, rng, 0, f"w{warmup}", warm=True)
    for number in range(1, scenario.run.rounds + 1):
        trials += _round(scenario, rng, number, f"r{number}", warm=False)
    return Plan(scenario, tuple(trials))


def _round(scenario: Scenario, rng: random.Random, number: int, prefix: str, *, warm: bool) -> list[Trial]:
    labels = [subject.label for subject in scenario.subjects]
    # Sorting by random() rather than shuffle(): only random()'s sequence is promised not to change between versions.
    labels.sort(key=lambda _: rng.random())
    return [
        Trial(
            id=f"{prefix}-{label}",
            subject=label,
            round=number,
            order=order,
            kind="warmup" if warm else "measured",
        )
        for order, label in enumerate(labels, start=1)
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """*seconds* as people say it: ``40 s``, ``1 min 40 s``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
