"""Report -> one offline HTML file: no network, nothing outside the file, no script but the page's own optional one.

Everything that came from a run (labels, logs, configuration) is escaped by the template engine; the only markup that is
taken as it is comes from :mod:`reports.charts.svg`, which builds it with an XML writer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tare.bench.errors import UsageError
from tare.bench.records import inputs
from tare.bench.records.metrics import show
from tare.bench.records.store import Run
from tare.reports import words
from tare.reports.analysis.build import Analysed
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.lead import SHOWN
from tare.reports.analysis.model import Bar, Report
from tare.reports.analysis.subjects import ordered
from tare.reports.charts.distribution import EMULATED_ROW
from tare.reports.charts.looks import looks
from tare.reports.page import raw
from tare.reports.page.script import script
from tare.runners.layers import family

#: Longest piece of a configuration or a log that is shown; the file itself stays in the run directory.
MOST_SHOWN = 40_000
#: So many failures are shown one by one.
MOST_FAILURES = 200
_LOG_LINES = 20
#: From this ratio of the longest bar to the shortest on, a logarithmic scale is offered beside the one from zero.
_WIDE = 20.0
_MOST_BYTES = 64 << 20


def environment() -> Environment:
    """Templates of pages, with the filters and the script that every page has."""
    here = Path(__file__).parent
    found = Environment(
        loader=FileSystemLoader((here, here.parent / "sections")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        quantity=raw.in_unit(words.quantity),
        interval=lambda low, high, unit: raw.span(words.interval(low, high, unit), low, high, unit),
        modes=words.modes,
        ratio=raw.of(words.ratio),
        p=raw.of(words.probability),
        plural=words.plural,
        signed=raw.in_unit(words.signed),
        together=words.together,
        percent=words.percent,
        amount_of=raw.in_unit(words.amount),
        shown=words.quantity,
        bytes=raw.of(lambda value: show(float(value), "bytes"), "bytes"),
        when=lambda text: text[:16].replace("T", " ") + (" UTC" if text.endswith(("+00:00", "Z")) else ""),
    )
    found.globals.update(family=family, script=script())  # macros see globals alone
    return found


def page(analysed: Analysed) -> str:
    """The whole page. Figures come from the report; the run gives the raw samples to draw and the files to quote."""
    run, report, section = analysed.run, analysed.report, analysed.section
    own = dict(section.page(analysed))
    pages = environment()
    pages.filters.update(own.pop("filters", {}))
    # From the text, not by name: a section's file may lie outside this package.
    text = pages.from_string(section.template.read_text(encoding="utf-8")).render(
        report=report,
        **own,
        subjects=[subject for group in ordered(report.subjects) for subject in group],
        metrics={
            metric.name: metric for metric in section.metrics if any(one.has(metric.name) for one in report.subjects)
        },
        figure=lambda subject, metric: subject.figure(metric),
        versus=_versus(report),
        configuration={subject.label: configuration(run, subject) for subject in report.subjects},
        logs={failure.trial: _tail(run, failure.log) for failure in report.failures[:MOST_FAILURES] if failure.log},
        most_failures=MOST_FAILURES,
        widths=widths(report.lead.bars),
        first_bars=SHOWN,
        one_scale=words.ONE_SCALE,
        looks=looks(report.subjects),
        emulated_row=EMULATED_ROW,
        emulated_mark=words.EMULATED,
    )
    return words.clean(text)


def configuration(run: Run, subject: SubjectFigures) -> tuple[tuple[str, str], ...]:
    """Name and text of each file that holds the exact configuration of *subject*."""
    return tuple((Path(name).name, _quote(run, name)) for name in subject.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """Where a bar ends, in per cent of the longest, on a scale from zero and on a logarithmic one; None without one."""

    value: float | None
    low: float | None
    high: float | None


def widths(bars: Sequence[Bar]) -> tuple[Mapping[str, Widths], Mapping[str, Widths]]:
    """By subject: the bars on a scale from zero, and on a logarithmic one, which is empty where it shows no more.

    A logarithmic scale has no zero: it begins a factor of two below the smallest end that is above zero.
    """
    ends = [end for one in bars for end in (one.value, one.low, one.high) if end is not None]
    most, above = max(ends, default=0.0), [end for end in ends if end > 0]
    if most <= 0:
        return {one.subject: Widths(value=0.0, low=None, high=None) for one in bars}, {}
    linear = {one.subject: _spread(one, lambda end: max(0.0, end) / most) for one in bars}
    if most < _WIDE * min(above):
        return linear, {}
    least = min(above) / 2
    whole = math.log(most / least)
    return linear, {one.subject: _spread(one, lambda end: math.log(max(end, least) / least) / whole) for one in bars}


def _spread(bar: Bar, place: Callable[[float], float]) -> Widths:
    value, low, high = (None if end is None else round(100 * place(end), 2) for end in (bar.value, bar.low, bar.high))
    return Widths(value=value, low=low, high=high)


def _versus(report: Report) -> Callable[[str, str], object]:
    found = {(c.subject, c.metric): c for c in report.comparisons if c.why_compared == "reference"}
    return lambda label, metric: found.get((label, metric))


def _quote(run: Run, name: str) -> str:
    """The text of a file of the run, or why it cannot be shown; a path that leads outside the run is not followed."""
    try:
        file, folder = run.file(name)
        path = file.resolve()
        if not path.is_relative_to(folder.resolve()):
            return f"{name} is outside the run directory, and is not shown"
        text = inputs.data(path, most=_MOST_BYTES, fix="").decode("utf-8", "replace")
    except UsageError as error:
        return f"{name} cannot be read: {error.why or error.what}"
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
        return f"{name!r} cannot be read: {error}"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}\n… cut here; the whole text is in {name}"


def _tail(run: Run, name: str) -> str:
    return "\n".join(_quote(run, name).splitlines()[-_LOG_LINES:])
