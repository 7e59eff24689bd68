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
from tare.reports.analysis import lead
from tare.reports.analysis.claims import claim, no_answer
from tare.reports.analysis.figures import Compared, SubjectFigures
from tare.reports.analysis.model import Claim, Lead, OneQuantity, Report
from tare.reports.sections import Found, Groundwork, experiment

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

    def lead(self, found: Found) -> Lead:
        """The comparison that the question is about, or the figure of a lone subject."""
        metric = next(metric for metric in self.metrics if metric.name == self.primary)
        subjects = [one for one in found.subjects if one.label not in lead.scale(found.subjects)]
        if none := no_answer(subjects, self.primary):
            return lead.nothing(none.detail, noisy=none.refused is not None)
        by_label = {subject.label: subject for subject in subjects}
        compared = lead.main(self._comparisons(found), by_label, found.header.scenario.pairs)
        sides = () if compared is None else (compared.subject, compared.reference)
        if compared is None:
            measured = [subject for subject in subjects if not subject.skipped]
            said = lead.alone(measured[0], metric) if measured else lead.nothing("nothing was measured.")
        else:
            said = Lead(sentence=lead.sentence(compared, metric, by_label), grounds=lead.grounds(compared, by_label))
        return lead.with_bars(said, subjects, metric, sides)

    def _comparisons(self, found: Found) -> list[Compared]:
        """Those of the primary metric between subjects that were measured, and that are somebody's answer."""
        out = lead.scale(found.subjects) | {subject.label for subject in found.subjects if subject.skipped}
        return [
            one for one in found.comparisons if one.metric == self.primary and not {one.subject, one.reference} & out
        ]

    def answer(self, found: Found) -> Iterator[Claim]:
        """Native and accelerated results first, emulated ones after: they are never ranked in one list."""
        metric, subjects = self.primary, found.subjects
        if none := no_answer(subjects, metric):
            yield none
            return
        skipped = {subject.label for subject in subjects if subject.skipped}
        mine = self._comparisons(found)
        yield from map(claim, sorted(mine, key=lambda one: (one.emulated, one.why_compared == "pair")))
        if not mine:
            measured = [subject for subject in subjects if subject.label not in skipped]
            for subject in sorted(measured, key=lambda subject: subject.result_class == "emulated"):
                yield self._alone(subject)
        for reference in sorted(found.header.scenario.references & skipped):
            detail = f"the reference {reference} was skipped."
            yield Claim(lead="Nothing to compare with", detail=detail, subject=reference, verdict="no figure")

    def limits(self, found: Found) -> Iterator[str]:
        """What holds for every measurement of a payload that does next to nothing."""
        yield "What a real service needs: the payload does almost nothing."
        yield "What other hosts would show. Ratios are more alike than times, but not equal."

    def quantities(self, found: Found) -> tuple[OneQuantity, ...]:
        """One definition each."""
        return ()

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
                emulated=emulated, refused=figure.refused,
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
