"""Everything that a report says of an ascent: the account, the lines, who owns what, density, money."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd

from tare.bench.records.rows import RunHeader
from tare.bench.records.store import Run
from tare.reports.analysis import measures, tables
from tare.reports.cost import bills, prices
from tare.reports.sections.ramp import ramps
from tare.reports.sections.ramp.density import capacity, curves, prediction, verification
from tare.reports.sections.ramp.density.capacity import Size
from tare.reports.sections.ramp.density.scale_down import descents
from tare.reports.sections.ramp.memory import ledger, margins, owners, slopes
from tare.reports.sections.ramp.memory.guest_view import inside
from tare.reports.sections.ramp.memory.reading_cost import sampling
from tare.reports.sections.ramp.memory_model import (
    Capacity,
    Cost,
    CounterLine,
    DensityRow,
    GivenBack,
    LedgerRow,
    MemoryLayers,
    Released,
)
from tare.reports.sections.ramp.ramps import Ramps
from tare.reports.sections.ramp.scaling_model import Constancy, Curve, Descent, Inside, Margin, Sampling

_Row = TypeVar(
    "_Row",
    LedgerRow,
    CounterLine,
    GivenBack,
    DensityRow,
    capacity.Predictions,
    Curve,
    Descent,
    Margin,
    Constancy,
    Sampling,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What the records of an ascent come to.

    ``table`` has every reading of :func:`slopes.weights`; ``unseen`` why the margin of a subject cannot be told
    from nothing.
    """

    read: Ramps
    table: pd.DataFrame
    ledger: tuple[LedgerRow, ...]
    fits: tuple[CounterLine, ...]
    unseen: Mapping[str, str]
    given_back: tuple[GivenBack, ...]
    released: tuple[Released, ...]
    layers: tuple[MemoryLayers, ...]
    inside: tuple[Inside, ...]
    density: tuple[DensityRow, ...]
    capacity: tuple[Capacity, ...]
    curves: tuple[Curve, ...]
    descents: tuple[Descent, ...]
    margins: tuple[Margin, ...]
    constancy: tuple[Constancy, ...]
    sampling: tuple[Sampling, ...]
    costs: tuple[Cost, ...]

    @property
    def refused(self) -> Mapping[str, str]:
        """Subjects on whose memory nothing may be claimed, and why."""
        return refused(self.ledger)

    @property
    def unclaimed(self) -> Mapping[str, Mapping[str, str]]:
        """Subject -> metric -> why no figure of it is claimed."""
        unseen = {label: {measures.MARGIN: why} for label, why in self.unseen.items()}
        return unseen | {label: dict.fromkeys(measures.DERIVED, why) for label, why in self.refused.items()}


def refused(rows: tuple[LedgerRow, ...]) -> Mapping[str, str]:
    """Subjects whose account does not balance at their largest number, and why nothing may be claimed of them."""
    found = {subject: ledger.largest(rows, subject) for subject in dict.fromkeys(row.subject for row in rows)}
    return {subject: row.why for subject, row in found.items() if row is not None and not row.balanced}


def _unseen(table: pd.DataFrame, fits: Iterable[CounterLine]) -> Iterator[tuple[str, str]]:
    """Subjects whose margin no round tells from nothing, and why. Where the rounds are many, its interval says so."""
    for fit in fits:
        if fit.counter == ledger.HOST and fit.b_low is None:
            rounds = slopes.points(table, fit.subject, fit.counter).values()
            whys = [prediction.unseen([reading for reading in one if reading[0] > 1]) for one in rounds]
            if all(whys):
                yield fit.subject, whys[0]


def weigh(run: Run, sizes: Sequence[Size] = ()) -> Weighed | None:
    """The whole account of *run*; None when it stacked no instances. *sizes*: hosts to predict for besides."""
    if measures.probe(run.header) not in measures.ASCENTS:
        return None
    read = ramps.read(run)
    changes = ledger.changes(read)
    table = slopes.weights(read, changes)
    rows = tuple(_ordered(run.header, ledger.rows(table)))
    wanted = (
        ledger.HOST,
        slopes.OWN,
        *slopes.COUNTERS,
        *(column for column in changes.columns if ledger.is_part(column)),
    )
    fits = tuple(slopes.lines(table, wanted))
    unseen = dict(_unseen(table, fits))
    views = tuple(inside(read, run.header.subjects))
    promised = list(verification.lines(run, read)) if _dense(run.header) else []
    dense = tuple(_ordered(run.header, verification.rows(run, read, promised)))
    known = _ordered(run.header, (line for _, line in promised))
    return Weighed(
        read=read,
        table=table,
        ledger=rows,
        fits=tuple(_ordered(run.header, fits)),
        unseen=unseen,
        given_back=tuple(_ordered(run.header, ledger.given_back(read, changes))),
        released=tuple(owners.released(run.header.subjects, table)),
        layers=tuple(owners.stacks(rows, run.header.subjects, views)),
        inside=views,
        density=dense,
        capacity=tuple(capacity.rows(known, sizes, run.header.scenario.get("stack", {}))),
        curves=tuple(_ordered(run.header, curves.curves(read, dense, run.header.host.cpus))),
        descents=tuple(_ordered(run.header, descents(read, refused(rows)))),
        margins=tuple(_ordered(run.header, margins.margins(table))),
        constancy=tuple(_ordered(run.header, margins.constancy(table, run.header.subjects))),
        sampling=tuple(_ordered(run.header, sampling(read, table))),
        costs=tuple(
            bills.costs(run.header, [fit for fit in fits if fit.subject not in unseen], rows, _books(run.header))
        ),
    )


def samples(run: Run, weighed: Weighed | None) -> pd.DataFrame:
    """The numbers of *run*, those that are derived from its account among them: see :mod:`reports.analysis.tables`."""
    return tables.samples(run, _derived(run, weighed) if weighed else ())


def _derived(run: Run, weighed: Weighed) -> Iterator[tuple[object, ...]]:
    """One row a round: the margin that its line has, and what its first instance took."""
    places = {(s.subject, s.round): (s.trial, s.order, s.at_ns) for s in run.samples if s.kind == "measured"}
    firsts = weighed.table[weighed.table.index.get_level_values("n") == 1]
    for subject in weighed.read.subjects():
        found = slopes.slopes(weighed.table, subject, ledger.HOST)
        values = [(measures.MARGIN, number, line.b) for number, line in found.items()]
        mine = firsts[firsts.index.get_level_values("subject") == subject]
        rounds = mine.index.get_level_values("round")
        values += [
            (measures.FIRST, int(number), float(value)) for number, value in zip(rounds, mine[ledger.HOST], strict=True)
        ]
        for metric, number, value in values:
            trial, order, at_ns = places[subject, number]
            yield trial, subject, metric, value, "bytes", number, order, at_ns, 1


def _books(header: RunHeader) -> list[tuple[str, prices.Book]]:
    """The price books that the scenario names, or all that come with tare."""
    known = prices.shipped()
    named = header.scenario.get("prices") or list(known)
    return [(name, prices.load(known[name])) for name in named if name in known]


def _dense(header: RunHeader) -> bool:
    return measures.probe(header) == "density"


def _ordered(header: RunHeader, rows: Iterable[_Row]) -> Iterator[_Row]:
    """In the order of the scenario, whatever the order of the run was."""
    order = {subject.label: place for place, subject in enumerate(header.subjects)}
    return iter(sorted(rows, key=lambda row: order.get(row.subject, len(order))))
