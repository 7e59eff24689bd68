"""A figure whose values lie in several heaps says so: in the data, on the page, in the terminal, beside each claim."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from tare import reports
from tare.bench.records import store
from tare.reports import words
from tare.reports.analysis.figures import Figure, Mode
from tare.reports.analysis.model import Report
from tare.reports.analysis.several.model import RunsComparison
from tests.unit.reports import fixture as synthetic

#: Rounds in which the second subject is 3.4 times as slow.
SLOW = tuple(range(2, 21, 2))
SAID = "has two modes: "


def write(path: Path, slow: tuple[int, ...] = SLOW) -> store.Run:
    plain, torn = synthetic.subject("process"), synthetic.subject("container")
    torn = synthetic.Subject(record=torn.record, shape=torn.shape, outlier_rounds=slow)
    return store.load(synthetic.write_run(path, [plain, torn], rounds=20))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> store.Run:
    return write(tmp_path_factory.mktemp("runs") / "torn")


def ready(report: Report, label: str) -> Figure:
    subject = next(one for one in report.subjects if one.label == label)
    return next(one for one in subject.figures if one.metric == "ready_seconds")


def terminal(report: Report | RunsComparison) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(reports.render(report))
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def test_both_values_and_shares_are_in_the_data(run: store.Run) -> None:
    report = reports.build(run)
    low, high = ready(report, "container").modes
    assert (low.share, high.share) == (0.5, 0.5)
    assert high.value / low.value == pytest.approx(3.0, rel=0.1)  # what comes after the first line is not slowed
    assert ready(report, "process").modes == ()
    assert msgspec.json.decode(msgspec.json.encode(reports.data(report)), type=Report) == msgspec.structs.replace(
        report, analysis=None
    )


def test_page_terminal_and_claims_say_it(run: store.Run) -> None:
    report = reports.build(run)
    said = words.modes(ready(report, "container"))
    assert said.startswith("two modes: ")
    assert said.count("(50 %)") == 2
    claim = next(one for one in report.answer if one.subject == "container")
    assert claim.detail.endswith(f"container has {said}; no start may have taken as long as its median.")
    assert any(text.startswith(f"container, ready: {said}") for text in report.warnings)
    assert f"container, ready: {said}" in terminal(report)
    assert reports.html(reports.analyse(run)).count(f'<span class="ci">{said}</span>') == 2


def test_one_heap_says_nothing(tmp_path: Path) -> None:
    run = write(tmp_path / "whole", slow=(6,))
    report = reports.build(run)
    assert not any("modes" in text for text in (*report.warnings, *(one.detail for one in report.answer)))
    assert "modes" not in reports.html(reports.analyse(run))


def test_a_subject_alone_says_it_too(tmp_path: Path) -> None:
    torn = synthetic.subject("container")
    torn = synthetic.Subject(record=torn.record, shape=torn.shape, outlier_rounds=SLOW)
    report = reports.build(store.load(synthetic.write_run(tmp_path / "run", [torn], rounds=20)))
    assert any(SAID in one.detail for one in report.answer)


def test_a_comparison_of_runs_says_which_run_has_them(run: store.Run, tmp_path: Path) -> None:
    comparison = reports.compare_runs(write(tmp_path / "whole", slow=()), run)
    assert any(SAID in one.detail for one in comparison.answer)
    assert [text.partition(",")[0] for text in comparison.warnings] == ["torn: container"] * len(comparison.warnings)
    assert "torn: container, ready: two modes: " in terminal(comparison)


def test_more_than_two_are_counted() -> None:
    heaps = tuple(Mode(value=value, share=0.2) for value in (1.0, 2.0, 4.0, 8.0, 16.0))
    figure = Figure(metric="ready_seconds", unit="seconds", title="ready", modes=heaps[:3])
    assert words.modes(figure) == "three modes: 1.00 s (20 %), 2.00 s (20 %) and 4.00 s (20 %)"
    assert words.modes(msgspec.structs.replace(figure, modes=heaps)).startswith("5 modes: ")
    assert words.modes(msgspec.structs.replace(figure, modes=())) == ""
