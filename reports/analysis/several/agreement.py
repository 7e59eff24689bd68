"""Whether runs that were merged tell the same: rounds of one run are more alike than rounds of two runs.

An interval over all rounds is that of these runs. Where the runs differ by more than chance, the next one may lie
outside of it, and the reader is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from tare.bench.records.metrics import Metric, show
from tare.bench.records.store import Run
from tare.bench.stats import ranks
from tare.bench.stats.verdict import ALPHA, threshold
from tare.reports import words
from tare.reports.analysis import tables

#: With fewer rounds a run, the distribution that the test counts on is another.
LEAST_ROUNDS = 5


def disagreements(run: Run, medians: pd.DataFrame, labels: Sequence[str], metric: Metric) -> Iterator[str]:
    """One sentence for each subject whose figures differ between merged runs by more than chance, and enough to matter.

    The test is Kruskal's and Wallis' on round medians, the threshold that of a verdict. Nothing is said where a run has
    fewer than LEAST_ROUNDS rounds of the subject.
    """
    ends = np.cumsum([rounds(part) for part in run.merged])
    resolution = run.header.resolution_seconds if metric.unit == "seconds" else 0.0
    for label in labels:
        series = tables.series(medians, label, metric.name)
        places = np.searchsorted(ends, series.index.to_numpy())
        groups = [series.to_numpy()[places == place] for place in range(len(ends))]
        if len(groups) < 2 or min(map(len, groups)) < LEAST_ROUNDS:
            continue
        centres = [float(np.median(group)) for group in groups]
        least, most = min(centres), max(centres)
        p = ranks.several(groups)
        if p > ALPHA or least <= 0 or most / least - 1 < threshold(least, resolution):
            continue
        low, high = (run.merged[centres.index(value)].header.run for value in (least, most))
        shown = words.probability(p)
        yield (
            f"{label}, {metric.title}: {show(least, metric.unit)} in {low}, "
            f"{show(most, metric.unit)} in {high} (p {shown if shown[:1] == '<' else f'= {shown}'}). "
            "The interval is that of these runs; the next run may lie outside of it"
        )


def rounds(run: Run) -> int:
    """How many numbers of rounds *run* takes up."""
    planned = (trial.round for trial in run.header.plan)
    made = (row.round for row in run.outcomes)
    return max(run.header.scenario.run.rounds, *planned, *made, 0)
