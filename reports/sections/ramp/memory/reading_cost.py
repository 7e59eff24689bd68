"""What the reading itself costs: an instrument that adds to what it measures must say how much."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from tare.bench.records.metrics import show
from tare.bench.stats.verdict import LEAST_CHANGE
from tare.reports import words
from tare.reports.sections.ramp.memory import slopes
from tare.reports.sections.ramp.memory.model import Sampling
from tare.reports.sections.ramp.ramps import Ramps

_BYTES, _SECONDS = "sampling_bytes", "sampling_seconds"


def sampling(read: Ramps, table: pd.DataFrame) -> Iterator[Sampling]:
    """One row for each subject, at its largest number; nothing in runs that did not record it."""
    if read.window.empty or not {_BYTES, _SECONDS} <= set(read.window.columns):
        return
    for subject in read.subjects():
        mine = read.window[read.window.index.get_level_values("subject") == subject][[_SECONDS, _BYTES]].dropna()
        if not mine.empty:
            yield _row(subject, mine, table)


def _row(subject: str, mine: pd.DataFrame, table: pd.DataFrame) -> Sampling:
    n = int(mine.index.get_level_values("n").max())
    last = mine[mine.index.get_level_values("n") == n]
    seconds, added = (float(last[metric].median()) for metric in (_SECONDS, _BYTES))
    taken = table[slopes.OWN].reindex(mine.index)
    shares = (mine[_BYTES] / taken)[taken > 0].tolist()
    ends = (float(np.median(shares)), min(shares), max(shares)) if shares else (None, None, None)
    return Sampling(
        subject=subject,
        n=n,
        readings=len(mine),
        seconds=seconds,
        bytes=added,
        fraction=ends[0],
        least=ends[1],
        most=ends[2],
        sentence=_sentence(subject, n, len(mine), seconds, ends),
    )


def _sentence(subject: str, n: int, readings: int, seconds: float, ends: tuple[float | None, ...]) -> str:
    took = f"{subject}: reading at {n} alive took {show(seconds, 'seconds')}"
    middle, least, most = ends
    if middle is None:
        return f"{took}."
    verdict = "reading does not disturb the figures" if abs(middle) < LEAST_CHANGE else "reading disturbs the figures"
    return (
        f"{took}; the median of {words.plural(readings, 'reading')} changed free memory by {words.percent(middle)} "
        f"of the memory taken until then ({words.percent(least)} to {words.percent(most)}): {verdict}."
    )
