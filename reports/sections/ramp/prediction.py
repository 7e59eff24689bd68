"""A line through few readings and how far it may be trusted: what n instances will take, with its interval.

Least squares, and not the median of slopes: readings stand at 2, 5, 10, 20, 50 instances, and the far ones, which say
most of a slope, must weigh most. The interval is that of one further reading (Draper and Smith, Applied Regression
Analysis, 1998, chapter 1.4): it holds the scatter of that reading, too. It knows noise, and no bend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tare.bench.experiments.settle import patience
from tare.bench.stats.fit import Line, least_squares
from tare.bench.stats.medians import CONFIDENCE
from tare.reports import words

#: What settling calls still: no reading is known better.
STILL_BYTES = patience(0).still_bytes
#: The kernel books the time of a task that runs at the next tick, if it was not switched before: 10 ms at the slowest
#: usual rate (CONFIG_HZ=100, kernel/Kconfig.hz). No processor time is known better, at either end of a window.
TICK_S = 0.01
#: The prediction may know the readings up to this part of what was reached, and needs so many above one.
FIFTH = 0.2
LEAST_READINGS = 3
#: Readings bend where they scatter about their line so many times as much as their noise; so many are kept in any case.
_BENT = 3.0
_LEAST_ON_LINE = 2
#: No number of instances is searched for beyond this.
_MOST = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """What is read: no reading is known better than ``still``; ``show`` and the sentences say it in its own unit."""

    still: float
    show: Callable[[float], str]
    #: Said of a line that falls, and of one that does not leave its noise.
    none: str
    small: str
    verb: str


MEMORY = Gauge(
    still=float(STILL_BYTES),
    show=words.size,
    none="no prediction: the memory of the first instances is too small to be seen",
    small="no prediction: too small to be seen",
    verb="taken",
)


def processors(window_s: float) -> Gauge:
    """Processors used, as processor time in a window of *window_s* divided by its length."""
    return Gauge(
        still=TICK_S / window_s,
        show=lambda value: f"{words.plain(value)} processors",
        none="too little to be seen: the first instances used too little processor time",
        small="too little to be seen",
        verb="used",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Line):
    """``used = a + b * n``, in bytes or in processors. 95 % of readings about a known line lie within ``reach``."""

    reach: float
    readings: tuple[int, ...]

    def within(self, n: float) -> float:
        """Half the width of the 95 % interval of a reading at *n*."""
        numbers = np.asarray(self.readings, dtype="float64")
        far = (n - numbers.mean()) ** 2 / ((numbers - numbers.mean()) ** 2).sum()
        return float(self.reach * math.sqrt(1 + 1 / len(numbers) + far))

    @property
    def slope_within(self) -> float:
        """Half the width of the 95 % interval of ``b``."""
        numbers = np.asarray(self.readings, dtype="float64")
        return float(self.reach / math.sqrt(((numbers - numbers.mean()) ** 2).sum()))

    def fits_least(self, room: float) -> int:
        """The same, should they take as much as the upper end of the interval says."""
        return _last(lambda n: self.at(n) + self.within(n) <= room)

    def fits_most(self, room: float) -> int:
        """The same by the lower end."""
        return _last(lambda n: self.at(n) - self.within(n) <= room)


def predict(
    readings: Sequence[tuple[int, float]], reached: int, gauge: Gauge = MEMORY, places: int = 1
) -> Prediction | str:
    """The line through the first fifth of *readings* (count, what they take), or why there is none.

    Where *places* instances share a machine, it goes through the readings at which all machines are full: between
    these, what is taken rises by steps, and the first machine alone says nothing of the second.

    Where these bend, the first ones are left out until the rest lie on a line, as far as their noise lets one see: the
    first instances find room that earlier work left in the kernel's slabs, and what is asked is what comes after.
    """
    above = sorted((n, used) for n, used in readings if 1 < n <= reached and n % places == 0)
    early = [one for one in above if one[0] <= reached * FIFTH]
    if len(early) < LEAST_READINGS:
        early = above[:LEAST_READINGS]
    if len(early) < LEAST_READINGS or early[-1][0] >= reached:
        which = "above one" if places == 1 else f"with full machines of {places}"
        return f"no prediction: {LEAST_READINGS} readings {which} and below the last are needed"
    noise = _noise(early, gauge.still)
    while len(early) > _LEAST_ON_LINE and least_squares(early).scatter(early) > _BENT * noise:
        early = early[1:]
    line = _line(early, noise, gauge.still)
    return _unseen(line, abs(early[-1][1] - early[0][1]), gauge) or line


def unseen(readings: Sequence[tuple[float, float]]) -> str:
    """Why the memory that one more takes, by (count, bytes), may be zero as well; empty where it may not."""
    line = _line(readings, _noise(readings, MEMORY.still), MEMORY.still)
    change = readings[-1][1] - readings[0][1]
    if abs(line.b) > line.slope_within:
        first, *_, last = line.readings
        return (
            ""
            if line.b > 0
            else f"the host had {MEMORY.show(-change)} more free memory with {last} alive than with {first}"
        )
    return _too_small(line, change, MEMORY).removeprefix("no prediction: ")


def _line(readings: Sequence[tuple[float, float]], noise: float, still: float) -> Prediction:
    """The line, and how far a reading may be from it: by Student's t where three or more were read, else by *noise*.

    *still* is the least scatter that is believed, however well a few happen to lie.
    """
    from scipy.special import ndtri, stdtrit  # here: `tare --help` need not wait for it

    edge, free = (1 + CONFIDENCE) / 2, len(readings) - 2
    line = least_squares(readings)
    known = float(ndtri(edge)) * (still if free else noise)
    reach = max(known, float(stdtrit(free, edge)) * line.scatter(readings)) if free else known
    return Prediction(a=line.a, b=line.b, reach=reach, readings=tuple(int(n) for n, _ in readings))


def _unseen(line: Prediction, change: float, gauge: Gauge) -> str:
    """Why the slope of *line*, whose ends differ by *change*, may be zero; empty where it is not."""
    if line.b <= 0:
        return gauge.none
    return "" if line.slope_within < line.b else _too_small(line, change, gauge)


def _too_small(line: Prediction, change: float, gauge: Gauge) -> str:
    return (
        f"{gauge.small}. From {line.readings[0]} to {line.readings[-1]} alive {gauge.show(change)} were {gauge.verb}, "
        f"and a reading is exact to {gauge.show(line.reach)}"
    )


def noise_bytes(readings: Sequence[tuple[float, float]]) -> float:
    """The standard deviation of one reading of memory, whatever the shape of the curve through them."""
    return _noise(readings, MEMORY.still)


def _noise(readings: Sequence[tuple[float, float]], still: float) -> float:
    """The standard deviation of one reading, never below *still*.

    From how far each lies off the line between its neighbours, the median of it (Gasser, Sroka and Jennen-Steinmetz,
    Residual variance and residual pattern in nonlinear regression, Biometrika 73, 1986).
    """
    found = []
    for (n, y), (m, z), (o, w) in zip(readings, readings[1:], readings[2:], strict=False):
        left, right = (o - m) / (o - n), (m - n) / (o - n)
        found.append(abs(z - left * y - right * w) / math.sqrt(1 + left**2 + right**2))
    return max(still, 1.4826 * float(np.median(found)) if found else 0.0)


def _last(holds: Callable[[int], bool]) -> int:
    """The largest number for which *holds* is true, by halving: it holds up to there, and no further."""
    low, high = 0, _MOST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
