"""Memory and density: instances are started and kept, and the host is read at given numbers of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tare.bench.records.metrics import METRICS
from tare.bench.records.store import Run
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Claim, Lead, OneQuantity, Report
from tare.reports.sections import Found, Groundwork
from tare.reports.sections.ramp.memory.model import FIRST, MARGIN
from tare.reports.sections.standard import Standard

if TYPE_CHECKING:
    from rich.text import Text

    from tare.reports.analysis.build import Analysed


@dataclass(frozen=True, kw_only=True)
class Ramp(Standard):
    """``dense``: the ramp goes on until something runs short, and how many fit is predicted."""

    dense: bool = False

    def analyse(self, run: Run, sizes: Sequence[Any]) -> Groundwork:
        """The ledger of the host's memory, the lines, who owns what, how many fit, and what they cost."""
        from tare.reports.sections.ramp import analysis

        if not self.dense:
            super().analyse(run, sizes)  # predicts nothing
        return analysis.analyse(run, sizes, dense=self.dense)

    def lead(self, found: Found) -> Lead:
        """How many fit, the bill, what is given back; else what one more takes."""
        from tare.reports.sections.ramp import opening

        return opening.of(found.subjects, found.analysis, found.header.scenario.reference) or super().lead(found)

    def answer(self, found: Found) -> Iterator[Claim]:
        """Where nothing was read yet, only whether there is a figure at all."""
        from tare.reports.sections.ramp import sentences

        if found.analysis.ledger:
            reference = found.header.scenario.reference
            yield from sentences.answer(found.subjects, found.comparisons, found.analysis, reference)
        else:
            yield from super().answer(found)

    def limits(self, found: Found) -> Iterator[str]:
        """What a payload that does nothing, on this host, leaves open."""
        from tare.reports.sections.ramp import sentences

        yield from sentences.limits(found.header, found.analysis)
        yield "What other hosts would show: their kernel, processors and sizes of kernel objects are others."

    def quantities(self, found: Found) -> tuple[OneQuantity, ...]:
        """What one more instance takes, by the counters that people use."""
        from tare.reports.sections.ramp.memory.definitions import definitions

        account = found.analysis
        return definitions(found.subjects, account.fits, account.ledger, account.constancy)

    def page(self, analysed: Analysed) -> Mapping[str, Any]:
        """Charts, legends, and the rows that a part of the page looks up."""
        from tare.reports.sections.ramp import page

        return page.context(analysed)

    def text(self, report: Report, shown: Sequence[SubjectFigures], width: int) -> Iterator[Text]:
        """How many fit, and the ledger at the largest count."""
        from tare.reports.sections.ramp import text

        return text.tables(report, shown, width)


_METRICS = (MARGIN, FIRST, METRICS["ready_seconds"], METRICS["teardown_seconds"])
_PAGE = Path(__file__).with_name("page.html")
MEMORY = Ramp(metrics=_METRICS, primary=MARGIN.name, template=_PAGE)
DENSITY = Ramp(metrics=_METRICS, primary=MARGIN.name, template=_PAGE, dense=True)
