"""What people read: a run as one offline page, as a table for the terminal, and as data for scripts.

pandas, matplotlib and jinja2 live below this package and nowhere else, and are imported only when a function is called:
the process that measures must not have them in its memory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bench.store import Run
    from reports.model import Report, RunsComparison

__all__ = ["build", "compare_runs", "page", "render", "write"]


def build(run: Run) -> Report:
    """Every figure of the report of *run*; ``msgspec.json.encode`` of it is what ``tare report --json`` prints."""
    from reports.figures import build

    return build(run)


def page(run: Run) -> str:
    """The report of *run* as one HTML page."""
    from reports.figures import build
    from reports.html import page

    return page(run, build(run))


def write(run_dir: Path) -> Path:
    """Render ``report.html`` into *run_dir*, atomically; return its path. Raises UsageError when it is no run."""
    from reports.html import write

    return write(run_dir)


def compare_runs(before: Run, after: Run) -> RunsComparison:
    """Hold two runs against each other. Raises UsageError when their contracts or classes of result differ."""
    from reports.runs import compare_runs

    return compare_runs(before, after)


def render(report: Report | RunsComparison, *, width: int = 80) -> RenderableType:
    """*report* for the terminal: tables and sentences that need no colour. Prints nothing."""
    from reports.text import render

    return render(report, width=width)
