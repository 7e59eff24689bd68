"""The tables of memory, density and the least grant for the terminal: 80 columns, legible without any colour."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from reports import ledger, measures, words
from reports.memory_model import DensityRow, LedgerRow
from reports.memory_words import EXTRAPOLATED
from reports.model import Figure, Report, SubjectFigures

GIB = 2**30


def tables(report: Report, subjects: Sequence[SubjectFigures], width: int) -> list[Table]:
    """What stands above the sentences, by the probe of the run."""
    if report.probe == "least-memory":
        return [_least(subjects, width)]
    found = [_density(report, width)] if report.density else []
    found += [capacity(report, width)] if report.capacity else []
    return [*found, _memory(report, subjects, width)] if report.ledger else found


def _memory(report: Report, subjects: Sequence[SubjectFigures], width: int) -> Table:
    table = _table(width, ("one more", "95 % CI", "the first", "residual", "balances"))
    for group in _classes(subjects):
        for subject in group:
            margin, first = _figure(subject, measures.MARGIN), _figure(subject, measures.FIRST)
            row = ledger.largest(report.ledger, subject.label)
            table.add_row(
                _name(subject),
                Text("no claim" if margin.why.startswith("no claim") else _quantity(margin)),
                Text(_interval(margin)),
                Text(_quantity(first)),
                Text(words.percent(row.residual_fraction) if row else "—"),
                Text(_balanced(row) if row else "—"),
            )
        table.add_section()
    return table


def _balanced(row: LedgerRow) -> str:
    """Whether the account balances, and in how many of its rounds."""
    return f"{'yes' if row.balanced else 'no'}, {row.rounds_balanced} of {row.rounds}"


def _number(n: int | None) -> str:
    """Without the narrow space between thousands: terminals do not agree how wide that is."""
    return words.number(n).replace("\N{NARROW NO-BREAK SPACE}", "")


def _density(report: Report, width: int) -> Table:
    emulated = {subject.label for subject in report.subjects if subject.result_class == "emulated"}
    table = _table(width, ("predicted", "95 % CI", "reached", "error"), last="ended by")
    for row in report.density:
        ends = "—"
        if row.predicted is not None:
            ends = f"{_number(row.predicted_low)} to {_number(row.predicted_high)}"
        table.add_row(
            Text(words.clean(row.subject) + (" (emulated)" if row.subject in emulated else "")),
            Text(_predicted(row)),
            Text(ends),
            Text(str(row.reached)),
            Text(words.percent(row.error_fraction) + (" bytes" if row.compared == "bytes" else "")),
            Text(words.clean(row.rule)),
        )
    return table


def _predicted(row: DensityRow) -> str:
    """The number, and a mark where it is the processors that allow no more."""
    if row.predicted is None:
        return "—"
    return _number(row.predicted) + (" CPU" if row.bound == "processors" else "")


def capacity(report: Report, width: int) -> Table:
    """Hosts of other sizes: what each would hold of each subject, by which bound."""
    table = _table(width, ("memory, CPUs", "floor", "instances", "95 % CI"), last="bound")
    emulated = {subject.label for subject in report.subjects if subject.result_class == "emulated"}
    for row in report.capacity:
        ends = "—" if row.instances is None else f"{_number(row.low)} to {_number(row.high)}"
        table.add_row(
            Text(words.clean(row.subject) + (" (emulated)" if row.subject in emulated else "")),
            Text(f"{words.plain(row.ram_bytes / GIB)} GiB, {row.processors}"),
            Text(f"{row.floor_percent:g} %"),
            Text("—" if row.instances is None else _number(row.instances)),
            Text(ends),
            Text("CPU" if row.bound == "processors" else row.bound or "not known"),
        )
    table.caption = EXTRAPOLATED
    table.caption_justify = "left"
    return table


def _least(subjects: Sequence[SubjectFigures], width: int) -> Table:
    table = _table(width, ("least memory", "95 % CI", "attempts", "searches"))
    for group in _classes(subjects):
        for subject in group:
            least, attempts = _figure(subject, "least_memory_bytes"), _figure(subject, "attempts_count")
            table.add_row(
                _name(subject),
                Text("no figure" if least.median is None else words.quantity(least.median, least.unit)),
                Text(words.interval(least.low, least.high, least.unit)),
                Text(words.quantity(attempts.median, attempts.unit)),
                Text(f"{subject.counts.ready} of {subject.counts.started}"),
            )
        table.add_section()
    return table


def _table(width: int, titles: Sequence[str], last: str = "") -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), width=min(width, 100))
    table.add_column("subject", overflow="fold", ratio=1, min_width=13)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    if last:
        table.add_column(last, overflow="fold")
    return table


def _classes(subjects: Sequence[SubjectFigures]) -> tuple[list[SubjectFigures], list[SubjectFigures]]:
    emulated = [subject for subject in subjects if subject.result_class == "emulated"]
    return [subject for subject in subjects if subject.result_class != "emulated"], emulated


def _name(subject: SubjectFigures) -> Text:
    return Text(words.clean(subject.label) + (" (emulated)" if subject.result_class == "emulated" else ""))


def _quantity(figure: Figure) -> str:
    return "—" if figure.median is None else words.size(figure.median)


def _interval(figure: Figure) -> str:
    if figure.low is not None and figure.low < 0 and figure.high is not None:
        return f"{words.size(figure.low)} to {words.size(figure.high)}"
    return words.interval(figure.low, figure.high, figure.unit)


def _figure(subject: SubjectFigures, metric: str) -> Figure:
    return next(figure for figure in subject.figures if figure.metric == metric)
