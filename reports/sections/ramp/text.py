"""The tables of memory and density for the terminal: any width, legible without any colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from tare.reports import words
from tare.reports.analysis.figures import Figure, SubjectFigures
from tare.reports.analysis.model import Report
from tare.reports.sections.ramp.density.model import DensityRow
from tare.reports.sections.ramp.memory import ledger
from tare.reports.sections.ramp.memory.model import FIRST, MARGIN, LedgerRow
from tare.reports.sections.ramp.sentences import EXTRAPOLATED
from tare.reports.terminal import figures, layout

GIB = 2**30


def tables(report: Report, subjects: Sequence[SubjectFigures], width: int) -> Iterator[Text]:
    """What stands above the sentences."""
    if report.analysis.density:
        yield from _density(report).lines(width)
        yield Text()
    if report.analysis.capacity:
        yield from capacity(report, width)
        yield Text()
    if report.analysis.ledger:
        yield from _memory(report, subjects).lines(width)
        yield Text()


def _memory(report: Report, subjects: Sequence[SubjectFigures]) -> layout.Table:
    return figures.grouped(
        ("one more", "95 % CI", "the first", "residual", "balances"),
        [[_account(report, subject) for subject in group] for group in figures.classes(subjects)],
    )


def _account(report: Report, subject: SubjectFigures) -> Sequence[Text]:
    margin, first = subject.figure(MARGIN.name), subject.figure(FIRST.name)
    row = ledger.largest(report.analysis.ledger, subject.label)
    return (
        figures.name(subject),
        Text(figures.quantity(margin, words.size)),
        Text(_interval(margin)),
        Text(_quantity(first)),
        Text(words.percent(row.residual_fraction) if row else "—"),
        Text(_balanced(row) if row else "—"),
    )


def _balanced(row: LedgerRow) -> str:
    """Whether the ledger balances, and in how many of its rounds."""
    said = "too noisy" if row.refused else "yes" if row.balanced else "no"
    return f"{said}, {row.rounds_balanced} of {row.rounds}"


def _number(n: int | None) -> str:
    """Without the narrow space between thousands: terminals do not agree how wide that is."""
    return words.number(n).replace("\N{NARROW NO-BREAK SPACE}", "")


def _density(report: Report) -> layout.Table:
    emulated = {subject.label for subject in report.subjects if subject.result_class == "emulated"}
    rows = []
    for row in report.analysis.density:
        ends = "—"
        if row.predicted is not None:
            ends = f"{_number(row.predicted_low)} to {_number(row.predicted_high)}"
        rows.append(
            (
                figures.plain(row.subject + (" (emulated)" if row.subject in emulated else "")),
                Text(_predicted(row)),
                Text(ends),
                Text(str(row.reached)),
                Text(words.percent(row.error_fraction) + (" bytes" if row.compared == "bytes" else "")),
                Text(words.clean(row.rule)),
            )
        )
    return figures.grouped(("predicted", "95 % CI", "reached", "error", "ended by"), [rows], left=(5,))


def _predicted(row: DensityRow) -> str:
    """The number, and a mark where it is the processors that allow no more."""
    if row.predicted is None:
        return "—"
    return _number(row.predicted) + (" CPU" if row.bound == "processors" else "")


def capacity(report: Report, width: int) -> Iterator[Text]:
    """Hosts of other sizes: what each would hold of each subject, by which bound."""
    emulated = {subject.label for subject in report.subjects if subject.result_class == "emulated"}
    rows = []
    for row in report.analysis.capacity:
        ends = "—" if row.instances is None else f"{_number(row.low)} to {_number(row.high)}"
        rows.append(
            (
                figures.plain(row.subject + (" (emulated)" if row.subject in emulated else "")),
                Text(f"{words.plain(row.ram_bytes / GIB)} GiB, {row.processors}"),
                Text(f"{row.floor_percent:g} %"),
                Text("—" if row.instances is None else _number(row.instances)),
                Text(ends),
                Text("CPU" if row.bound == "processors" else row.bound or "not known"),
            )
        )
    yield from figures.grouped(("memory, CPUs", "floor", "instances", "95 % CI", "bound"), [rows], left=(5,)).lines(
        width
    )
    yield from layout.wrap(Text(EXTRAPOLATED, style="italic"), width)


def _quantity(figure: Figure) -> str:
    return "—" if figure.median is None else words.size(figure.median)


def _interval(figure: Figure) -> str:
    if figure.low is not None and figure.low < 0 and figure.high is not None:
        return f"{words.size(figure.low)} to {words.size(figure.high)}"
    return words.interval(figure.low, figure.high, figure.unit)
