"""Report -> the terminal: one table and the sentences, for 80 columns, legible without any colour."""

from __future__ import annotations

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reports import text_memory, words
from reports.measures import KNOWN
from reports.model import Claim, Compared, Figure, Report, RunsComparison, SubjectFigures

_COLUMNS = (("ready", "ready_seconds"), ("CPU time", "cpu_seconds"), ("memory", "pss_bytes"))
#: A terminal shows failures until they would push the answer off the screen.
_MOST_FAILURES = 5


def render(report: Report | RunsComparison, *, width: int = 80) -> RenderableType:
    """*report* as something for ``rich.console.Console.print``. Text from the run is never read as markup."""
    parts = _runs(report, width) if isinstance(report, RunsComparison) else _run(report, width)
    return Group(*parts)


def _run(report: Report, width: int) -> Iterable[RenderableType]:
    yield _text(report.question or report.name, style="bold")
    if not report.complete:
        yield Text(f"{report.status[:1].upper()}{report.status[1:]}.")
    shown = [subject for subject in report.subjects if not subject.skipped]
    if shown and report.probe == "startup":
        yield _table(shown, width)
    elif shown:
        yield from text_memory.tables(report, shown, width)
    yield _list(_claim(claim) for claim in report.answer)
    skipped = [subject for subject in report.subjects if subject.skipped]
    yield _headed("Not measured", (_skip(subject) for subject in skipped))
    failures = [
        f"{f.subject}, {'warm-up' if f.kind == 'warmup' else f'round {f.round}'}: "
        + ("invalid: " if f.status == "invalid" else "")
        + (f.reason or f.status)
        + (f" (console: {f.log})" if f.log else "")
        for f in report.failures
    ]
    if len(failures) > _MOST_FAILURES:
        failures = [*failures[:_MOST_FAILURES], f"and {len(failures) - _MOST_FAILURES} more, in the report"]
    yield _headed("Starts that failed", failures)
    leaks = (f"{leak.kind} {leak.name}" + (f", of {leak.owner}" if leak.owner else "") for leak in report.leaks)
    yield _headed("Left behind: run `tare clean`", leaks)
    yield _headed("Know this before you trust the numbers", (*report.warnings, *report.notes))
    if report.calibration.measured:
        yield _headed("Weighing the scale", report.calibration.sentences)


def _table(subjects: list[SubjectFigures], width: int) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), width=min(width, 100))
    table.add_column("subject", overflow="fold", ratio=1)
    for title in ("ready", "95 % CI", "CPU time", "memory", "starts ready"):
        table.add_column(title, justify="right", no_wrap=title != "starts ready")
    native = [subject for subject in subjects if subject.result_class != "emulated"]
    emulated = [subject for subject in subjects if subject.result_class == "emulated"]
    for group in (native, emulated):
        for subject in group:
            figures = [_figure(subject, metric) for _, metric in _COLUMNS]
            ready, rest = figures[0], figures[1:]
            table.add_row(
                _text(subject.label + (" (emulated)" if subject.result_class == "emulated" else "")),
                Text("no figure" if ready.median is None else words.quantity(ready.median, ready.unit)),
                Text(words.interval(ready.low, ready.high, ready.unit)),
                *(Text(words.quantity(figure.median, figure.unit)) for figure in rest),
                Text(f"{subject.counts.ready} of {subject.counts.started}"),
            )
        table.add_section()
    return table


def _runs(report: RunsComparison, width: int) -> Iterable[RenderableType]:
    yield _text(f"{report.after} against {report.before}", style="bold")
    first = True
    for name, metric in KNOWN.items():
        rows = sorted((one for one in report.comparisons if one.metric == name), key=lambda one: one.emulated)
        if rows:
            yield Text(f"\n{metric.title}", style="bold")
            yield _metric(rows, width, header=first)
            first = False
    yield Text()
    yield _list(_claim(claim) for claim in report.answer)
    yield _headed("In the first run alone", report.only_before)
    yield _headed("In the second run alone", report.only_after)
    yield _headed("What else differs between the two runs", report.differs)
    yield _headed("Know this before you trust the numbers", report.warnings)


def _metric(rows: list[Compared], width: int, *, header: bool) -> Table:
    """One metric of two runs. Widths are fixed, so that the tables of all metrics line up."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=header, header_style="dim")
    table.add_column("subject", overflow="fold", width=max(12, min(width, 100) - 64))
    for title, wide in (("before", 9), ("after", 9), ("ratio", 6), ("95 % CI", 15)):
        table.add_column(title, justify="right", no_wrap=True, width=wide)
    table.add_column("verdict", width=19)
    for one in rows:
        table.add_row(*_compared(one))
    return table


def _compared(one: Compared) -> tuple[Text, ...]:
    between = "—" if one.low is None or one.high is None else f"{words.ratio(one.low)} to {words.ratio(one.high)}"
    return (
        _text(f"{one.subject}" + (" (emulated)" if one.emulated else "")),
        Text(words.quantity(one.reference_median, one.unit)),
        Text(words.quantity(one.subject_median, one.unit)),
        Text(words.ratio(one.ratio)),
        Text(between),
        Text(one.word),
    )


def _claim(claim: Claim) -> Text:
    detail = claim.detail[:1].upper() + claim.detail[1:]
    return _text(claim.lead, style="bold") + Text("\n") + _text(detail, style="dim")


def _skip(subject: SubjectFigures) -> str:
    return f"{subject.label}: {subject.skipped}" + (f". To measure it: {subject.fix}" if subject.fix else "")


def _headed(heading: str, lines: Iterable[str]) -> RenderableType:
    """A heading and its list after an empty line; nothing at all when the list is empty."""
    items = [_text(line) for line in lines]
    return Group(Text(f"\n{heading}", style="bold"), _list(items)) if items else Group()


def _list(items: Iterable[Text]) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    for item in items:
        grid.add_row("•", item)
    return grid


def _text(text: str, *, style: str = "") -> Text:
    """Text that may come from a run: no markup, no escape sequence.

    Numbers stand without the space that parts their thousands: at this one, too, a line would end.
    """
    return Text(words.clean(text).replace("\N{NARROW NO-BREAK SPACE}", ""), style=style)


def _figure(subject: SubjectFigures, metric: str) -> Figure:
    return next(figure for figure in subject.figures if figure.metric == metric)
