"""Single starts: how long until ready, what they cost, where the time goes, and the layers beneath."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tare.bench.records.metrics import METRICS
from tare.reports.analysis.figures import SubjectFigures
from tare.reports.analysis.model import Lead, OneQuantity, Report
from tare.reports.sections import Found
from tare.reports.sections.standard import Standard
from tare.reports.sections.startup import burst, trust

if TYPE_CHECKING:
    from rich.text import Text

    from tare.reports.analysis.build import Analysed

_METRICS = (
    "created_seconds", "first_seconds", "ready_seconds", "stopped_seconds", "removed_seconds", "cpu_seconds",
    "pss_bytes", "slowest_seconds", "further_seconds", "attempt_seconds", "runtime_seconds", "daemon_cpu_seconds",
    "provisioned_seconds", "provisioned_bytes", "disk_bytes", "firmware_seconds", "kernel_seconds",
    "initramfs_seconds", "init_seconds",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Startup(Standard):
    """A start that is timed from the request on, and its end."""

    def lead(self, found: Found) -> Lead:
        """Of a run that is there to measure the instrument: whether it can be trusted."""
        if trust.about_the_instrument(found.calibration, found.subjects):
            return trust.opening(found.calibration, found.subjects)
        return burst.opening(found.header, found.subjects) or super().lead(found)

    def limits(self, found: Found) -> Iterator[str]:
        """What single starts of one page cache on one host leave open."""
        header, subjects = found.header, found.subjects
        if any(subject.result_class == "emulated" for subject in subjects):
            yield (
                "How long a virtual machine takes to start with hardware acceleration. Here its instructions were "
                "emulated in software (TCG), which is many times slower and needs more memory."
            )
        yield "Which isolation is safer. The walls of each subject are listed, not tested."
        yield "How fast a workload runs once it is ready: throughput, input and output, network."
        if header.host.virtualization not in ("", "none"):
            yield (
                f"What bare metal would show: this host is itself a virtual machine ({header.host.virtualization}). "
                "Other hosts give other numbers; ratios are more alike than times, but not equal."
            )
        else:
            yield "What other hosts would show. Ratios are more alike than times, but not equal."
        yield "How long an orderly shutdown takes: every stop here is forced (SIGKILL, virDomainDestroy)."
        if any(subject.unlimited for subject in subjects):
            yield ("That the grant limited every subject: the report says which part of it a runner does not enforce.")
        other = "cold" if header.scenario.run.cache == "warm" else "warm"
        yield f"What a start costs with a {other} page cache: all starts here found it {header.scenario.run.cache}."

    def quantities(self, found: Found) -> tuple[OneQuantity, ...]:
        """The time of a start and its memory, by the definitions that people use."""
        from tare.reports.sections.startup.definitions import definitions

        return definitions(found)

    def page(self, analysed: Analysed) -> Mapping[str, Any]:
        """Every start as a dot, the order of the run, the phases, and the layers with what was measured on each."""
        from tare.reports.charts.distribution import dots, drift, shaped
        from tare.reports.charts.svg import both, two_scales
        from tare.reports.sections.startup.layers import memory, stacks
        from tare.reports.sections.startup.timeline import legend, timelines

        report = analysed.report
        charts = {
            "ready": two_scales(
                "ready", dots(analysed, "ready_seconds"), dots(analysed, "ready_seconds", linear=True), 900
            ),
            "cpu": both("cpu", dots(analysed, "cpu_seconds"), 436),
            "pss": both("pss", dots(analysed, "pss_bytes"), 436),
            "drift": both("drift", drift(analysed, "ready_seconds"), 900),
        }
        return {
            "charts": charts,
            "shaped": shaped(analysed, "ready_seconds"),
            "timelines": {"start": timelines(report, "start"), "stop": timelines(report, "stop")},
            "legends": {"start": legend(report, "start"), "stop": legend(report, "stop")},
            "stacks": stacks(report),
            "memory": memory(report),
        }

    def text(self, report: Report, shown: Sequence[SubjectFigures], width: int) -> Iterator[Text]:
        """Time to ready, and what a start costs."""
        from tare.reports.terminal import figures

        columns = (("ready", "ready_seconds"), ("CPU time", "cpu_seconds"), ("memory", "pss_bytes"))
        return figures.section(figures.table(shown, columns), width)


SECTION = Startup(
    metrics=tuple(METRICS[name] for name in _METRICS),
    primary="ready_seconds",
    says="is ready after",
    phases=True,
    template=Path(__file__).with_name("page.html"),
)
