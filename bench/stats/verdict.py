"""When a change is called a difference: the levels that all tests and sentences use, and the verdict that follows.

The reasons are in docs/explanation/method.md, The statistics. Only plain arithmetic is here: who names a verdict needs
no numpy.
"""

from __future__ import annotations

import math
from typing import Literal

#: The level of every test.
ALPHA = 0.01
#: The smallest relative change that is called a difference, whatever its p-value.
LEAST_CHANGE = 0.05
#: A change must also pass this many times the resolution of the instrument.
RESOLUTIONS = 3.0
#: With fewer paired rounds no arrangement of signs can reach ALPHA: 2 / 2**7 > 0.01 >= 2 / 2**8.
LEAST_ROUNDS = 8

#: Of a subject against its reference. ``no figure``: one of the two has none, so nothing was compared.
Verdict = Literal["lower", "higher", "no difference shown", "not enough rounds", "no figure"]


def threshold(base: float, resolution: float = 0.0) -> float:
    """The least relative change against *base* that may be called a difference; *resolution* is in its unit."""
    return max(LEAST_CHANGE, RESOLUTIONS * resolution / base)


def enough(rounds: int, *, paired: bool) -> bool:
    """Whether the smallest two-sided p that so many rounds can reach is at most ALPHA."""
    arrangements = 2**rounds if paired else math.comb(2 * rounds, rounds)
    return 2 / arrangements <= ALPHA


def judge(ratio: float, p: float | None, least: float) -> Verdict:
    """The verdict on *ratio* = subject / reference: *p* is None with too few rounds, *least* is :func:`threshold`."""
    if p is None:
        return "not enough rounds"
    if p > ALPHA or abs(ratio - 1.0) < least:
        return "no difference shown"
    return "lower" if ratio < 1.0 else "higher"
