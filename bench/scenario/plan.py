"""Scenario and seed to Plan: every trial, in order. Pure; printing a plan changes nothing.

Subjects are shuffled within each round, so that a drift of the host falls on all of them alike
(docs/explanation/method.md).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tare.bench.records.resolved import Scenario
from tare.bench.records.rows import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """What one trial of a subject takes: at most so many starts, and so many seconds besides them."""

    starts: int = 1
    besides_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The trials of a run in the order of their running: warm-ups first. More follow where a precision is wanted.

    ``noun`` is what the experiment calls a trial (``start``), ``efforts`` have what one of each subject takes.
    """

    scenario: Scenario
    trials: tuple[Trial, ...]
    noun: str
    efforts: Mapping[str, Effort]

    def arithmetic(self) -> str:
        """How the number of starts comes about: ``4 subjects x 12 rounds + 4 warm-ups = 52 starts``."""
        subjects, run = len(self.scenario.subjects), self.scenario.run
        rounds = f"{run.rounds} to {run.max_rounds} rounds" if run.precision else _count(run.rounds, "round")
        text = f"{_count(subjects, 'subject')} x {rounds}"
        if run.warmup:
            text += f" + {_count(subjects * run.warmup, 'warm-up')}"
        text += " = "
        if run.precision:
            text += f"{len(self.trials)} to {len(self.trials) + subjects * (run.max_rounds - run.rounds)} {self.noun}s"
            return f"{text}, until every interval is within {100 * run.precision:g} % of its median"
        text += _count(len(self.trials), self.noun)
        if self.noun == "start":
            return text
        return f"{text}, at most {_count(sum(self.efforts[trial.subject].starts for trial in self.trials), 'start')}"

    def about(self, typical_s: Mapping[str, float]) -> str:
        """How long it takes, in words; where rounds may be added, how long those take that are sure."""
        said = f"about {duration(self.estimate_s(typical_s))}"
        run = self.scenario.run
        return f"{said} for the first {_count(run.rounds, 'round')}" if run.precision else said

    def estimate_s(self, typical_s: Mapping[str, float]) -> float:
        """About how long the trials take, from a typical duration of one start and stop per subject's label."""
        each_s = {one.label: typical_s[one.label] + one.payload.delay_ms / 1000 for one in self.scenario.subjects}
        efforts = ((trial.subject, self.efforts[trial.subject]) for trial in self.trials)
        return sum(each_s[label] * effort.starts + effort.besides_s for label, effort in efforts)


def rounds_of(trials: Iterable[Trial]) -> int:
    """How many rounds *trials* have."""
    return max((trial.round for trial in trials), default=0)


def interleaved(scenario: Scenario) -> tuple[Trial, ...]:
    """One trial of each subject in each round; the same scenario and seed give the same on every host and Python."""
    rng = random.Random(scenario.run.seed)
    trials: list[Trial] = []
    for warmup in range(1, scenario.run.warmup + 1):
        trials += _round(scenario, rng, 0, f"w{warmup}", warm=True)
    for number in range(1, scenario.run.rounds + 1):
        trials += _round(scenario, rng, number, f"r{number}", warm=False)
    return tuple(trials)


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
