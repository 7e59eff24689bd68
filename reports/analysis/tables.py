"""A run's records as tidy tables: one row per number of the trials that count, and their round medians."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd

from tare.bench.records.metrics import Metric
from tare.bench.records.rows import Outcome, Sample
from tare.bench.records.store import Run
from tare.bench.stats.estimate import outliers

_LABELS = ("trial", "subject", "metric", "unit")
_NUMBERS: dict[str, str] = {"value": "float64", "round": "int64", "order": "int64", "at_ns": "int64", "n": "int64"}
COLUMNS = ("trial", "subject", "metric", "value", "unit", "round", "order", "at_ns", "n")


def last_outcomes(run: Run) -> dict[str, Outcome]:
    """The outcome that counts of each trial: a trial that was run again after an interruption has several."""
    return {outcome.trial: outcome for outcome in run.outcomes}


def samples(run: Run, derived: Iterable[tuple[object, ...]] = ()) -> pd.DataFrame:
    """Measured numbers of trials that ended ok, one row each, in the order of the run; warm-ups are left out.

    Columns: :data:`COLUMNS`, ``n`` (instances alive), and ``outlier`` (flagged within its subject and metric, never
    dropped). *derived* are further rows of the same columns. What belongs to one program is not a number of the trial.
    """
    good = {trial for trial, outcome in last_outcomes(run).items() if outcome.status == "ok"}
    kept = [row for row in run.samples if row.kind == "measured" and not row.role and row.trial in good]
    frame = columns(kept, COLUMNS, labels=_LABELS, more=list(derived))
    frame = frame.drop_duplicates(["trial", "metric", "n"], keep="last").sort_values(["at_ns", "order"], kind="stable")
    frame = frame.reset_index(drop=True)
    flags = np.zeros(len(frame), dtype=bool)
    value = frame["value"].to_numpy()
    groups: Any = frame.groupby(["subject", "metric"], sort=False, observed=True).indices
    for (_, metric), places in groups.items():
        if not metric.startswith("host_"):
            flags[places] = outliers(value[places])
    frame["outlier"] = flags
    return frame


def columns(
    rows: Sequence[Sample], names: Sequence[str], *, labels: Sequence[str], more: Sequence[tuple[object, ...]] = ()
) -> pd.DataFrame:
    """These fields of *rows*, and of *more*, as columns; *labels* of them are made categories.

    Categories of Python objects are compared as small integers. String types of NumPy drop trailing NULs.
    """
    found: dict[str, Any] = {}
    for place, name in enumerate(names):
        values = [*map(attrgetter(name), rows), *(row[place] for row in more)]
        found[name] = np.fromiter(values, dtype=_NUMBERS.get(name, object), count=len(values))
        if name in labels:
            found[name] = pd.Categorical(found[name])
    return pd.DataFrame(found)


def values(frame: pd.DataFrame, subject: str, metric: str) -> pd.DataFrame:
    """The rows of one subject and metric."""
    return frame[(frame["subject"] == subject) & (frame["metric"] == metric)]


def round_medians(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows = rounds, columns = (subject, metric): the median of the starts within the round, NaN if none."""
    if frame.empty:
        return pd.DataFrame(index=pd.Index([], name="round"), columns=pd.MultiIndex.from_arrays([[], []]))
    found = (
        frame.groupby(["subject", "metric", "round"], observed=True)["value"].median().unstack(["subject", "metric"])
    )
    labels: list[Any] = found.columns.tolist()
    found.columns = pd.MultiIndex.from_tuples(labels)
    return found.sort_index()


def series(medians: pd.DataFrame, subject: str, metric: str) -> pd.Series:
    """Round medians of one subject and metric by round; empty when it has none."""
    if (subject, metric) not in medians.columns:
        return pd.Series([], index=pd.Index([], name="round"), dtype="float64")
    return medians[(subject, metric)].dropna()


def paired(medians: pd.DataFrame, first: tuple[str, str], second: tuple[str, str]) -> tuple[list[float], list[float]]:
    """Round medians of two (subject, metric) in the rounds that have both: the same rounds, in the same order."""
    both = pd.concat([series(medians, *first), series(medians, *second)], axis=1, join="inner")
    return both.iloc[:, 0].tolist(), both.iloc[:, 1].tolist()


def differences(frame: pd.DataFrame, subject: str, later: str, earlier: str | None) -> list[float]:
    """Per round, the median over its starts of ``later - earlier``, both of one start. ``None`` stands for zero."""
    ends = _by_start(frame, subject, later)
    spans = ends["value"] if earlier is None else ends["value"] - _by_start(frame, subject, earlier)["value"]
    return spans.dropna().groupby("round").median().tolist()


def _by_start(frame: pd.DataFrame, subject: str, metric: str) -> pd.DataFrame:
    """The rows of one subject and metric by round and start."""
    mine = values(frame, subject, metric)
    starts = pd.MultiIndex.from_arrays([mine["round"], mine["trial"].cat.codes], names=["round", "start"])
    found = mine.set_index(starts)
    return found[~found.index.duplicated(keep="last")]


def asked_for(frame: pd.DataFrame, metrics: Iterable[Metric]) -> tuple[Metric, ...]:
    """Those of *metrics* that a run was asked for: an optional one only where there is a value of it."""
    found = set(frame["metric"].unique()) if not frame.empty else set()
    return tuple(metric for metric in metrics if not metric.optional or metric.name in found)
