"""What people read: a run as one offline page, as a table for the terminal, and as data for scripts.

pandas, matplotlib and jinja2 live below this package and nowhere else, and are imported only when a function is called:
the process that measures must not have them in its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tare.bench.errors import TareError, UsageError
from tare.bench.records import inputs

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tare.bench.records.store import Run
    from tare.reports.analysis.build import Analysed
    from tare.reports.analysis.model import Report
    from tare.reports.analysis.several.model import RunsComparison
    from tare.reports.analysis.several.overview import Overview

__all__ = [
    "MERGED_PAGE",
    "PAGE",
    "analyse",
    "as_markdown",
    "build",
    "compare_runs",
    "comparison_html",
    "conclude",
    "data",
    "html",
    "merge",
    "overview",
    "overview_html",
    "render",
    "render_hosts",
    "sentence",
    "write",
]

#: The page's name in its run, and that of several runs, which belongs to none of them.
PAGE, MERGED_PAGE = "report.html", "merged-report.html"


def analyse(run: Run, hosts: Sequence[str] = ()) -> Analysed:
    """Everything that page, terminal and JSON say of *run*, computed once.

    *hosts* are sizes to predict for (``64GiB:16``), here and below. Raises UsageError for what is none, and where the
    run predicts nothing.
    """
    from tare.reports.analysis.build import analyse
    from tare.reports.sections.ramp.density.capacity import size

    sizes = [size(text) for text in hosts]
    with _reading(*_paths(run)):
        return analyse(run, sizes)


def merge(runs: Sequence[Run], *, force: bool = False) -> Run:
    """Several runs of one host as one. Raises UsageError, which names the fields, where they are unlike.

    With *force* only where they measure different things: what else differs is said in every form of the report.
    """
    from tare.reports.analysis.several.merge import merge

    with _reading(*(run.path for run in runs)):
        return merge(runs, force=force)


def build(run: Run, hosts: Sequence[str] = ()) -> Report:
    """Every figure of the report of *run*."""
    return analyse(run, hosts).report


def data(report: Report) -> dict[str, Any]:
    """What ``tare report --json`` prints: the fields of *report*, with those of its section's analysis beside them."""
    from tare.reports.analysis.model import document

    return document(report)


def sentence(report: Report) -> str:
    """The answer as one sentence; what is missing, where there is none."""
    from tare.reports import words

    text = report.lead.sentence
    return words.clean(text if text.endswith(".") else f"{text}.")


def html(analysed: Analysed) -> str:
    """The report as one HTML page."""
    from tare.reports.page.render import page

    with _reading(*_paths(analysed.run)):
        return page(analysed)


def write(run_dir: Path, hosts: Sequence[str] = ()) -> Path:
    """Render ``report.html`` into *run_dir*, atomically; return its path. Raises UsageError when it is no run."""
    from tare.bench.records import files, store

    with _reading(run_dir):
        text = html(analyse(store.load(run_dir), hosts))
        files.write_own(run_dir / PAGE, text.encode("utf-8", "replace"))
    return run_dir / PAGE


def compare_runs(before: Run, after: Run, *, fail_on: Sequence[str] = ()) -> RunsComparison:
    """Hold two runs against each other. Raises UsageError when their contracts or classes of result differ.

    *fail_on*: ``METRIC:5%``; :func:`conclude` raises if one of them got worse by more. Raises UsageError for what is
    none.
    """
    import msgspec

    from tare.reports import sections
    from tare.reports.analysis.several import gate
    from tare.reports.analysis.several.comparison import compare_runs

    with _reading(before.path, after.path):
        bounds = gate.bounds(fail_on, sections.of(sections.experiment(after.header)).metrics)
        comparison = compare_runs(before, after)
        return msgspec.structs.replace(comparison, gated=tuple(gate.judge(comparison, bounds)))


def conclude(comparison: RunsComparison) -> None:
    """Raise RegressionError where a figure got worse than *fail_on* allows, InvalidError where none was judged."""
    from tare.reports.analysis.several import gate

    gate.conclude(comparison.gated)


def comparison_html(comparison: RunsComparison) -> str:
    """Two runs as one HTML page."""
    from tare.reports.page.several.comparison import page

    return page(comparison)


def as_markdown(report: Report | RunsComparison) -> str:
    """*report* for a pull request."""
    from tare.reports.markdown import text

    return text(report)


def overview(paths: Sequence[Path], watch: Callable[[int], None] = lambda _: None) -> Overview:
    """The runs at *paths* at a glance; *watch* is told how many were read. One that is damaged harms no other."""
    from tare.reports.analysis.several.overview import overview

    return overview(paths, watch)


def overview_html(found: Overview, at: Path) -> str:
    """All runs as one HTML page, whose links hold where it is written to *at*."""
    from tare.reports.page.several.overview import page

    return page(found, at, [PAGE])


def render(report: Report | RunsComparison, *, width: int = 80) -> RenderableType:
    """*report* for the terminal: tables and sentences that need no colour. Prints nothing."""
    from tare.reports.terminal.report import render

    return render(report, width=width)


def render_hosts(report: Report, *, width: int = 80) -> RenderableType:
    """What hosts of other sizes would hold, for the terminal."""
    from tare.reports.sections.ramp.text import capacity
    from tare.reports.terminal.layout import Lines

    return Lines(list(capacity(report, width)))


def _paths(run: Run) -> tuple[Path, ...]:
    return tuple(one.path for one in run.merged) or (run.path,)


@contextmanager
def _reading(*runs: Path) -> Iterator[None]:
    """Whatever fails inside is a UsageError. Each row of a run may be right, and all of them together not.

    What only the host can do about (memory, a full disk) stays what it is.
    """
    try:
        yield
    except (TareError, OSError, MemoryError):
        raise
    except Exception as error:
        what = f"{' or '.join(map(str, runs))} is damaged: its records do not fit together"
        fix = "restore it; if nobody changed it, please report this with the output of TARE_DEBUG=1"
        raise UsageError(what, inputs.reason(error), fix) from error
