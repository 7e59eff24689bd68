"""The smallest grant at which the payload gets ready, by bisection: the trial of the probe ``least-memory``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tare.bench.experiments.start import clock_ns
from tare.bench.experiments.trial import Reading, Weighing

#: Whether an instance with so many bytes got ready, and if not, why.
Attempt = Callable[[int], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Where to look, in bytes: *low* is taken to be too little, *high* must be enough, *step* is the resolution."""

    low: int
    high: int
    step: int


def least(attempt: Attempt, bounds: Bounds) -> Weighing:
    """Bisect *bounds*. A trial that fails even with the most is a failed trial, with that attempt's reason.

    What is found was ready, and one step less was not: both were really tried. Readiness is taken to be monotonous in
    the grant, as bisection must; rounds show how far that is true.
    """
    began = clock_ns()
    why = attempt(bounds.high)
    if why:
        return Weighing(status="failed", reason=f"not ready even with {bounds.high >> 20} MiB: {why}", at_ns=began)
    ready, short, attempts = bounds.high // bounds.step, bounds.low // bounds.step, 1
    while ready - short > 1:
        middle = (ready + short) // 2
        attempts += 1
        if attempt(middle * bounds.step):
            short = middle
        else:
            ready = middle
    values = {"least_memory_bytes": float(ready * bounds.step), "attempts_count": float(attempts)}
    return Weighing(status="ok", reason="", at_ns=began, readings=(Reading(values=values),))
