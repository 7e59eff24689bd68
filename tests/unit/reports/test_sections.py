"""A section that is made outside the package stands in the page, the terminal and the JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import msgspec
import pytest
from rich.console import Console

from tare import reports
from tare.bench import experiments
from tare.bench.errors import UsageError
from tare.bench.records import store
from tare.bench.records.metrics import METRICS
from tare.bench.records.store import Run
from tare.reports import sections
from tare.reports.analysis.model import Report
from tare.reports.sections import Groundwork, Nothing
from tare.reports.sections.standard import Standard
from tests.unit.reports import fixture as synthetic
from tests.unit.reports import ramps_fixture as ramps


class Ends(msgspec.Struct, frozen=True):
    """How long the slowest stop took."""

    slowest_stop_seconds: float


@dataclass(frozen=True, kw_only=True)
class End(Standard):
    """How an instance ends."""

    def analyse(self, run: Run, sizes: Sequence[object]) -> Groundwork:
        stops = [row.value for row in run.samples if row.metric == "stopped_seconds"]
        return Groundwork(analysis=Ends(slowest_stop_seconds=max(stops)), notes=("ends were looked at",))


SECTION = End(
    metrics=(METRICS["stopped_seconds"], METRICS["removed_seconds"]), primary="stopped_seconds", says="ends after"
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    elsewhere = ModuleType("elsewhere")
    elsewhere.__dict__.update(SECTION=SECTION, END=SimpleNamespace(metrics=(), section="elsewhere:SECTION"))
    monkeypatch.setitem(sys.modules, "elsewhere", elsewhere)
    monkeypatch.setitem(experiments.REGISTRY, "end", "elsewhere:END")
    subjects = [synthetic.subject("process"), synthetic.subject("container")]
    return store.load(synthetic.write_run(tmp_path / "run", subjects, scenario={"probe": "end"}))


def said(report: Report) -> str:
    console = Console(width=80, no_color=True)
    with console.capture() as captured:
        console.print(reports.render(report, width=80))
    return captured.get()


def test_it_stands_in_page_terminal_and_json(run: Run) -> None:
    analysed = reports.analyse(run)
    report, page = analysed.report, reports.html(analysed)
    data = reports.data(report)
    slowest = data["slowest_stop_seconds"]
    assert slowest == max(row.value for row in run.samples if row.metric == "stopped_seconds")
    assert (data["probe"], data["metric"], data["ledger"]) == ("end", "stopped_seconds", ())
    assert [figure.metric for figure in report.subjects[0].figures] == ["stopped_seconds", "removed_seconds"]
    assert report.notes == ("ends were looked at",)
    (answer,) = report.answer
    assert answer.lead.startswith("container is slower to stop than process")
    for shown in (page, said(report)):
        assert answer.lead in " ".join(shown.split())
        assert METRICS["removed_seconds"].title in shown
    assert page.count("<svg") == 4  # two metrics, each for a desk and for a phone


def test_a_lone_subject_says_its_figure_with_the_sections_verb(tmp_path: Path, run: Run) -> None:
    path = synthetic.write_run(tmp_path / "alone", [synthetic.subject("process")], scenario={"probe": "end"})
    (answer,) = reports.build(store.load(path)).answer
    assert answer.lead.startswith("process ends after ")


def test_a_field_that_every_report_has_is_refused(run: Run) -> None:
    clash = msgspec.defstruct("Clash", [("warnings", tuple[str, ...], ())])
    report = msgspec.structs.replace(reports.build(run), analysis=clash())
    with pytest.raises(TypeError, match="fields that every report has: warnings"):
        reports.data(report)


@pytest.mark.parametrize("experiment", sorted(experiments.REGISTRY))
def test_each_section_of_the_table_is_there_under_its_name(experiment: str) -> None:
    section = sections.of(experiment)
    assert section.primary in {metric.name for metric in section.metrics}
    assert section.template.is_file()


def test_only_density_predicts_for_other_hosts(tmp_path: Path) -> None:
    for path in (synthetic.write_run(tmp_path / "start"), ramps.write(tmp_path / "memory")):
        with pytest.raises(UsageError, match=r"needs a run of the experiment .density."):
            reports.build(store.load(path), ["64GiB:16"])


def test_a_section_without_an_analysis_adds_nothing() -> None:
    assert Groundwork().analysis == Nothing()
