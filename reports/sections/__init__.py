"""One folder an experiment, named like it: analysis, words, charts, its part of the page and of the terminal.

A :class:`Section` is found by a text ``module:object``, so that whoever names it need not import it. One is made in
some dozen lines on :class:`reports.sections.standard.Standard`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from tare.bench import experiments
from tare.runners import registry

if TYPE_CHECKING:
    from rich.text import Text

    from tare.bench.records.header import RunHeader
    from tare.bench.records.metrics import Metric
    from tare.bench.records.store import Run
    from tare.reports.analysis.build import Analysed
    from tare.reports.analysis.figures import Compared, Refused, SubjectFigures
    from tare.reports.analysis.model import Calibration, Claim, Lead, OneQuantity, Report


class Nothing(msgspec.Struct, frozen=True):
    """The analysis of a section that has nothing beyond what every report has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Groundwork:
    """What a section makes of the records before figures are made of them.

    ``analysis`` is a msgspec struct: its fields stand in ``--json`` beside those of the report. ``derived`` are
    numbers that are computed and not read: rows of :data:`reports.analysis.tables.COLUMNS`. ``unclaimed``: label ->
    metric -> why no figure of it may be claimed; ``refused``: the same where the host spoilt it. ``drawn`` is whatever
    the section's charts need besides, and is in no JSON.
    """

    analysis: Any = field(default_factory=Nothing)
    derived: Sequence[tuple[object, ...]] = ()
    unclaimed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    refused: Mapping[str, Mapping[str, Refused]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    drawn: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The figures of a run, of which a section makes its sentences."""

    header: RunHeader
    subjects: Sequence[SubjectFigures]
    comparisons: Sequence[Compared]
    calibration: Calibration
    analysis: Any


class Section(Protocol):
    """How one experiment is reported. All that it returns follows from the run; nothing is kept between calls."""

    #: The metrics of which each subject has a figure, in the order of a table, and the one that the answer is about.
    metrics: Sequence[Metric]
    primary: str
    #: Whether a start of this experiment has phases.
    phases: bool
    #: The page: a file that extends ``base.html``.
    template: Path

    def analyse(self, run: Run, sizes: Sequence[object]) -> Groundwork:
        """The section's own analysis of *run*. *sizes*: hosts to predict for; UsageError where it predicts nothing."""
        ...

    def lead(self, found: Found) -> Lead:
        """The answer at first sight, and the bars of the one figure that shows it."""
        ...

    def answer(self, found: Found) -> Iterator[Claim]:
        """The sentences below it, most wanted first."""
        ...

    def limits(self, found: Found) -> Iterator[str]:
        """What these numbers do not say."""
        ...

    def quantities(self, found: Found) -> tuple[OneQuantity, ...]:
        """What the figures are by other definitions; empty where one is known."""
        ...

    def page(self, analysed: Analysed) -> Mapping[str, Any]:
        """What the template looks up besides what every page has: charts above all."""
        ...

    def text(self, report: Report, shown: Sequence[SubjectFigures], width: int) -> Iterator[Text]:
        """The tables for the terminal, of the subjects that are *shown*; each ends in an empty line."""
        ...


def experiment(header: RunHeader) -> str:
    """The experiment of a run."""
    return header.scenario.experiment


def of(experiment: str) -> Section:
    """The section that *experiment* names; that of single starts for an experiment that is not registered here."""
    known = experiment if experiment in experiments.REGISTRY else "startup"
    return load(experiments.load(known).section)


def load(name: str) -> Section:
    """The section that ``module:object`` names."""
    section: Section = registry.find(name)
    return section
