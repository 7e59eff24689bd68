"""A report or a comparison as Markdown, for the page of a pull request: GitHub's dialect, with its tables.

Labels and texts come from runs. In a table a label is a span of code, in which nothing is a link or a mention; in a
sentence every character that could mean something is escaped. No text begins a line by itself.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

from tare.reports import words
from tare.reports.analysis.figures import Compared, SubjectFigures
from tare.reports.analysis.model import Report
from tare.reports.analysis.several.model import RunsComparison
from tare.reports.analysis.subjects import ordered

#: Punctuation that Markdown, its tables, or GitHub's formulas give a meaning.
_MEANING = re.compile(r"([\\`*_{}\[\]!|~$^])|^([-+=#]|\d+(?=[.)]))")
#: Where GitHub makes a mention, a reference, a picture or a link of what follows, whether it is escaped or not.
_REFERENCE = re.compile(r"(?<=[@#])(?=\w)|(?<=:)(?=[A-Za-z/+])|(?<=[Ww]{3})(?=\.)|(?<=[Gg][Hh])(?=-\d)")
#: Labels as most of them are.
_HARMLESS = re.compile(r"[\w.:/+-]([\w .:/+-]*[\w.:/+-])?")
#: Joins two characters and is not seen; what it parts is no name any more.
_JOINER = "\N{WORD JOINER}"


def text(report: Report | RunsComparison) -> str:
    """*report* as Markdown, with a line end."""
    parts = _runs(report) if isinstance(report, RunsComparison) else _run(report)
    return words.clean("\n\n".join(parts)) + "\n"


def escaped(text: str) -> str:
    """*text* as itself, on one line."""
    line = " ".join(words.clean(text).split())
    line = _MEANING.sub(_escape, line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    return _REFERENCE.sub(_JOINER, line)


def _escape(found: re.Match[str]) -> str:
    number = found[2] and found[2].isdigit()
    return f"{found[0]}\N{WORD JOINER}" if number else f"\\{found[0]}"


def code(text: str) -> str:
    """*text* as code that may stand in a table: in backticks, if it holds nothing that they could not keep."""
    line = " ".join(words.clean(text).split())
    return f"`{line}`" if _HARMLESS.fullmatch(line) else f"<code>{escaped(line)}</code>"


def _run(report: Report) -> Iterator[str]:
    yield f"### {escaped(report.lead.sentence)}"
    if report.unlike:
        yield _quoted("Merged by force, although these differ from the first run:", report.unlike)
    if report.disagreements:
        yield _quoted("The merged runs do not agree:", report.disagreements)
    yield escaped(report.lead.grounds)
    if not report.complete:
        yield f"**{escaped(report.status)}**"
    shown = [subject for group in ordered(report.subjects) for subject in group]
    if shown:
        yield _table(
            ("subject", shown[0].figure(report.metric).title, "95 % CI", "ratio", "verdict", "trials that ended well"),
            [_subject(report, one) for one in shown],
            text=(0, 4),
        )
        yield _folded("Every figure", _every_figure(shown))
    skipped = [f"{one.label}: {one.skipped}" for one in report.subjects if one.skipped]
    for title, lines in (
        ("Not measured", skipped),
        (
            "Starts that failed",
            [f"{one.subject}, round {one.round}: {one.reason or one.status}" for one in report.failures],
        ),
        ("Left on the host", [f"{leak.kind} {leak.name}" for leak in report.leaks]),
        ("Know this before you trust the numbers", [*report.warnings, *report.notes]),
    ):
        if lines:
            yield _folded(title, _list(lines))
    host = report.host
    told = (report.run, f"tare {report.tare_version}", host.cpu_model, f"Linux {host.kernel}", report.started_at)
    yield f"<sub>{' · '.join(map(escaped, told))}</sub>"


def _runs(report: RunsComparison) -> Iterator[str]:
    yield f"### {escaped(report.lead)}"
    worse = [one.sentence for one in report.gated if one.result == "worse"]
    if worse:
        yield _quoted("Worse by more than `--fail-on` allows:", worse)
    unjudged = [one.sentence for one in report.gated if one.result == "not judged"]
    if unjudged:
        yield _quoted("Not judged by `--fail-on`:", unjudged)
    yield escaped(report.grounds)
    titles = ("subject", "before", "after", "ratio", "95 % CI", "p", "verdict")
    by_metric = {one.metric: one.title for one in report.comparisons}
    for name, title in sorted(by_metric.items(), key=lambda one: one[0] != report.metric):
        mine = sorted((one for one in report.comparisons if one.metric == name), key=lambda one: one.emulated)
        table = _table(titles, [_compared(one) for one in mine], text=(0, 6))
        yield f"**{escaped(title)}**\n\n{table}" if name == report.metric else _folded(title, table)
    for title, lines in (
        ("Only in the first run", report.only_before),
        ("Only in the second run", report.only_after),
        ("What else differs between the two runs", report.differs),
        ("Know this before you trust the numbers", report.warnings),
    ):
        if lines:
            yield _folded(title, _list(lines))
    yield f"<sub>{escaped(report.after)} against {escaped(report.before)}</sub>"


def _subject(report: Report, subject: SubjectFigures) -> Sequence[str]:
    figure = subject.figure(report.metric)
    versus = next(
        (
            one
            for one in report.comparisons
            if (one.subject, one.metric, one.why_compared) == (subject.label, report.metric, "reference")
        ),
        None,
    )
    reference = "reference" if subject.label in report.references else ""
    return (
        _label(subject.label, emulated=subject.result_class == "emulated"),
        escaped(figure.why) if figure.median is None else words.quantity(figure.median, figure.unit),
        words.interval(figure.low, figure.high, figure.unit),
        words.ratio(versus.ratio) if versus else "",
        versus.word if versus else reference,
        f"{subject.counts.ready} of {subject.counts.started}",
    )


def _every_figure(subjects: Sequence[SubjectFigures]) -> str:
    figures = subjects[0].figures
    rows = [
        (
            _label(subject.label, emulated=subject.result_class == "emulated"),
            *(words.quantity(subject.figure(one.metric).median, one.unit) for one in figures),
        )
        for subject in subjects
    ]
    return _table(("subject", *(one.title for one in figures)), rows, text=(0,))


def _compared(one: Compared) -> Sequence[str]:
    between = "—" if one.low is None or one.high is None else f"{words.ratio(one.low)} to {words.ratio(one.high)}"
    return (
        _label(one.subject, emulated=one.emulated),
        words.quantity(one.reference_median, one.unit),
        words.quantity(one.subject_median, one.unit),
        words.ratio(one.ratio),
        between,
        words.probability(one.p),
        one.word,
    )


def _label(label: str, *, emulated: bool) -> str:
    return code(label) + (" (emulated)" if emulated else "")


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, text: Sequence[int]) -> str:
    """A table; columns but those of *text* are set to the right."""
    rules = [":--" if place in text else "--:" for place in range(len(titles))]
    cells = [[escaped(title) for title in titles], rules, *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary>\n\n{body}\n\n</details>"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(line)}" for line in lines)


def _quoted(title: str, lines: Iterable[str]) -> str:
    """What nobody may overlook: GitHub draws it as a warning."""
    return "\n".join(("> [!WARNING]", f"> {title}", ">", *(f"> - {escaped(line)}" for line in lines)))
