"""Everything that a report says of a ramp: the ledger, the lines, who owns what, density, money."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd

from tare.bench.experiments.rules import StackTable
from tare.bench.records.header import RunHeader
from tare.bench.records.store import Run
from tare.reports.analysis import noise
from tare.reports.analysis.figures import Refused
from tare.reports.analysis.noise import Disturbance
from tare.reports.cost import bills, prices
from tare.reports.cost.model import Cost
from tare.reports.sections import Groundwork
from tare.reports.sections.ramp import prediction, ramps
from tare.reports.sections.ramp.density import capacity, curves, verification
from tare.reports.sections.ramp.density.capacity import Size
from tare.reports.sections.ramp.density.model import Capacity, Curve, DensityRow, Descent
from tare.reports.sections.ramp.density.scale_down import descents
from tare.reports.sections.ramp.memory import ledger, margins, owners, slopes
from tare.reports.sections.ramp.memory.guest_view import inside
from tare.reports.sections.ramp.memory.model import (
    FIRST,
    MARGIN,
    Constancy,
    CounterLine,
    GivenBack,
    Inside,
    LedgerRow,
    Margin,
    MemoryLayers,
    Released,
    Row,
    Sampling,
    Step,
)
from tare.reports.sections.ramp.memory.reading_cost import sampling
from tare.reports.sections.ramp.memory.steps import steps
from tare.reports.sections.ramp.ramps import Ramps

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


class RampAnalysis(Row, frozen=True, kw_only=True):
    """All that is said of a ramp beyond its figures. The fields stand in ``--json`` under these names."""

    ledger: tuple[LedgerRow, ...] = ()
    fits: tuple[CounterLine, ...] = ()
    given_back: tuple[GivenBack, ...] = ()
    released: tuple[Released, ...] = ()
    layers_memory: tuple[MemoryLayers, ...] = ()
    inside: tuple[Inside, ...] = ()
    steps: tuple[Step, ...] = ()
    density: tuple[DensityRow, ...] = ()
    capacity: tuple[Capacity, ...] = ()
    curves: tuple[Curve, ...] = ()
    descents: tuple[Descent, ...] = ()
    margins: tuple[Margin, ...] = ()
    constancy: tuple[Constancy, ...] = ()
    sampling: tuple[Sampling, ...] = ()
    costs: tuple[Cost, ...] = ()

    @property
    def refused(self) -> Mapping[str, str]:
        """Subjects whose ledger does not balance at their largest count, and why nothing may be claimed of them."""
        return refused(self.ledger)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What charts draw besides: all that was read, every reading of :func:`slopes.weights`, what instances used."""

    read: Ramps
    table: pd.DataFrame
    used: pd.DataFrame


def refused(rows: tuple[LedgerRow, ...]) -> Mapping[str, str]:
    """Subjects whose ledger does not balance at their largest count, and why nothing may be claimed of them."""
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


def analyse(run: Run, sizes: Sequence[Size] = (), *, dense: bool) -> Groundwork:
    """Everything that a report says of the ramps of *run*.

    *sizes*: hosts to predict for besides; *dense*: whether it asks how many fit.
    """
    header = run.header
    read = ramps.read(run)
    changes = ledger.changes(read)
    table = slopes.weights(read, changes)
    used = verification.used(read, changes)
    meanwhile = noise.disturbance(run)
    rows = tuple(_ordered(header, ledger.rows(table, read.known_programs(), meanwhile)))
    parts = (column for column in changes.columns if ledger.is_part(column))
    fits = tuple(slopes.lines(table, (ledger.HOST, slopes.OWN, *slopes.COUNTERS, *parts)))
    unseen = dict(_unseen(table, fits))
    noisy, spoilt = dict(_noisy(fits, meanwhile)), _spoilt(rows)
    views = tuple(inside(read, header.subject_records()))
    predicted = list(verification.predictions(run, read, used)) if dense else []
    verified = tuple(_ordered(header, verification.rows(run, read, used, predicted, meanwhile)))
    known = _ordered(header, (one for _, one in predicted))
    found = RampAnalysis(
        ledger=rows,
        fits=tuple(_ordered(header, fits)),
        given_back=tuple(_ordered(header, ledger.given_back(read, changes))),
        released=tuple(owners.released(header.subject_records(), table)),
        layers_memory=tuple(owners.stacks(rows, header.subject_records(), views)),
        inside=views,
        steps=tuple(steps(table, header.subject_records())),
        density=verified,
        capacity=tuple(capacity.rows(known, sizes, header.scenario.table(StackTable))),
        curves=tuple(_ordered(header, curves.curves(read, used, verified, header.host.cpus))),
        descents=tuple(_ordered(header, descents(read, refused(rows)))),
        margins=tuple(_ordered(header, margins.margins(table))),
        constancy=tuple(_ordered(header, margins.constancy(table, header.subject_records()))),
        sampling=tuple(_ordered(header, sampling(read, table))),
        costs=tuple(bills.costs(header, list(_needs(header, fits, rows, {*unseen, *noisy})), _books(header))),
    )
    return Groundwork(
        analysis=found,
        derived=tuple(_derived(run, read, table)),
        unclaimed=_unclaimed(unseen, {label: why for label, why in found.refused.items() if label not in spoilt}),
        refused={**{label: {MARGIN.name: why} for label, why in noisy.items()}, **spoilt},
        notes=(*read.notes, *_left_out(run, read, dense=dense)),
        drawn=Drawn(read=read, table=table, used=used),
    )


def _left_out(run: Run, read: Ramps, *, dense: bool) -> Iterator[str]:
    """What tables and curves of a very large run do not show one by one."""
    for subject in read.subjects():
        counts = set(read.host.index[read.host.index.get_level_values("subject") == subject].get_level_values("n"))
        if len(counts) > ramps.MOST_COUNTS:
            yield (
                f"{subject} was read at {len(counts)} counts. Tables and curves show {ramps.MOST_COUNTS} of them, "
                "with the first, the last and those of the largest residuals; lines and figures use all of them."
            )
    for subject, some in verification.ended(run).items() if dense else ():
        if len(some) > verification.MOST_RAMPS:
            yield (
                f"{subject}: {len(some)} ramps ended. The predictions of {verification.MOST_RAMPS} of them are shown, "
                "with those that reached the fewest and the most instances."
            )


def _needs(
    header: RunHeader, fits: Sequence[CounterLine], rows: tuple[LedgerRow, ...], unseen: Container[str]
) -> Iterator[bills.MemoryNeed]:
    """What the subjects need of whose memory a claim may be made: it can be seen, and the ledger balances."""
    lines = {fit.subject: fit for fit in fits if fit.counter == ledger.HOST and fit.b > 0}
    refusals = refused(rows)
    for subject in header.subject_records():
        line = lines.get(subject.label)
        if line is not None and subject.label not in refusals and subject.label not in unseen:
            yield bills.MemoryNeed(a=line.a, b=line.b, subject=subject, b_low=line.b_low, b_high=line.b_high)


def _unclaimed(unseen: Mapping[str, str], refused: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
    """Subject -> metric -> why no figure of it is claimed."""
    small = {label: {MARGIN.name: why} for label, why in unseen.items()}
    return small | {label: dict.fromkeys((MARGIN.name, FIRST.name), why) for label, why in refused.items()}


def _noisy(fits: Iterable[CounterLine], meanwhile: Disturbance) -> Iterator[tuple[str, Refused]]:
    """Subjects whose margin scatters by more than itself from round to round, and why."""
    for fit in fits:
        if fit.counter == ledger.HOST:
            ends, who = (fit.b_low, fit.b_high), meanwhile.grew(fit.subject)
            if refused := noise.refuse(fit.b, "bytes", ends=ends, rounds=fit.rounds, who=who):
                yield fit.subject, refused


def _spoilt(rows: tuple[LedgerRow, ...]) -> Mapping[str, Mapping[str, Refused]]:
    """Subject -> metric -> why the host spoilt it: others' part of the largest change is larger than itself."""
    found = {subject: ledger.largest(rows, subject) for subject in dict.fromkeys(row.subject for row in rows)}
    return {
        subject: dict.fromkeys((MARGIN.name, FIRST.name), row.refused)
        for subject, row in found.items()
        if row is not None and row.refused is not None
    }


def _derived(run: Run, read: Ramps, table: pd.DataFrame) -> Iterator[tuple[object, ...]]:
    """One row a round: the margin that its line has, and what its first instance took."""
    places = {(s.subject, s.round): (s.trial, s.order, s.at_ns) for s in run.samples if s.kind == "measured"}
    firsts = table[table.index.get_level_values("n") == 1]
    for subject in read.subjects():
        found = slopes.slopes(table, subject, ledger.HOST)
        values = [(MARGIN.name, number, line.b) for number, line in found.items()]
        mine = firsts[firsts.index.get_level_values("subject") == subject]
        rounds = mine.index.get_level_values("round")
        values += [
            (FIRST.name, int(number), float(value)) for number, value in zip(rounds, mine[ledger.HOST], strict=True)
        ]
        for metric, number, value in values:
            trial, order, at_ns = places[subject, number]
            yield trial, subject, metric, value, "bytes", number, order, at_ns, 1


def _books(header: RunHeader) -> list[tuple[str, prices.Book]]:
    """The price books that the scenario names, or all that come with tare."""
    known = prices.shipped()
    named = header.scenario.prices or list(known)
    return [(name, prices.load(known[name])) for name in named if name in known]


def _ordered(header: RunHeader, rows: Iterable[_Row]) -> Iterator[_Row]:
    """In the order of the scenario, whatever the order of the run was."""
    order = {subject.label: place for place, subject in enumerate(header.subject_records())}
    return iter(sorted(rows, key=lambda row: order.get(row.subject, len(order))))
