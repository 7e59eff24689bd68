"""A run's records as tidy tables: one row per number of the trials that count, and their round medians."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from tare.bench.records.rows import Outcome
from tare.bench.records.store import Run
from tare.bench.stats.estimate import outliers

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
    rows = [
        tuple(getattr(sample, column) for column in COLUMNS)
        for sample in run.samples
        if sample.kind == "measured" and sample.trial in good and not sample.role
    ]
    rows += derived
    # Labels stay Python objects: string types of NumPy drop trailing NULs, and with them the match.
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    frame = frame.astype({"value": "float64", "round": "int64", "order": "int64", "at_ns": "int64"})
    frame = frame.drop_duplicates(["trial", "metric", "n"], keep="last").sort_values(["at_ns", "order"], kind="stable")
    frame = frame.reset_index(drop=True)
    frame["outlier"] = False
    for _, group in frame[~frame["metric"].str.startswith("host_")].groupby(["subject", "metric"], sort=False):
        frame.loc[group.index, "outlier"] = list(outliers(group["value"].tolist()))
    return frame


def values(frame: pd.DataFrame, subject: str, metric: str) -> pd.DataFrame:
    """The rows of one subject and metric."""
    return frame[(frame["subject"] == subject) & (frame["metric"] == metric)]


def round_medians(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows = rounds, columns = (subject, metric): the median of the starts within the round, NaN if none."""
    if frame.empty:
        return pd.DataFrame(index=pd.Index([], name="round"), columns=pd.MultiIndex.from_arrays([[], []]))
    return frame.pivot_table(index="round", columns=["subject", "metric"], values="value", aggfunc="median")


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
    known = frame[frame["subject"] == subject].drop_duplicates(["round", "trial", "metric"], keep="last")
    mine = known.pivot(index=["round", "trial"], columns="metric", values="value")
    if later not in mine or (earlier is not None and earlier not in mine):
        return []
    spans = mine[later] if earlier is None else mine[later] - mine[earlier]
    return spans.dropna().groupby("round").median().tolist()
