"""What the host spoilt is no headline: it says so, who it was, and how many rounds would do."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from tare import reports
from tare.bench.records import store
from tare.bench.records.rows import Meanwhile, Other, Outcome
from tare.reports.analysis import noise
from tare.reports.analysis.figures import Mover
from tare.reports.analysis.model import Report
from tests.unit.reports import fixture, ramps_fixture
from tests.unit.reports.ramps_fixture import KIB, MIB, Burden

HOG = Other(name="hog <b>", pid=77, memory_bytes=600.0 * MIB, cpu_seconds=9.0)
WHO = (Mover(name="hog", pid=77, memory_bytes=600.0 * MIB, cpu_seconds=9.0),)
BUSY = Meanwhile(
    seconds=10, cpu_seconds=18, busy_seconds=20, waited_ratio=0.9, memory_bytes=600.0 * MIB, grew=(HOG,), ran=(HOG,)
)
QUIET = Meanwhile(seconds=10, cpu_seconds=0.1, busy_seconds=2, waited_ratio=0.3, memory_bytes=1.0 * MIB)


def beside(path: Path, meanwhile: Meanwhile) -> Path:
    """The run at *path*, as it would be had others done so during each trial."""
    file = path / store.OUTCOMES
    rows = [msgspec.json.decode(line, type=Outcome) for line in file.read_bytes().splitlines()]
    file.write_bytes(
        b"".join(msgspec.json.encode(msgspec.structs.replace(row, meanwhile=meanwhile)) + b"\n" for row in rows)
    )
    return path


def shown(report: Report) -> str:
    console = Console(file=io.StringIO(), width=400, color_system=None)
    console.print(reports.render(report, width=400))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_figure_that_is_larger_than_its_spread_is_one() -> None:
    assert noise.refuse(10.0, "seconds", ends=(5.0, 20.0), rounds=8) is None
    assert noise.refuse(-10.0, "bytes", ends=(-15.0, -5.0), rounds=8) is None
    assert noise.refuse(10.0, "seconds", ends=(None, None), rounds=2) is None
    assert noise.refuse(0.0, "bytes", ends=(0.0, 0.0), rounds=8) is None


def test_a_spread_that_is_larger_needs_as_many_rounds_as_the_scatter_says() -> None:
    found = noise.refuse(1.0, "seconds", ends=(-1.0, 3.0), rounds=8)
    assert found is not None
    assert (found.reason, found.spread, found.rounds) == ("spread", 2.0, 32)
    assert found.sentence == (
        "too noisy: half of the 95 % interval is 2.00 s, and the figure is 1.00 s; take about 32 rounds"
    )
    hopeless = noise.refuse(0.0, "bytes", ends=(-1.0, 3.0), rounds=8)
    assert hopeless is not None
    assert hopeless.rounds is None
    assert hopeless.sentence.endswith("more rounds do not help")


def test_others_that_come_and_go_even_out_and_others_that_grow_do_not() -> None:
    scattered = [600.0 * MIB, -600.0 * MIB, 500.0 * MIB, -700.0 * MIB, 10.0]
    found = noise.refuse(-771.0 * KIB, "bytes", ends=(None, None), rounds=5, others=scattered, who=WHO)
    assert found is not None
    assert (found.reason, found.others) == ("others", 600.0 * MIB)
    assert found.rounds is None  # some millions
    assert found.sentence == (
        "too noisy: this host moved by 600 MiB meanwhile (moved most: hog (pid 77) 600 MiB), and the figure is "
        "−771 KiB; wait, or stop them: more rounds do not help"
    )
    fewer = noise.refuse(300.0 * MIB, "bytes", ends=(None, None), rounds=5, others=scattered, who=WHO)
    assert fewer is not None
    assert fewer.rounds == 20
    assert fewer.sentence.endswith("wait, or stop them, or take about 20 rounds")
    growing = noise.refuse(300.0 * MIB, "bytes", ends=(None, None), rounds=5, others=[400.0 * MIB] * 5, who=WHO)
    assert growing is not None
    assert growing.rounds is None
    assert noise.refuse(700.0 * MIB, "bytes", ends=(None, None), rounds=5, others=scattered, who=WHO) is None


def test_times_on_a_busy_host_are_not_claimed(tmp_path: Path) -> None:
    loaded = store.load(beside(fixture.write_run(tmp_path / "run"), BUSY))
    analysed = reports.analyse(loaded)
    report = analysed.report
    for subject in report.subjects:
        ready, memory, cpu = (subject.figure(name) for name in ("ready_seconds", "pss_bytes", "cpu_seconds"))
        assert ready.median is None
        assert ready.refused is not None
        assert ready.refused.value > 0
        (who,) = ready.refused.who
        assert (who.name, who.pid, who.memory_bytes) == ("hog <b>", 77, 600.0 * MIB)
        assert memory.refused is None is cpu.refused
        assert memory.median is not None
    assert all(claim.verdict == "no figure" and claim.refused for claim in report.answer)
    (answer,) = report.answer
    assert "for 81 % of the time other processes had the processors that this run waited for" in answer.detail
    assert report.lead.sentence == "This run is too noisy for an answer."
    assert not any(one.verdict in ("lower", "higher") for one in report.comparisons if one.metric == "ready_seconds")
    text, page = shown(report), reports.html(analysed)
    assert "too noisy" in text
    assert "hog <b> (pid 77)" in text
    assert "hog &lt;b&gt; (pid" in page
    assert "hog <b>" not in page
    assert "faster" not in text.replace("many times faster", "")


def test_the_same_on_a_quiet_host_is_claimed(tmp_path: Path) -> None:
    report = reports.build(store.load(beside(fixture.write_run(tmp_path / "run"), QUIET)))
    assert any(claim.verdict in ("lower", "higher") for claim in report.answer)
    assert not any(claim.refused for claim in report.answer)
    before = reports.build(store.load(fixture.write_run(tmp_path / "old")))
    assert [one.figures for one in before.subjects] == [one.figures for one in report.subjects]


def test_a_margin_below_what_others_took_is_refused_in_the_ledger_the_lines_and_the_bill(tmp_path: Path) -> None:
    others = Burden(each={"payload": 44 * KIB, "others": -2 * MIB})
    climbers = [ramps_fixture.process(), ramps_fixture.container(burden=others), ramps_fixture.vm()]
    loaded = store.load(beside(ramps_fixture.write(tmp_path / "run", climbers, rounds=8), BUSY))
    report = reports.build(loaded)
    by_label = {subject.label: subject for subject in report.subjects}
    margin = by_label["container"].figure("margin_bytes")
    assert margin.median is None
    assert margin.refused is not None
    assert margin.refused.reason == "others"
    assert margin.refused.rounds is None
    row = max((one for one in report.analysis.ledger if one.subject == "container"), key=lambda one: one.n)
    assert (row.balanced, row.rounds_balanced, row.refused) == (False, 0, margin.refused)
    assert by_label["vm"].figure("margin_bytes").median is not None
    assert not report.analysis.costs
    assert any(claim.refused for claim in report.answer)
    text = shown(report)
    assert "One more container costs" not in text
    assert "hog <b> (pid 77) 600 MiB" in text
    assert "too noisy, 0 of 8" in text


def test_a_margin_that_scatters_by_more_than_itself_is_refused(tmp_path: Path) -> None:
    climbers = [ramps_fixture.process(), ramps_fixture.container(noise=60.0 * MIB)]
    report = reports.build(store.load(ramps_fixture.write(tmp_path / "run", climbers, rounds=8)))
    margin = report.subjects[1].figure("margin_bytes")
    assert margin.median is None
    assert margin.refused is not None
    assert margin.refused.rounds is None or margin.refused.rounds > 8


def test_a_ratio_that_scatters_by_more_than_itself_is_refused() -> None:
    assert noise.refuse(2.0, "ratio", ends=(0.1, 3.9), rounds=8) is None
    found = noise.refuse(2.0, "ratio", ends=(0.1, 9.0), rounds=8)
    assert found is not None
    assert found.sentence.startswith("too noisy: half of the 95 % interval is 4.45, and the figure is 2.00")


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_others_that_only_use_what_is_free_spoil_nothing(tmp_path: Path, share: float) -> None:
    load = msgspec.structs.replace(BUSY, waited_ratio=share)
    report = reports.build(store.load(beside(fixture.write_run(tmp_path / "run"), load)))
    assert not any(claim.refused for claim in report.answer)
