"""The scale-down: how long removal takes, and what the host has back, by the number that is left."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from itertools import pairwise

import pandas as pd

from tare.bench.records.metrics import show
from tare.reports import words
from tare.reports.sections.ramp.density.model import Descent, DescentPoint
from tare.reports.sections.ramp.memory import ledger
from tare.reports.sections.ramp.ramps import Ramps, chosen


def descents(read: Ramps, refused: Container[str]) -> Iterator[Descent]:
    """One for each subject whose scale-down was read, medians over rounds; nothing for runs that removed all at once.

    Of the memory of *refused* subjects nothing is claimed.
    """
    if not read.down.empty:
        for subject in dict.fromkeys(read.down.index.get_level_values("subject")):
            yield from _descent(read, str(subject), balanced=subject not in refused)


def _descent(read: Ramps, subject: str, *, balanced: bool) -> Iterator[Descent]:
    """Of the rounds that got farthest: their numbers on the scale-down are the same. None where nothing was timed."""
    timed = _timed(_of(read.after, subject)) & _timed(_of(read.down, subject))
    ends = _of_rounds(_of(read.after, subject), timed)
    top = max((int(n) for _, n in ends.index), default=0)
    rounds = [int(number) for number, n in ends.index if n == top]
    if not rounds:
        return
    ends, up, down = (_of_rounds(frame, rounds) for frame in (ends, _of(read.host, subject), _of(read.down, subject)))
    ground = ledger.free(up).xs(0, level="n")
    taken, still = (_medians(_below(ground, frame)) for frame in (up, down))
    if top not in taken:
        return
    still = {n: value for n, value in still.items() if n in taken}
    seconds = {**_medians(down["removal_seconds"]), 0: _medians(ends["removal_seconds"])[top]}
    taken[0], still[top], still[0] = 0.0, taken[top], _medians(_below(ground, ends))[top]
    points = [DescentPoint(n=top, up_bytes=taken[top], down_bytes=still[top])]
    counts = sorted(still, reverse=True)
    for above, n in pairwise(chosen(still)[::-1]):
        took = sum(seconds[m] for m in counts[counts.index(above) + 1 : counts.index(n) + 1])
        point = DescentPoint(
            n=n, up_bytes=taken[n], down_bytes=still[n], removed=above - n, removal_seconds=took,
            each_seconds=took / (above - n),
        )  # fmt: skip
        points.append(point)
    total = _medians(ends["teardown_seconds"])[top]
    yield Descent(
        subject=subject, rounds=len(rounds), reached=top, seconds=total, points=tuple(points),
        balanced=balanced, sentence=_sentence(top, total, points, balanced=balanced),
    )  # fmt: skip


def _of(frame: pd.DataFrame, subject: str) -> pd.DataFrame:
    """The rows of one subject, by round and number."""
    return frame[frame.index.get_level_values("subject") == subject].droplevel(["subject"])


def _timed(frame: pd.DataFrame) -> set[int]:
    """The rounds of which every removal is timed: of one in which the measuring process did not run, none is."""
    times = frame.reindex(columns=["removal_seconds"]).iloc[:, 0]
    whole = times.notna().groupby(level="round").all()
    return {int(str(number)) for number in whole.index[whole]}


def _of_rounds(frame: pd.DataFrame, rounds: Collection[int]) -> pd.DataFrame:
    return frame[frame.index.get_level_values("round").isin(rounds)]


def _below(ground: pd.Series, frame: pd.DataFrame) -> pd.Series:
    """What is no longer free in *frame*, against its round's *ground*: the reading before the first instance."""
    free = ledger.free(frame)
    return free.rsub(ground, level="round")


def _medians(values: pd.Series) -> dict[int, float]:
    """Over rounds, by number."""
    return {int(str(n)): float(value) for n, value in values.groupby(level="n").median().items()}


def _sentence(top: int, total: float, points: list[DescentPoint], *, balanced: bool) -> str:
    """How long all took, and what was back half way and at the end."""
    taken = points[0].up_bytes
    said = f"{words.number(top)} were removed in {show(total, 'seconds')}, {show(total / top, 'seconds')} each"
    if not balanced:
        return f"{said}; no claim about their memory."
    if taken <= 0:
        return f"{said}."
    half = min(points[1:], key=lambda point: abs(point.n - top / 2))
    back = [words.share(1 - point.down_bytes / taken) for point in (half, points[-1])]
    middle = f"with {words.number(half.n)} left, {back[0]} of the memory taken was free again, " if half.n else ""
    return f"{said}; {middle}{'and ' if middle else ''}after the last, {back[1]}."
