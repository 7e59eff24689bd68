"""The least memory: the smallest grant with which a subject gets ready, found by halving."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tare.bench.records.metrics import METRICS
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Report
from tare.reports.sections import Found
from tare.reports.sections.standard import Standard

if TYPE_CHECKING:
    from rich.text import Text

    from tare.reports.analysis.build import Analysed


@dataclass(frozen=True, kw_only=True)
class LeastMemory(Standard):
    """One search a trial: a number of attempts with ever closer grants."""

    def limits(self, found: Found) -> Iterator[str]:
        """A grant is not what all of it takes."""
        yield "What a real service needs: the payload does almost nothing."
        yield (
            "What an instance costs the host in all: the grant of a process or container limits what its cgroup is "
            "charged with, and that of a virtual machine is what its guest sees. `tare run memory` measures the rest."
        )

    def page(self, analysed: Analysed) -> Mapping[str, Any]:
        """Every search as a dot."""
        from tare.reports.charts.distribution import dots, shaped
        from tare.reports.charts.svg import two_scales

        draw, linear = dots(analysed, self.primary), dots(analysed, self.primary, linear=True)
        charts = {"least": two_scales("least", draw, linear, 900)}
        return {"charts": charts, "shaped": shaped(analysed, self.primary)}

    def text(self, report: Report, shown: Sequence[SubjectFigures], width: int) -> Iterator[Text]:
        """The grant, and how many attempts it took to find it."""
        from tare.reports.terminal import figures

        columns = (("least memory", self.primary), ("attempts", "attempts_count"))
        return figures.section(figures.table(shown, columns, counted="searches"), width)


SECTION = LeastMemory(
    metrics=(METRICS["least_memory_bytes"], METRICS["attempts_count"]),
    primary="least_memory_bytes",
    says="gets ready with",
    template=Path(__file__).with_name("page.html"),
)
