"""The tables of memory, density and the least grant for the terminal: any width, legible without any colour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from tare.reports import words
from tare.reports.analysis import measures
from tare.reports.analysis.model import Figure, Report, SubjectFigures
from tare.reports.sections.ramp.memory import ledger
from tare.reports.sections.ramp.memory_model import DensityRow, LedgerRow
from tare.reports.sections.ramp.sentences import EXTRAPOLATED
from tare.reports.terminal import layout

GIB = 2**30


def tables(report: Report, subjects: Sequence[SubjectFigures], width: int) -> Iterator[Text]:
    """What stands above the sentences, by the probe of the run."""
    if report.probe == "least-memory":
        yield from _least(subjects).lines(width)
        yield Text()
    if report.density:
        yield from _density(report).lines(width)
        yield Text()
    if report.capacity:
        yield from capacity(report, width)
        yield Text()
    if report.ledger:
        yield from _memory(report, subjects).lines(width)
        yield Text()


def _memory(report: Report, subjects: Sequence[SubjectFigures]) -> layout.Table:
    return _table(
        ("one more", "95 % CI", "the first", "residual", "balances"),
        [[_account(report, subject) for subject in group] for group in _classes(subjects)],
    )


def _account(report: Report, subject: SubjectFigures) -> Sequence[Text]:
    margin, first = _figure(subject, measures.MARGIN), _figure(subject, measures.FIRST)
    row = ledger.largest(report.ledger, subject.label)
    return (
        _name(subject),
        Text("no claim" if margin.why.startswith("no claim") else _quantity(margin)),
        Text(_interval(margin)),
        Text(_quantity(first)),
        Text(words.percent(row.residual_fraction) if row else "—"),
        Text(_balanced(row) if row else "—"),
    )


def _balanced(row: LedgerRow) -> str:
    """Whether the account balances, and in how many of its rounds."""
    return f"{'yes' if row.balanced else 'no'}, {row.rounds_balanced} of {row.rounds}"


def _number(n: int | None) -> str:
    """Without the narrow space between thousands: terminals do not agree how wide that is."""
    return words.number(n).replace("\N{NARROW NO-BREAK SPACE}", "")


def _density(report: Report) -> layout.Table:
    emulated = {subject.label for subject in report.subjects if subject.result_class == "emulated"}
    rows = []
    for row in report.density:
        ends = "—"
        if row.predicted is not None:
            ends = f"{_number(row.predicted_low)} to {_number(row.predicted_high)}"
        rows.append(
            (
                Text(words.clean(row.subject) + (" (emulated)" if row.subject in emulated else "")),
                Text(_predicted(row)),
                Text(ends),
                Text(str(row.reached)),
                Text(words.percent(row.error_fraction) + (" bytes" if row.compared == "bytes" else "")),
                Text(words.clean(row.rule)),
            )
        )
    return _table(("predicted", "95 % CI", "reached", "error", "ended by"), [rows], left=(5,))


def _predicted(row: DensityRow) -> str:
    """The number, and a mark where it is the processors that allow no more."""
    if row.predicted is None:
        return "—"
    return _number(row.predicted) + (" CPU" if row.bound == "processors" else "")


def capacity(report: Report, width: int) -> Iterator[Text]:
    """Hosts of other sizes: what each would hold of each subject, by which bound."""
    emulated = {subject.label for subject in report.subjects if subject.result_class == "emulated"}
    rows = []
    for row in report.capacity:
        ends = "—" if row.instances is None else f"{_number(row.low)} to {_number(row.high)}"
        rows.append(
            (
                Text(words.clean(row.subject) + (" (emulated)" if row.subject in emulated else "")),
                Text(f"{words.plain(row.ram_bytes / GIB)} GiB, {row.processors}"),
                Text(f"{row.floor_percent:g} %"),
                Text("—" if row.instances is None else _number(row.instances)),
                Text(ends),
                Text("CPU" if row.bound == "processors" else row.bound or "not known"),
            )
        )
    yield from _table(("memory, CPUs", "floor", "instances", "95 % CI", "bound"), [rows], left=(5,)).lines(width)
    yield from layout.wrap(Text(EXTRAPOLATED, style="italic"), width)


def _least(subjects: Sequence[SubjectFigures]) -> layout.Table:
    groups = []
    for group in _classes(subjects):
        rows = []
        for subject in group:
            least, attempts = _figure(subject, "least_memory_bytes"), _figure(subject, "attempts_count")
            rows.append(
                (
                    _name(subject),
                    Text("no figure" if least.median is None else words.quantity(least.median, least.unit)),
                    Text(words.interval(least.low, least.high, least.unit)),
                    Text(words.quantity(attempts.median, attempts.unit)),
                    Text(f"{subject.counts.ready} of {subject.counts.started}"),
                )
            )
        groups.append(rows)
    return _table(("least memory", "95 % CI", "attempts", "searches"), groups)


def _table(
    titles: Sequence[str], groups: Sequence[Sequence[Sequence[Text]]], left: tuple[int, ...] = ()
) -> layout.Table:
    """A table of subjects; an empty line between groups that are not compared."""
    rows: list[Sequence[Text] | Text] = []
    for group in groups:
        if rows and group:
            rows.append(Text())
        rows += group
    return layout.Table(titles=("subject", *titles), rows=rows, left=left)


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
