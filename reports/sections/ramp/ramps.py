"""What was read on a ramp, as tables: the host by count, the programs, the cgroups, the starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import starmap

import numpy as np
import pandas as pd

from tare.bench.records.rows import Serves
from tare.bench.records.store import Run
from tare.reports.analysis import tables

#: How the names begin of what the window after settling and the reading itself show, and of what a payload sees.
_WINDOW = ("window_", "host_busy_", "pressure_", "sampling_")
_INSIDE = "inside_"

#: So many counts of a subject have a row of their own in a table, or a point on a curve. Lines and figures use all.
MOST_COUNTS = 60

_KEYS = ["subject", "round", "n"]
_PROGRAM = ["role", "serves"]
_TEXTS = ("subject", *_PROGRAM)

#: Counters that every tare read with all others at each number: without one of them there is no ledger.
_NEEDED = (
    "host_total_bytes", "host_free_bytes", "host_available_bytes", "host_percpu_lists_bytes", "host_anon_bytes",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Program:
    """A program that runs instances. ``serves``: it serves all of them, and stays when they are gone."""

    role: str
    serves: Serves

    def __str__(self) -> str:
        return f"{self.role} ({self.serves})" if self.serves else self.role


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramps:
    """Readings of the ramps that ended ok. Bytes and seconds, indexed by subject, round and count.

    ``host`` has the host's counters from n = 0 on, ``down`` the same with n left on the scale-down, ``after`` once all
    were removed (n = how many there had been). ``programs`` is indexed by the two fields of :class:`Program`, too;
    ``whole`` has cgroup sums and guest memory. ``starts`` has one row each: subject, round, n, value in seconds.
    ``window`` has what the host was busy with at n and what reading it cost, ``inside`` what instance number n saw of
    memory. ``down``, ``window`` and ``inside`` are empty in runs of an older tare. ``notes`` say what was left out,
    since a part of it is missing.
    """

    host: pd.DataFrame
    down: pd.DataFrame
    after: pd.DataFrame
    programs: pd.DataFrame
    whole: pd.DataFrame
    starts: pd.DataFrame
    window: pd.DataFrame
    inside: pd.DataFrame
    notes: tuple[str, ...]

    def subjects(self) -> list[str]:
        """Labels that have readings of at least one instance."""
        found = self.host.index.get_level_values("subject")[self.host.index.get_level_values("n") > 0]
        return list(dict.fromkeys(found))

    def known_programs(self) -> list[Program]:
        """All programs that were read, in the order in which they were."""
        names = (self.programs.index.get_level_values(name) for name in _PROGRAM)
        return list(starmap(Program, dict.fromkeys(zip(*names, strict=True))))


def read(run: Run) -> Ramps:
    """The readings of *run*; tables are empty where nothing was read."""
    good = {trial for trial, outcome in tables.last_outcomes(run).items() if outcome.status == "ok"}
    kept = [row for row in run.samples if row.kind == "measured" and row.trial in good]
    frame = tables.columns(kept, (*_KEYS, *_PROGRAM, "stage", "metric", "value"), labels=("metric",))
    names = {name: name.startswith for name in frame["metric"].cat.categories}
    window, inside, host = (
        frame["metric"].isin([name for name, starts in names.items() if starts(prefix)])
        for prefix in (_WINDOW, _INSIDE, "host_")
    )
    host &= ~window
    start = frame["metric"] == "ready_seconds"
    up, whole = frame["stage"] == "", frame["role"] == ""
    notes: list[str] = []
    return Ramps(
        host=_whole(_wide(frame[up & host], _KEYS), "", notes),
        down=_whole(_wide(frame[frame["stage"] == "down"], _KEYS), " on the scale-down", notes),
        after=_whole(_wide(frame[frame["stage"] == "after"], _KEYS), " once all were removed", notes),
        programs=_wide(frame[up & ~whole], [*_KEYS, *_PROGRAM]),
        whole=_wide(frame[up & whole & ~(host | window | inside | start)], _KEYS),
        starts=frame[up & start][[*_KEYS, "value"]].reset_index(drop=True),
        window=_wide(frame[up & window], _KEYS),
        inside=_wide(frame[up & inside], _KEYS),
        notes=tuple(notes),
    )


def chosen(counts: Iterable[int]) -> list[int]:
    """At most :data:`MOST_COUNTS` of *counts*, rising: all of them, or some evenly, with the first and the last."""
    return evenly(sorted(set(counts)), MOST_COUNTS)


def evenly(values: Sequence[int], most: int) -> list[int]:
    """At most *most* of *values*, evenly by their places, with the first and the last."""
    places = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    return [values[place] for place in places]


def one(frame: pd.DataFrame, subject: str, number: int) -> pd.DataFrame:
    """The readings of one ramp, by count; empty when there are none."""
    names = frame.index.get_level_values("subject"), frame.index.get_level_values("round")
    return frame[(names[0] == subject) & (names[1] == number)].droplevel(["subject", "round"])


def _wide(frame: pd.DataFrame, index: list[str]) -> pd.DataFrame:
    if frame.empty:
        levels = [pd.Index([], dtype=object if name in _TEXTS else "int64") for name in index]
        return pd.DataFrame(index=pd.MultiIndex.from_arrays(levels, names=index))
    wide = frame.pivot_table(index=index, columns="metric", values="value", aggfunc="last", sort=False, observed=True)
    wide.columns = wide.columns.astype(object)  # others join them
    return wide


def _whole(frame: pd.DataFrame, when: str, notes: list[str]) -> pd.DataFrame:
    """The readings of *frame* that have every counter of the host; what is left out is added to *notes*.

    They are read at once: where one is missing, rows of the run were lost, and a sum over the rest would be wrong.
    """
    counters = [name for name in frame.columns if name.startswith("host_")]
    lacking = [name for name in _NEEDED if name not in counters]
    whole = frame[frame[counters].notna().all(axis=1) & (not lacking)]
    torn = frame.drop(whole.index)
    for subject, some in torn.groupby(level="subject", sort=False):
        grounds = not when and (some.index.get_level_values("n") == 0).any()
        without = ", one of them before the first instance: this ramp has no ledger" if grounds else ""
        what = "reading lacks" if len(some) == 1 else "readings lack"
        notes.append(f"{subject}: {len(some)} {what} counters of the host{when}, and are left out{without}")
    return whole
