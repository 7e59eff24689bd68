"""The section that others are made of: an answer by one metric, a table of all of them, every sample as a dot.

An experiment that needs no more names its metrics and the one that its answer is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tare.bench.errors import UsageError
from tare.bench.records.metrics import Metric, show
from tare.bench.records.store import Run
from tare.reports import words
from tare.reports.analysis.calibration import delay_seconds
from tare.reports.analysis.claims import claim, no_answer
from tare.reports.analysis.model import Claim, Report, SubjectFigures
from tare.reports.sections import Found, Groundwork, experiment
from tare.runners import layers

if TYPE_CHECKING:
    from rich.text import Text

    from tare.reports.analysis.build import Analysed


_PAGE = Path(__file__).with_name("standard.html")


@dataclass(frozen=True, kw_only=True)
class Standard:
    """A figure for each of ``metrics``; ``says`` is said between a lone subject and its ``primary`` one."""

    metrics: Sequence[Metric]
    primary: str
    says: str = "shows"
    phases: bool = False
    template: Path = _PAGE

    def analyse(self, run: Run, sizes: Sequence[object]) -> Groundwork:
        """Nothing beyond the figures."""
        if sizes:
            why = f"{run.header.run} has the experiment '{experiment(run.header)}'"
            raise UsageError("--host needs a run of the experiment 'density'", why, "`tare run density`")
        return Groundwork()

    def answer(self, found: Found) -> Iterator[Claim]:
        """Native and accelerated results first, emulated ones after: they are never ranked in one list."""
        metric, subjects, reference = self.primary, found.subjects, found.header.scenario.reference
        if none := no_answer(subjects, metric):
            yield none
            return
        # Neither a null subject nor a known delay is an answer: both weigh the scale (reports/analysis/calibration.py).
        scale = {s.label for s in found.header.subjects if layers.is_null(s.runner) or delay_seconds(s)}
        skipped = {subject.label for subject in subjects if subject.skipped}
        mine = [
            one
            for one in found.comparisons
            if one.metric == metric and not {one.subject, one.reference} & (scale | skipped)
        ]
        yield from map(claim, sorted(mine, key=lambda one: (one.emulated, one.why_compared == "pair")))
        if not mine:
            measured = [subject for subject in subjects if subject.label not in skipped]
            for subject in sorted(measured, key=lambda subject: subject.result_class == "emulated"):
                yield self._alone(subject)
        if reference in skipped:
            detail = f"the reference {reference} was skipped."
            yield Claim(lead="Nothing to compare with", detail=detail, subject=reference, verdict="no figure")

    def limits(self, found: Found) -> Iterator[str]:
        """What holds for every measurement of a payload that does next to nothing."""
        yield "What a real service needs: the payload does almost nothing."
        yield "What other hosts would show. Ratios are more alike than times, but not equal."

    def page(self, analysed: Analysed) -> Mapping[str, Any]:
        """One chart for each metric: every sample as a dot."""
        from tare.reports.charts.distribution import dots, shaped
        from tare.reports.charts.svg import both

        charts = {m.name: both(m.name, dots(analysed, m.name), 900) for m in self.metrics}
        return {"charts": charts, "shaped": shaped(analysed, self.primary)}

    def text(self, report: Report, shown: Sequence[SubjectFigures], width: int) -> Iterator[Text]:
        """One column for each metric."""
        from tare.reports.terminal import figures

        return figures.section(figures.table(shown, [(metric.title, metric.name) for metric in self.metrics]), width)

    def _alone(self, subject: SubjectFigures) -> Claim:
        """The answer when there is nothing to compare with: the figure itself."""
        figure = subject.figure(self.primary)
        emulated = subject.result_class == "emulated"
        mark = f" ({words.EMULATED})" if emulated else ""
        if figure.median is None:
            return Claim(
                lead=subject.label, detail=f"{figure.why}{mark}.", subject=subject.label, verdict="no figure",
                emulated=emulated,
            )  # fmt: skip
        starts, rounds = words.plural(figure.n, "start"), words.plural(figure.rounds, "round")
        between = words.interval(figure.low, figure.high, figure.unit)
        grounds = f"95 % CI {between}, " if figure.low is not None else ""
        return Claim(
            lead=f"{subject.label} {self.says} {show(figure.median, figure.unit)}",
            detail=f"the median of {starts} ({grounds}{rounds}){mark}.{words.torn([(subject.label, figure)])}",
            subject=subject.label,
            verdict="not enough rounds",
            emulated=emulated,
        )
