"""Of what one more instance consists, from the first to the last, and what changes (docs/explanation/method.md)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Literal

import pandas as pd

from tare.bench.records.header import SubjectRecord
from tare.bench.stats.verdict import LEAST_CHANGE
from tare.reports.sections.ramp.memory import ledger, margin_words, slopes
from tare.reports.sections.ramp.memory.model import Constancy, Margin, Moved
from tare.reports.sections.ramp.prediction import FIFTH, noise_bytes
from tare.reports.sections.ramp.ramps import chosen
from tare.runners import layers

#: By count, rising: every column of :func:`reports.sections.ramp.memory.slopes.weights`.
Readings = dict[int, dict[str, float]]

#: Parts that are no instance's own: they are shown, and nothing is concluded from them.
APART = (ledger.OTHERS, "page_cache")

#: What lies between two counts must be so many times the noise of a difference of readings to be shown by itself.
_SEEN = 4.0
#: A change is seen when it passes so many standard deviations of the noise.
_DEVIATIONS = 2.0
#: Numbers above one without which nothing is said of constancy.
_LEAST_NUMBERS = 4


def margins(table: pd.DataFrame) -> Iterator[Margin]:
    """Per subject the margin between counts that follow each other, from the first instance on."""
    for subject, readings, rounds in _subjects(table):
        for start, end in _steps(readings):
            each = _each(readings, start, end)
            parts = {part: each[part] for part in each if ledger.is_part(part)}
            yield Margin(
                subject=subject,
                start=start,
                end=end,
                margin_bytes=each[ledger.HOST],
                own_bytes=each[slopes.OWN],
                kept_bytes=each[slopes.KEPT],
                parts=parts,
                residual_bytes=each[ledger.HOST] - sum(parts.values()),
                guest_ram_bytes=each.get(ledger.GUEST, 0.0),
                rounds=rounds,
            )


def constancy(table: pd.DataFrame, subjects: Iterable[SubjectRecord]) -> Iterator[Constancy]:
    """Whether one more costs the same to the last, for each subject that was read at four numbers or more above one.

    It does not where several share a machine: steps.py says that of them.
    """
    known = list(subjects)
    emulated = {subject.label for subject in known if subject.accelerator == "tcg"}
    stepped = {subject.label for subject in known if layers.places(subject.facts) > 1}
    for subject, readings, _ in _subjects(table):
        if subject not in stepped and sum(n > 1 for n in readings) >= _LEAST_NUMBERS:
            yield _constancy(subject, readings, emulated=subject in emulated)


def _subjects(table: pd.DataFrame) -> Iterator[tuple[str, Readings, int]]:
    """Subject, by count the median over rounds of everything that was read, and how many rounds there are."""
    if table.empty or slopes.OWN not in table.columns:
        return
    for subject in dict.fromkeys(table.index.get_level_values("subject")):
        mine = table[table.index.get_level_values("subject") == subject]
        mine = mine[mine.index.get_level_values("n").isin(chosen(mine.index.get_level_values("n")))]
        middle = mine.groupby(level="n").median().sort_index().dropna(axis="columns", how="all").fillna(0.0)
        readings = {
            int(n): dict(zip(map(str, middle.columns), map(float, row), strict=True))
            for n, row in zip(middle.index, middle.to_numpy(), strict=True)
        }
        yield str(subject), readings, mine.index.get_level_values("round").nunique()


def _each(readings: Readings, start: int, end: int) -> dict[str, float]:
    """What moved between two numbers, an instance."""
    return {name: (value - readings[start][name]) / (end - start) for name, value in readings[end].items()}


def _kept(readings: Readings) -> list[tuple[float, float]]:
    return [(float(n), values[slopes.KEPT]) for n, values in readings.items()]


def _steps(readings: Readings) -> list[tuple[int, int]]:
    """Neighbouring numbers, put together until what lies between them can be seen; what is left joins the last."""
    least = _SEEN * math.sqrt(2) * noise_bytes(_kept(readings))
    numbers = list(readings)
    ends = numbers[:1]
    for n in numbers[1:]:
        if abs(readings[n][slopes.KEPT] - readings[ends[-1]][slopes.KEPT]) >= least:
            ends.append(n)
    if ends[-1] != numbers[-1]:
        ends = [*(ends[:-1] if len(ends) > 1 else ends), numbers[-1]]
    return list(pairwise(ends))


def _constancy(subject: str, readings: Readings, *, emulated: bool) -> Constancy:
    numbers = [n for n in readings if n > 1]
    start, end = numbers[0], numbers[-1]
    # Where the last step passes all but a fifth, it alone is what comes late.
    split = next((n for n in numbers[1:-1] if n >= end * FIFTH), numbers[-2])
    early, late = _each(readings, start, split), _each(readings, split, end)
    was, became = early[slopes.KEPT], late[slopes.KEPT]
    spread = _spread_bytes(noise_bytes(_kept(readings)[-len(numbers) :]), start, split, end)
    change, unseen = (became / was - 1, _DEVIATIONS * spread / was) if was > 0 else (None, None)
    found = Constancy(
        subject=subject,
        start=start,
        split=split,
        end=end,
        early_bytes=was,
        late_bytes=became,
        change_fraction=change,
        unseen_fraction=unseen,
        verdict=_verdict(change, unseen),
        moved=_moved(early, late),
        consists="",
        stays="",
        why="",
        first="",
        rule="",
        emulated=emulated,
    )
    return margin_words.told(found, _each(readings, start, end), readings.get(1))


def _spread_bytes(noise: float, start: int, split: int, end: int) -> float:
    """The standard deviation of late - early: of three readings, that at the split is in both."""
    early, late = 1 / (split - start), 1 / (end - split)
    return noise * math.sqrt(early**2 + late**2 + (early + late) ** 2)


def _verdict(change: float | None, unseen: float | None) -> Literal["same", "changes", "not seen"]:
    if change is None or unseen is None:
        return "not seen"
    if abs(change) < LEAST_CHANGE:
        return "same" if unseen <= LEAST_CHANGE else "not seen"
    return "changes" if abs(change) > unseen else "not seen"


def _moved(early: Mapping[str, float], late: Mapping[str, float]) -> tuple[Moved, ...]:
    """Each part before and after, the residual among them; the largest change first."""
    parts = [part for part in early if ledger.is_part(part) and part not in APART]
    ends = {part: (early[part], late[part]) for part in parts}
    ends[ledger.RESIDUAL] = (_left(early, parts), _left(late, parts))
    turn = late[slopes.KEPT] - early[slopes.KEPT]
    found = [
        Moved(
            part=part,
            title=ledger.title(part),
            early_bytes=was,
            late_bytes=became,
            share=(became - was) / turn if turn else None,
        )
        for part, (was, became) in ends.items()
    ]
    return tuple(sorted(found, key=lambda one: -abs(one.late_bytes - one.early_bytes)))


def _left(each: Mapping[str, float], parts: Iterable[str]) -> float:
    return each[slopes.KEPT] - sum(each[part] for part in parts)
