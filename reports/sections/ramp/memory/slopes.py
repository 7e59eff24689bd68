"""``a + b * n`` for every counter: the fixed cost and the marginal cost of one more (method.md)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tare.bench.stats import fit as fitting
from tare.bench.stats.estimate import estimate
from tare.reports.sections.ramp.memory import ledger
from tare.reports.sections.ramp.memory.model import CounterLine
from tare.reports.sections.ramp.prediction import FIFTH
from tare.reports.sections.ramp.ramps import Ramps

#: Counters that answer "how much memory does one more take", each in its own way: column -> name.
COUNTERS: Mapping[str, str] = {
    "rss": "RSS",
    "pss": "PSS",
    "uss": "USS",
    "cgroup": "cgroup",
    ledger.FREE: "MemFree",
    ledger.AVAILABLE: "MemAvailable",
}
#: The host's change, less what is anonymous memory of processes that are no instance's: a quieter line on a busy host.
OWN = "own"
#: The same, less page cache: files that anybody reads and writes move it, and the kernel gives it back when asked.
KEPT = "kept"
_WHOLE = {"cgroup_current_bytes": "cgroup", "guest_ram_bytes": ledger.GUEST}


#: A part that explains so much of a change is named as its cause.
_DECIDES = 0.5

Points = list[tuple[float, float]]


def weights(read: Ramps, changes: pd.DataFrame) -> pd.DataFrame:
    """*changes* with the counters of processes and cgroups beside them: per subject, round and n >= 1, in bytes."""
    found = changes.copy()
    if ledger.OTHERS in found.columns:
        found[OWN] = found[ledger.HOST] - found[ledger.OTHERS]
        found[KEPT] = found[OWN] - found["page_cache"]
    for column in ("rss", "pss", "uss"):
        sums = ledger.programs(read, f"{column}_bytes")
        found[column] = sums.sum(axis=1, min_count=1).reindex(found.index) if len(sums) else np.nan
    for metric, column in _WHOLE.items():
        found[column] = read.whole[metric].reindex(found.index) if metric in read.whole.columns else np.nan
    return found


def title(counter: str) -> str:
    """The name of a counter for a reader."""
    own = {ledger.HOST: "host memory", OWN: "host memory, without other processes", ledger.GUEST: "guest memory"}
    return {**COUNTERS, **own}.get(counter) or ledger.title(counter)


def points(table: pd.DataFrame, subject: str, counter: str) -> dict[int, Points]:
    """Per round the (n, bytes) that were read, rising by n; rounds with fewer than two numbers above 1 are left out."""
    if table.empty or counter not in table.columns:
        return {}
    mine = table[table.index.get_level_values("subject") == subject][counter].dropna()
    found: dict[int, Points] = {}
    places = zip(mine.index.get_level_values("round"), mine.index.get_level_values("n"), mine, strict=True)
    for number, n, value in places:
        found.setdefault(int(number), []).append((float(n), float(value)))
    return {number: sorted(line) for number, line in found.items() if sum(n > 1 for n, _ in line) >= 2}


def slopes(table: pd.DataFrame, subject: str, counter: str) -> dict[int, fitting.Line]:
    """Per round the line through its readings above 1."""
    return {number: _through(line) for number, line in points(table, subject, counter).items()}


def lines(table: pd.DataFrame, counters: Iterable[str]) -> Iterator[CounterLine]:
    """One line for each subject and counter that was read at two numbers of instances above 1, or at more."""
    wanted = list(counters)
    for subject in dict.fromkeys(table.index.get_level_values("subject")):
        for counter in wanted:
            rounds = points(table, subject, counter)
            if rounds:
                yield line(str(subject), counter, list(rounds.values()))


def line(subject: str, counter: str, rounds: list[Points]) -> CounterLine:
    """The line through the readings of one counter, one list a round."""
    numbers = sorted({int(n) for one in rounds for n, _ in one})
    segments = [_segments(one) for one in rounds]
    ends = {
        "first_segment": float(np.median([first for first, _ in segments])),
        "last_segment": float(np.median([last for _, last in segments])),
        "split": int(_split([n for n in numbers if n > 1])),
    }
    base: dict[str, Any] = {
        "subject": subject,
        "counter": counter,
        "title": title(counter),
        "numbers": tuple(numbers),
        **ends,
    }
    if min(sum(n > 1 for n, _ in one) for one in rounds) < 3:
        through = [_through(one) for one in rounds]
        a, b = estimate([one.a for one in through]), estimate([one.b for one in through])
        return CounterLine(
            **base, a=a.median, a_low=a.low, a_high=a.high, b=b.median, b_low=b.low, b_high=b.high, bend=None,
            straight=None, rounds=len(rounds), why="read at two numbers above 1: no test of straightness",
        )  # fmt: skip
    found = fitting.fit(rounds)
    tested = found.bend_low is not None
    return CounterLine(
        **base,
        a=found.a,
        a_low=found.a_low,
        a_high=found.a_high,
        b=found.b,
        b_low=found.b_low,
        b_high=found.b_high,
        bend=found.bend,
        straight=found.straight if tested else None,
        rounds=found.rounds,
        why="" if tested else "fewer than three rounds: no test of straightness",
    )


def bent_by(found: tuple[CounterLine, ...], bent: CounterLine) -> CounterLine | None:
    """The part of the ledger that explains at least half of the change of a marginal cost; None where no part does."""
    change = _turn(bent)
    mine = [one for one in found if one.subject == bent.subject and ledger.is_part(one.counter)]
    most = max(mine, key=lambda one: _turn(one) * math.copysign(1.0, change), default=None)
    return most if most is not None and _turn(most) / change >= _DECIDES else None


def _turn(line: CounterLine) -> float:
    return line.last_segment - line.first_segment


def _through(line: Points) -> fitting.Line:
    return fitting.robust([(n, y) for n, y in line if n > 1])


def _split(numbers: Sequence[float]) -> float:
    """The number that parts a line in two: the first that reaches a fifth of the largest, and is not the smallest."""
    return next(n for n in numbers[1:] if n >= numbers[-1] * FIFTH)


def _segments(line: Points) -> tuple[float, float]:
    inner = dict(one for one in line if one[0] > 1)
    low, high, split = min(inner), max(inner), _split(sorted(inner))
    first = (inner[split] - inner[low]) / (split - low)
    return first, (inner[high] - inner[split]) / (high - split) if split < high else first
