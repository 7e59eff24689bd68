"""All runs of a directory at a glance: what each was, its main figures, and those figures over time.

A main figure is the median of round medians of what the run's answer is about, by the same rules as in its report; it
is computed here without the rest of the report, since a directory may hold a thousand runs. Runs are drawn in one line
only where they measured the same thing on the same machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from tare.bench.errors import UsageError
from tare.bench.records import store
from tare.bench.records.header import Host, RunHeader, SubjectRecord
from tare.bench.records.metrics import Metric
from tare.bench.records.store import Run
from tare.bench.stats.estimate import estimate
from tare.reports import sections, words
from tare.reports.analysis import noise
from tare.reports.analysis.figures import Class, Figure, Part
from tare.reports.analysis.subjects import count, judged, result_class
from tare.runners import layers


class Main(Part, frozen=True, kw_only=True):
    """The main figure of one subject, in the unit of its entry's metric; without one, ``why`` says why."""

    subject: str
    family: str
    result_class: Class
    median: float | None
    why: str = ""


class Entry(Part, frozen=True, kw_only=True):
    """One run; of one that is ``damaged``, what is known is its path and why it cannot be read."""

    run: str
    path: str
    damaged: str = ""
    scenario: str = ""
    experiment: str = ""
    state: str = ""
    started_at: str = ""
    rounds: int = 0
    metric: str = ""
    title: str = ""
    unit: str = ""
    figures: tuple[Main, ...] = ()


class Point(Part, frozen=True, kw_only=True):
    """One run in a series; ``run`` is its place among the entries."""

    run: int
    value: float


class Series(Part, frozen=True, kw_only=True):
    """One subject over time, oldest first."""

    subject: str
    family: str
    result_class: Class
    points: tuple[Point, ...]


class Group(Part, frozen=True, kw_only=True):
    """Runs that measured the same thing on one machine. ``also`` tells it from others of its name, in words."""

    scenario: str
    also: str
    experiment: str
    metric: str
    title: str
    unit: str
    runs: int
    series: tuple[Series, ...]


class Overview(Part, frozen=True, kw_only=True):
    """Everything that the page of all runs shows."""

    schema: int = 1
    entries: tuple[Entry, ...]
    groups: tuple[Group, ...]


def overview(paths: Sequence[Path], watch: Callable[[int], None] = lambda _: None) -> Overview:
    """The runs at *paths*, oldest first; *watch* is told how many were read. One that is damaged harms no other."""
    entries: list[Entry] = []
    lines: dict[tuple[Any, ...], _Line] = {}
    for place, path in enumerate(paths):
        try:
            run = store.load(path)
            entry = _entry(run)
        except UsageError as error:
            entry = Entry(run=path.name, path=str(path), damaged=str(error))
        except (OSError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - rows may each be right, and all of them together not
            why = f"its records do not fit together: {type(error).__name__}: {error}"
            entry = Entry(run=path.name, path=str(path), damaged=why)
        else:
            lines.setdefault(_same(run.header), _Line(run.header)).add(place, entry, run.header)
        entries.append(entry)
        watch(place + 1)
    return Overview(entries=tuple(entries), groups=tuple(_groups(list(lines.values()))))


def main_figures(run: Run) -> tuple[Main, ...]:
    """The main figure of each subject that was not skipped."""
    section = sections.of(sections.experiment(run.header))
    metric, ground, meanwhile = _primary(section), section.analyse(run, ()), noise.disturbance(run)
    rounds = _rounds(run, section.primary, ground.derived)
    found = []
    for subject in run.header.subject_records():
        if subject.skipped:
            continue
        unclaimed = ground.unclaimed.get(subject.label, {}).get(metric.name, "")
        why = words.no_figure(count(run, subject)) or (f"no claim: {unclaimed}" if unclaimed else "")
        figure = _figure([median(values) for values in rounds.get(subject.label, {}).values()], metric, why)
        figure = judged(figure, metric, ground.refused.get(subject.label, {}).get(metric.name), meanwhile)
        found.append(
            Main(
                subject=subject.label,
                family=layers.family(subject.runner, subject.layers),
                result_class=result_class(subject),
                median=figure.median,
                why=figure.why,
            )
        )
    return tuple(found)


def _figure(medians: Sequence[float], metric: Metric, why: str) -> Figure:
    """The figure of these round medians, as far as it takes to know whether the report has one."""
    empty = Figure(metric=metric.name, unit=metric.unit, title=metric.title, rounds=len(medians))
    if why or not medians:
        return msgspec.structs.replace(empty, why=why or "no figure: not measured")
    centre = median(medians)
    if (max(medians) - min(medians)) / 2 <= abs(centre):
        return msgspec.structs.replace(empty, median=centre)
    # Only here can half of its interval be larger than the figure; an interval takes longer than all else.
    known = estimate(medians)
    return msgspec.structs.replace(empty, median=centre, low=known.low, high=known.high)


def _rounds(run: Run, metric: str, derived: Iterable[tuple[object, ...]]) -> dict[str, dict[int, list[float]]]:
    """Subject -> round -> the values of *metric*: of measured trials that ended ok, the last of each trial."""
    good = {outcome.trial for outcome in {one.trial: one for one in run.outcomes}.values() if outcome.status == "ok"}
    read = (
        (row.trial, row.subject, row.value, row.round, row.n)
        for row in run.samples
        if row.metric == metric and row.kind == "measured" and not row.role and row.trial in good
    )
    # Rows as reports.analysis.tables.COLUMNS has them.
    made: Any = ((row[0], row[1], row[3], row[5], row[8]) for row in derived if row[2] == metric)
    last = {(trial, n): (subject, value, number) for rows in (read, made) for trial, subject, value, number, n in rows}
    found: dict[str, dict[int, list[float]]] = {}
    for subject, value, number in last.values():
        found.setdefault(subject, {}).setdefault(number, []).append(value)
    return found


def _entry(run: Run) -> Entry:
    header = run.header
    section = sections.of(sections.experiment(header))
    metric = _primary(section)
    return Entry(
        run=header.run,
        path=str(run.path),
        scenario=header.scenario.name,
        experiment=sections.experiment(header),
        state=header.state,
        started_at=header.started_at,
        rounds=header.scenario.run.rounds,
        metric=metric.name,
        title=metric.title,
        unit=metric.unit,
        figures=main_figures(run),
    )


def _primary(section: sections.Section) -> Metric:
    return next(metric for metric in section.metrics if metric.name == section.primary)


def _same(header: RunHeader) -> tuple[Any, ...]:
    """Runs for which this is equal are drawn in one figure: one contract, one machine."""
    scenario = header.scenario
    tables = tuple(sorted((name, str(sorted(keys.items()))) for name, keys in scenario.tables.items()))
    asked = (scenario.run.cache, scenario.run.ready, scenario.rootfs, tables)
    return scenario.name, sections.experiment(header), asked, header.host.machine_id, header.host.memory_bytes


class _Line:
    """The runs of one figure: series by what each subject was."""

    def __init__(self, header: RunHeader) -> None:
        self.header, self.runs = header, 0
        self.series: dict[tuple[Any, ...], tuple[Main, list[Point]]] = {}
        self.entry: Entry | None = None

    def add(self, place: int, entry: Entry, header: RunHeader) -> None:
        """The main figures of the run at *place* among all."""
        self.runs += 1
        self.entry = entry
        by_label = {subject.label: subject for subject in header.subject_records()}
        for one in entry.figures:
            if one.median is not None:
                key = _contract(by_label[one.subject])
                self.series.setdefault(key, (one, []))[1].append(Point(run=place, value=one.median))


def _contract(subject: SubjectRecord) -> tuple[Any, ...]:
    return subject.label, subject.runner, result_class(subject), subject.memory_bytes, subject.cpus, subject.argv


def _groups(lines: Sequence[_Line]) -> Iterator[Group]:
    """Figures by scenario; within one, those of the most runs first."""
    for line in sorted(lines, key=lambda line: (line.header.scenario.name, -line.runs)):
        namesakes = [other for other in lines if other.header.scenario.name == line.header.scenario.name]
        entry = line.entry
        if entry is None or not line.series:
            continue
        series = sorted(line.series.values(), key=lambda one: one[0].result_class == "emulated")
        yield Group(
            scenario=entry.scenario,
            also=_apart(line.header, [other.header for other in namesakes]),
            experiment=entry.experiment,
            metric=entry.metric,
            title=entry.title,
            unit=entry.unit,
            runs=line.runs,
            series=tuple(
                Series(subject=one.subject, family=one.family, result_class=one.result_class, points=tuple(points))
                for one, points in series
            ),
        )


def _apart(header: RunHeader, namesakes: Sequence[RunHeader]) -> str:
    """What tells this figure from others of the same scenario, in words; empty if it is the only one."""
    if len(namesakes) < 2:
        return ""
    told = []
    if len({other.host.machine_id for other in namesakes}) > 1:
        told.append(_machine(header.host))
    run = header.scenario.run
    for name, value, values in (
        ("caches", run.cache, {other.scenario.run.cache for other in namesakes}),
        ("mark", run.ready, {other.scenario.run.ready for other in namesakes}),
        ("experiment", sections.experiment(header), {sections.experiment(other) for other in namesakes}),
    ):
        if len(values) > 1:
            told.append(f"{name} {value}")
    return ", ".join(told) or f"another contract, since {header.started_at[:10]}"


def _machine(host: Host) -> str:
    return f"{host.cpu_model}, {words.plural(host.cpus, 'processor')}, {words.size(host.memory_bytes)}"
