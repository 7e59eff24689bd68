"""Report -> the terminal: one table and the sentences, for any width, legible without any colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from tare.reports import sections, words
from tare.reports.analysis.figures import Compared, SubjectFigures
from tare.reports.analysis.model import Claim, Report
from tare.reports.analysis.several.model import RunsComparison
from tare.reports.terminal import layout
from tare.reports.terminal.bars import bars
from tare.reports.terminal.figures import plain
from tare.reports.terminal.layout import Lines

#: A terminal shows failures until they would push the answer off the screen.
_MOST_FAILURES = 5


def render(report: Report | RunsComparison, *, width: int = 80) -> RenderableType:
    """*report* as something for ``rich.console.Console.print``. Text from the run is never read as markup."""
    parts = _runs(report, width) if isinstance(report, RunsComparison) else _run(report, width)
    return Group(Lines(list(parts)))


def _run(report: Report, width: int) -> Iterator[Text]:
    yield from layout.wrap(plain(report.question or report.name, style="dim"), width)
    yield from _headed("WARNING: merged by force, although these differ from the first run", report.unlike, width)
    if report.unlike:
        yield Text()
    yield from layout.wrap(plain(report.lead.sentence, style="bold"), width)
    yield from layout.wrap(plain(report.lead.grounds, style="dim"), width)
    if not report.complete:
        yield from layout.wrap(Text(f"{report.status[:1].upper()}{report.status[1:]}."), width)
    if report.precision is not None:
        said = report.precision.sentence
        yield from layout.wrap(plain(f"Precision: {said}."), width)
    if report.contract.attempts_resolution_seconds:
        said = "; or ".join(report.contract.ready_when)
        yield from layout.wrap(plain(f"Ready when {said}.", style="dim"), width)
    yield from _merged(report, width)
    yield Text()
    yield from bars(report.lead, width)
    shown = [subject for subject in report.subjects if not subject.skipped]
    if shown:
        yield from sections.of(report.experiment).text(report, shown, width)
    yield from layout.listed((_claim(claim) for claim in report.answer), width)
    skipped = [subject for subject in report.subjects if subject.skipped]
    yield from _headed("Not measured", (_skip(subject) for subject in skipped), width)
    failures = [
        f"{f.subject}, {'warm-up' if f.kind == 'warmup' else f'round {f.round}'}: "
        + ("invalid: " if f.status == "invalid" else "")
        + (f.reason or f.status)
        + (f" (console: {f.log})" if f.log else "")
        for f in report.failures
    ]
    if len(failures) > _MOST_FAILURES:
        failures = [*failures[:_MOST_FAILURES], f"and {len(failures) - _MOST_FAILURES} more, in the report"]
    yield from _headed("Starts that failed", failures, width)
    leaks = (f"{leak.kind} {leak.name}" + (f", of {leak.owner}" if leak.owner else "") for leak in report.leaks)
    yield from _headed("Left on this host: run `tare clean`", leaks, width)
    yield from _headed("Know this before you trust the numbers", (*report.warnings, *report.notes), width)
    if report.calibration.measured:
        yield from _headed("Measuring the instrument", report.calibration.sentences, width)


def _merged(report: Report, width: int) -> Iterator[Text]:
    """Which runs these are, and what one shows otherwise than another."""
    if report.merged:
        told = (f"{run.run}, {words.plural(run.rounds, 'round')}" for run in report.merged)
        yield from _headed(f"Merged from {words.plural(len(report.merged), 'run')}", told, width)
    yield from _headed("These runs do not agree", report.disagreements, width)


def _runs(report: RunsComparison, width: int) -> Iterator[Text]:
    yield from layout.wrap(plain(f"{report.after} against {report.before}", style="dim"), width)
    yield from layout.wrap(plain(report.lead, style="bold"), width)
    yield from layout.wrap(plain(report.grounds, style="dim"), width)
    for result, title in (("worse", "WORSE by more than --fail-on allows"), ("not judged", "Not judged by --fail-on")):
        yield from _headed(title, (one.sentence for one in report.gated if one.result == result), width)
    yield Text()
    rows: list[Sequence[Text] | Text] = []
    for name, title in {one.metric: one.title for one in report.comparisons}.items():
        mine = sorted((one for one in report.comparisons if one.metric == name), key=lambda one: one.emulated)
        # One table for all, so that the figures of all metrics line up.
        rows += [*([Text()] if rows else []), Text(title, style="bold"), *map(_compared, mine)]
    titles = ("subject", "before", "after", "ratio", "95 % CI", "verdict")
    yield from layout.Table(titles=titles, rows=rows, left=(5,)).lines(width)
    yield Text()
    yield from layout.listed((_claim(claim) for claim in report.answer), width)
    yield from _headed("Only in the first run", report.only_before, width)
    yield from _headed("Only in the second run", report.only_after, width)
    yield from _headed("What else differs between the two runs", report.differs, width)
    yield from _headed("Know this before you trust the numbers", report.warnings, width)


def _compared(one: Compared) -> tuple[Text, ...]:
    between = "—" if one.low is None or one.high is None else f"{words.ratio(one.low)} to {words.ratio(one.high)}"
    return (
        plain(f"{one.subject}" + (" (emulated)" if one.emulated else "")),
        Text(words.quantity(one.reference_median, one.unit)),
        Text(words.quantity(one.subject_median, one.unit)),
        Text(words.ratio(one.ratio)),
        Text(between),
        Text(one.word),
    )


def _claim(claim: Claim) -> Text:
    detail = claim.detail[:1].upper() + claim.detail[1:]
    return Text() + plain(claim.lead, style="bold") + Text("\n") + plain(detail, style="dim")


def _skip(subject: SubjectFigures) -> str:
    return f"{subject.label}: {subject.skipped}" + (f". To measure it: {subject.fix}" if subject.fix else "")


def _headed(heading: str, lines: Iterable[str], width: int) -> Iterator[Text]:
    """A heading and its list after an empty line; nothing at all when the list is empty."""
    items = [plain(line) for line in lines]
    if items:
        yield Text()
        yield from layout.wrap(Text(heading, style="bold"), width)
        yield from layout.listed(items, width)
