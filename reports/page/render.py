"""Report -> one offline HTML file: no network, no script, nothing outside the file.

Everything that came from a run (labels, logs, configuration) is escaped by the template engine; the only markup that is
taken as it is comes from :mod:`reports.charts.svg`, which builds it with an XML writer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tare.bench.errors import UsageError
from tare.bench.records import files, inputs, store
from tare.bench.records.metrics import show
from tare.reports import PAGE, words
from tare.reports.analysis import measures, tables
from tare.reports.analysis.build import build
from tare.reports.analysis.model import Report, SubjectFigures
from tare.reports.charts import distribution, svg
from tare.reports.sections.ramp import page as ramp_page
from tare.reports.sections.ramp.density.capacity import Size
from tare.reports.sections.startup.layers import stacks
from tare.reports.sections.startup.timeline import timeline

#: Longest piece of a configuration or a log that is shown; the file itself stays in the run directory.
MOST_SHOWN = 40_000
_LOG_LINES = 20
_MOST_BYTES = 64 << 20
_TEMPLATES = {"memory": "ramp/page.html", "density": "ramp/page.html", "least-memory": "least_memory/page.html"}


def write(run_dir: Path, sizes: Sequence[Size] = ()) -> Path:
    """Render the run at *run_dir* into ``report.html`` beside its records; an older one is replaced at once."""
    run = store.load(run_dir)
    target = run_dir / PAGE
    files.write_own(target, page(run, build(run, sizes)).encode("utf-8", "replace"))
    return target


def page(run: store.Run, report: Report) -> str:
    """The whole page. All figures come from *report*; *run* gives the raw samples to draw and the files to quote."""
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader((here, here.parent / "sections")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        quantity=words.quantity,
        interval=words.interval,
        modes=words.modes,
        ratio=words.ratio,
        p=words.probability,
        plural=words.plural,
        signed=words.signed,
        together=words.together,
        bytes=lambda value: show(float(value), "bytes"),
        when=lambda text: text[:16].replace("T", " ") + (" UTC" if text.endswith(("+00:00", "Z")) else ""),
    )
    environment.globals["family"] = svg.family  # macros see globals alone
    native, emulated = distribution.ordered(report.subjects)
    environment.filters.update(ramp_page.FILTERS)
    probe = measures.probe(run.header)
    own = ramp_page.context(run, report) if probe in measures.ASCENTS else _single(run, report)
    text = environment.get_template(_TEMPLATES.get(probe, "startup/page.html")).render(
        report=report,
        **own,
        subjects=native + emulated,
        metrics={metric.name: metric for metric in measures.of(run.header)},
        figure=lambda subject, metric: next(f for f in subject.figures if f.metric == metric),
        versus=_versus(report),
        configuration={subject.label: configuration(run.path, subject) for subject in report.subjects},
        logs={failure.trial: _tail(run.path, failure.log) for failure in report.failures if failure.log},
        emulated_mark=words.EMULATED,
    )
    return words.clean(text)


def configuration(run_dir: Path, subject: SubjectFigures) -> tuple[tuple[str, str], ...]:
    """Name and text of each file that holds the exact configuration of *subject*."""
    return tuple((Path(name).name, _quote(run_dir, name)) for name in subject.manifest)


def _single(run: store.Run, report: Report) -> dict[str, object]:
    """What the pages of single starts need besides."""
    towers = stacks(report) if report.probe == "startup" else ()
    return {"charts": _charts(report, tables.samples(run)), "stacks": towers}


def _charts(report: Report, frame: pd.DataFrame) -> dict[str, Markup]:
    both = ramp_page.both

    def dots(metric: str) -> Callable[[float, str], str]:
        return lambda width, name: distribution.distribution(report, frame, metric, width=width, name=name)

    if report.probe == "least-memory":
        return {"least": both("least", dots("least_memory_bytes"), 900)}
    return {
        "ready": both("ready", dots("ready_seconds"), 900),
        "cpu": both("cpu", dots("cpu_seconds"), 436),
        "pss": both("pss", dots("pss_bytes"), 436),
        "drift": both(
            "drift", lambda width, name: distribution.drift(report, frame, "ready_seconds", width=width, name=name), 900
        ),
        "start": both("start", lambda width, name: timeline(report, "start", width=width, name=name), 510),
        "stop": both("stop", lambda width, name: timeline(report, "stop", width=width, name=name), 362),
    }


def _versus(report: Report) -> Callable[[str, str], object]:
    found = {(c.subject, c.metric): c for c in report.comparisons if c.why_compared == "reference"}
    return lambda label, metric: found.get((label, metric))


def _quote(run_dir: Path, name: str) -> str:
    """The text of a file of the run, or why it cannot be shown; a path that leads outside the run is not followed."""
    try:
        path = (run_dir / name).resolve()
        if not path.is_relative_to(run_dir.resolve()):
            return f"{name} is outside the run directory; it is not shown"
        text = inputs.data(path, most=_MOST_BYTES, fix="").decode("utf-8", "replace")
    except UsageError as error:
        return f"{name} cannot be read: {error.why or error.what}"
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
        return f"{name!r} cannot be read: {error}"
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}\n… cut here; the whole text is in {name}"


def _tail(run_dir: Path, name: str) -> str:
    return "\n".join(_quote(run_dir, name).splitlines()[-_LOG_LINES:])
