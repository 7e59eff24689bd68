"""How many instances a host of a given size holds: memory or processors, whichever is used up first, with intervals.

What one more takes is the line of a ramp (prediction.py); what the host itself uses is its reading before the
first instance. Both are used unchanged for a host of another size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tare.bench.errors import UsageError
from tare.bench.experiments.rules import StackTable
from tare.reports.sections.ramp.density.model import Capacity
from tare.reports.sections.ramp.prediction import Prediction

_UNITS = {"mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_SIZE = re.compile(r"(\d{1,7}(?:\.\d{1,3})?) ?([MGT]iB):(\d{1,5})(?::(\d{1,2}(?:\.\d{1,3})?) ?%)?", re.IGNORECASE)
_FIX = "give RAM:PROCESSORS or RAM:PROCESSORS:FLOOR%, such as 64GiB:16 or 64GiB:16:10%; the floor is at most 95 %"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A host: ``floor_percent`` of its memory must stay available, the scenario's where it is None."""

    ram_bytes: int
    processors: int
    floor_percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What one ramp says of one more instance, in memory and in processors, or why it does not.

    ``own_bytes`` and ``own_processors`` are what the host used before the first instance. ``places`` instances share a
    machine: the lines hold for full machines.
    """

    subject: str
    round: int
    memory: Prediction | str
    processors: Prediction | str
    own_bytes: float
    own_processors: float
    places: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How many fit, with the ends of the interval; or ``why`` that is not known."""

    instances: int | None = None
    low: int | None = None
    high: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The smaller of two estimates, and of their ends. ``bound`` is None where neither has a number."""

    instances: int | None
    low: int | None
    high: int | None
    bound: Literal["memory", "processors"] | None


def size(text: str) -> Size:
    """``64GiB:16`` or ``64GiB:16:10%``. Raises UsageError for anything else."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"'{text}' is not a size of a host", "it needs memory and processors, and may have a floor", _FIX
        )
    ram, unit, processors, floor = found.groups()
    wanted = Size(
        ram_bytes=int(float(ram) * _UNITS[unit.lower()]),
        processors=int(processors),
        floor_percent=None if floor is None else float(floor),
    )
    if not wanted.ram_bytes or not wanted.processors or (wanted.floor_percent or 0.0) > 95:
        raise UsageError(f"'{text}' is not a size of a host", "it would hold no instance", _FIX)
    return wanted


def estimate(line: Prediction | str, room: float, places: int = 1) -> Estimate:
    """How many take no more than *room*, by *line*; where *places* of them share a machine, in full machines."""
    if isinstance(line, str):
        return Estimate(why=line)
    numbers = (line.fits(room), line.fits_least(room), line.fits_most(room))
    instances, low, high = (n - n % places for n in numbers)
    return Estimate(instances=instances, low=low, high=high)


def smaller(memory: Estimate, processors: Estimate) -> Held:
    """The smaller of both. Where an end of the interval is known of one alone, it is that one's."""
    both = (memory, processors)
    return Held(
        instances=min((one.instances for one in both if one.instances is not None), default=None),
        low=min((one.low for one in both if one.low is not None), default=None),
        high=min((one.high for one in both if one.high is not None), default=None),
        bound=_bound(memory.instances, processors.instances),
    )


def _bound(memory: int | None, processors: int | None) -> Literal["memory", "processors"] | None:
    if processors is None:
        return None if memory is None else "memory"
    return "processors" if memory is None or processors < memory else "memory"


def cpu_room(processors: float, floor_percent: float, own: float) -> float:
    """Processors that instances may use: all but the floor and what the host uses itself."""
    return processors * (1 - floor_percent / 100) - own


def rows(lines: Iterable[Predictions], sizes: Sequence[Size], stack: StackTable) -> Iterator[Capacity]:
    """One row for each size and ramp; *stack* has the scenario's floors."""
    cpu_floor = stack.cpu_floor_percent
    known = list(lines)
    for host in sizes:
        floor = stack.floor_percent if host.floor_percent is None else host.floor_percent
        for one in known:
            room_bytes = host.ram_bytes * (1 - floor / 100) - one.own_bytes
            memory = estimate(one.memory, room_bytes, one.places)
            room = cpu_room(host.processors, cpu_floor, one.own_processors)
            processors = estimate(one.processors, room, one.places)
            held = smaller(memory, processors)
            yield Capacity(
                subject=one.subject, round=one.round, ram_bytes=host.ram_bytes, processors=host.processors,
                floor_percent=floor, cpu_floor_percent=cpu_floor, instances=held.instances, low=held.low,
                high=held.high, bound=held.bound, why=_why(memory, processors),
            )  # fmt: skip


def _why(memory: Estimate, processors: Estimate) -> str:
    """What is not known of either: ``processors: too little to be seen``."""
    both = (("memory", memory), ("processors", processors))
    return "; ".join(f"{name}: {short(one.why)}" for name, one in both if one.why)


def short(why: str) -> str:
    """The reason without its figures."""
    return why.removeprefix("no prediction: ").partition(". ")[0].partition(": ")[0]
