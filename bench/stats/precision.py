"""Rounds until every interval is narrow: after how many rounds to look again, and when to end.

A sequential rule of fixed width: Chow and Robbins, On the asymptotic theory of fixed-width sequential confidence
intervals for the mean, Annals of Mathematical Statistics 36, 1965. As in the two stages of Stein (A two-sample test for
a linear hypothesis whose power is independent of the variance, same annals 16, 1945) the scatter so far says how many
rounds will do; so there are few looks. The rule sees the width of each subject's interval and never what lies between
two subjects: it cannot end at the moment at which they differ most. What a simulation finds is in
docs/explanation/method.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tare.bench.stats import width

#: If the scenario says nothing, the rounds end at so many times the least number.
MOST_TIMES = 5
#: A subject that fails more often than this has no figure: the trials that succeeded do not stand for all.
MOST_FAILED = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Half of each interval is to be at most ``wanted`` of its median, within ``most`` rounds."""

    wanted: float
    most: int


def half_widths(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of each subject, half of the interval of its median as a part of that; infinite where there is none."""
    found = {label: width.half_width(some) for label, some in values.items()}
    return {label: math.inf if half is None else half for label, half in found.items()}


def following(goal: Goal, rounds: int, widest: float) -> int:
    """After how many rounds to look again, where *rounds* are done and half of the *widest* interval is so much.

    It is *rounds* where all is over: narrow enough, or as many as there may be. Widths shrink as 1 / sqrt(rounds), so
    the number that should do is known; it is approached by at most a doubling, since a scatter of few rounds is not
    known well, and by a quarter at least, so that looks stay few.
    """
    if widest <= goal.wanted or rounds >= goal.most:
        return rounds
    should_do = min(2.0 * rounds, rounds * (widest / goal.wanted) ** 2)
    return min(goal.most, max(math.ceil(should_do), rounds + math.ceil(rounds / 4)))
