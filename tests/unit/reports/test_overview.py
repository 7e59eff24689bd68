"""``tare index``: one page of all runs, whatever they are, and however many."""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

from tare import reports
from tare.bench.records import store
from tare.reports.analysis.several import overview
from tare.reports.page.several import overview as pages
from tests import cli, warm
from tests.unit.reports import fixture, ramps_fixture
from tests.warm import fails

HOSTILE = "<img src=x onerror=alert(1)>'\"&javascript:alert(1)"


def write(results: Path, day: int, **changes: Any) -> Path:
    subjects = changes.pop("subjects", [fixture.subject("process"), fixture.subject("vm")])
    fields: dict[str, Any] = {"rounds": 4, "seed": day, "started_at": f"2026-02-{day:02}T10:11:12+00:00", **changes}
    name = fields.pop("path", f"202602{day:02}T101112Z-{fields.get('name', 'startup')}-1a2b")
    return fixture.write_run(results / name, subjects, **fields)


def found(results: Path) -> overview.Overview:
    return reports.overview(store.runs(results))


def html(results: Path) -> str:
    return reports.overview_html(found(results), results / "index.html")


@pytest.mark.parametrize("damage", ["a failure", "an invalid trial", "a trial run again", "none"])
def test_a_main_figure_is_that_of_the_report(tmp_path: Path, damage: str) -> None:
    subjects = fixture.standard() if damage == "a failure" else None
    path = fixture.write_run(tmp_path / "run", subjects, rounds=9)
    rows = (path / "samples.jsonl").read_text().splitlines()
    if damage == "a trial run again":
        again = json.loads(next(row for row in rows if '"ready_seconds"' in row and '"measured"' in row))
        (path / "samples.jsonl").write_text(
            "\n".join([*rows, json.dumps({**again, "value": again["value"] * 9})]) + "\n"
        )
    if damage == "an invalid trial":
        lines = (path / "outcomes.jsonl").read_text().splitlines()
        (path / "outcomes.jsonl").write_text("\n".join([*lines[:-1], lines[-1].replace('"ok"', '"invalid"')]) + "\n")
    run = store.load(path)
    (entry,) = reports.overview([path]).entries
    report = reports.build(run)
    expected = {subject.label: subject.figure(report.metric).median for subject in report.subjects}
    assert {one.subject: one.median for one in entry.figures} == expected
    assert entry.metric == report.metric


@pytest.mark.slow
def test_a_main_figure_is_that_of_the_report_for_every_experiment(tmp_path: Path) -> None:
    with zipfile.ZipFile(cli.ROOT / "tests" / "kept" / "runs-schema-1.zip") as archive:
        archive.extractall(tmp_path)
    paths = [*store.runs(tmp_path), ramps_fixture.write(tmp_path / "ramps")]
    assert len(paths) == 5
    for path, entry in zip(paths, reports.overview(paths).entries, strict=True):
        report = reports.build(store.load(path))
        assert entry.damaged == ""
        expected = {one.label: one.figure(report.metric).median for one in report.subjects if not one.skipped}
        assert {one.subject: one.median for one in entry.figures} == pytest.approx(expected)


def test_a_figure_that_the_host_spoilt_is_none_here_either(tmp_path: Path) -> None:
    wild = fixture.subject("container")
    wild = fixture.Subject(record=wild.record, shape=dataclasses.replace(wild.shape, noise=3.0))
    path = write(tmp_path, 3, subjects=[fixture.subject("process"), wild], rounds=6)
    report = reports.build(store.load(path))
    (entry,) = found(tmp_path).entries
    assert [one.median is None for one in entry.figures] == [False, True]
    assert {one.subject: (one.median, one.why) for one in entry.figures} == {
        one.label: (one.figure(report.metric).median, one.figure(report.metric).why.partition(" (")[0])
        for one in report.subjects
    }


def test_a_subject_without_a_figure_says_why(tmp_path: Path) -> None:
    failing = fixture.subject("runc")
    broken = fixture.Subject(record=failing.record, shape=failing.shape, failed_rounds=dict.fromkeys(range(1, 5), "no"))
    skipped = fixture.subject("vm", skipped="no KVM")
    write(tmp_path, 3, subjects=[fixture.subject("process"), broken, skipped])
    (entry,) = found(tmp_path).entries
    assert [(one.subject, one.median is None, one.why) for one in entry.figures] == [
        ("process", False, ""),
        ("runc", True, "no figure: 4 of 4 starts failed"),
    ]
    assert "no figure" in html(tmp_path)


def test_a_damaged_run_is_listed_and_harms_no_other(tmp_path: Path) -> None:
    for day in (3, 4):
        write(tmp_path, day)
    torn = write(tmp_path, 5)
    (torn / "samples.jsonl").write_text("{}\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "run.json").touch()
    shape = write(tmp_path, 6)
    header = json.loads((shape / "run.json").read_text())
    header["scenario"]["subjects"] = []
    (shape / "run.json").write_text(json.dumps(header))
    done = warm.tare("index", tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/index.html\n")
    page = (tmp_path / "index.html").read_text("utf-8")
    assert "2 runs of 1 scenario; 3 more cannot be read." in page
    assert page.count('class="damaged"') == 3
    assert "samples.jsonl, line 1 is damaged" in page
    told = json.loads(warm.tare("index", tmp_path, "--json").stdout)
    assert [bool(one["damaged"]) for one in told["entries"]] == [True, False, False, True, True]
    assert warm.tare("list", "--runs", "--results", tmp_path).returncode == 0


def test_an_empty_directory_has_a_page_and_none_is_an_error(tmp_path: Path) -> None:
    assert warm.tare("index", tmp_path).returncode == 0
    assert "There are no runs here yet." in (tmp_path / "index.html").read_text("utf-8")
    assert "is not a directory" in fails("index", tmp_path / "nowhere")
    assert "exclude each other" in warm.tare("index", tmp_path, "--json", "-o", "x").stderr


def test_only_the_same_thing_on_the_same_machine_is_one_line(tmp_path: Path) -> None:
    other = msgspec.structs.replace(fixture.HOST, machine_id="another", cpu_model="Another CPU")
    several: list[dict[str, Any]] = [{}, {"host": other}, {"cache": "cold"}, {"name": "quick"}, {}]
    for day, changes in enumerate(several, start=3):
        write(tmp_path, day, **changes)
    accelerated = [fixture.subject("process"), fixture.subject("vm", accelerator="kvm")]
    write(tmp_path, 9, subjects=accelerated)
    groups = found(tmp_path).groups
    assert [(one.scenario, one.runs) for one in groups] == [
        ("quick", 1), ("startup", 3), ("startup", 1), ("startup", 1),
    ]  # fmt: skip
    names = {one.also for one in groups[1:]}
    assert names == {
        "AMD EPYC 7B13, 2 processors, 24.0 GiB, caches warm",
        "Another CPU, 2 processors, 24.0 GiB, caches warm",
        "AMD EPYC 7B13, 2 processors, 24.0 GiB, caches cold",
    }
    lines = {(one.subject, one.result_class): len(one.points) for one in groups[1].series}
    assert lines == {("process", "native"): 3, ("vm", "accelerated"): 1, ("vm", "emulated"): 2}


def test_a_chart_goes_from_the_first_run_to_the_last_and_links_to_their_pages(tmp_path: Path) -> None:
    for day, scale in ((3, 1.0), (4, 1.5), (13, 2.0)):
        path = write(tmp_path, day, scale=lambda *_, scale=scale: scale)
        if day != 4:
            (path / "report.html").write_text("a page")
    whole = found(tmp_path)
    links = [pages._link(entry, tmp_path / "index.html", ["report.html"]) for entry in whole.entries]
    assert links == ["20260203T101112Z-startup-1a2b/report.html", "", "20260213T101112Z-startup-1a2b/report.html"]
    (process, _) = pages._charts(whole.groups[0], whole.entries, links)
    first, middle, last = process.marks
    assert (first.x, last.x) == (6.0, pages.WIDTH - 6)
    assert middle.x == pytest.approx(6 + (pages.WIDTH - 12) / 10, abs=0.1)
    assert first.y > middle.y > last.y  # up is more
    page = html(tmp_path)
    assert page.count(f'<a href="{links[0]}"><circle') == 2
    assert f'<a href="{links[0]}">20260203' in page
    assert page.count("<circle") == 6


def test_equal_values_lie_in_the_middle_and_noise_stays_small() -> None:
    assert pages._limits([2.0, 2.0]) == pytest.approx((1.8, 2.2))
    assert pages._limits([1.99, 2.01]) == pytest.approx((1.8, 2.2), abs=0.01)
    assert pages._limits([1.0, 3.0]) == (1.0, 3.0)
    assert pages._scaled(1.0, 1.0, 1.0, 72.0) == 36.0


def test_links_hold_from_wherever_the_page_is_and_no_name_is_another_address(tmp_path: Path) -> None:
    results = tmp_path / "results"
    path = write(results, 3, path="javascript:alert(1) ?#'\"é")
    (path / "report.html").write_text("a page")
    for at in (results / "index.html", tmp_path / "index.html", tmp_path / "elsewhere" / "deep" / "index.html"):
        (entry,) = found(results).entries
        link = pages._link(entry, at, ["report.html"])
        assert re.fullmatch(r"[A-Za-z0-9_.~%/-]+", link)
        assert (at.parent / unquote(link)).resolve() == (path / "report.html").resolve()


def test_no_name_means_anything_in_the_page(tmp_path: Path) -> None:
    subjects = [fixture.subject("process", HOSTILE), fixture.subject("vm")]
    write(tmp_path, 3, subjects=subjects, name=HOSTILE)
    write(tmp_path, 4, subjects=subjects, name=HOSTILE)
    page = html(tmp_path)
    assert "<img" not in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:|javascript:|//)""", page)
    assert re.search(r"default-src 'none'.*script-src 'sha256-[A-Za-z0-9+/=]+'", page)
    assert page.count("<script") == 1


def test_without_script_the_page_is_whole_and_has_no_dead_controls(tmp_path: Path) -> None:
    write(tmp_path, 3)
    page = html(tmp_path)
    assert '<form class="search" id="search" role="search" hidden></form>' in page
    assert not re.search(r"<(input|select|button)\b", page.partition("<script")[0])


@pytest.mark.slow
def test_a_thousand_runs_make_a_page_of_less_than_three_megabytes(tmp_path: Path) -> None:
    subjects = [fixture.subject(runner) for runner in fixture.DEFAULT]
    path = fixture.write_run(tmp_path / "made" / "run", subjects, rounds=12)
    texts = {name: (path / name).read_text() for name in (store.HEADER, store.SAMPLES, store.OUTCOMES)}
    for number in range(1000):
        name, when = f"202{number // 336}{1 + number // 28 % 12:02}{1 + number % 28:02}T101112Z-x-{number:04}", number
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "report.html").touch()
        began = f"{name[:4]}-{name[4:6]}-{name[6:8]}T10:11:12+00:00"
        header = texts[store.HEADER].replace("2026-02-03T10:11:12+00:00", began).replace(
            '"name": "startup"', f'"name": "scenario-{when % 7}"'
        )  # fmt: skip
        (folder / store.HEADER).write_text(header)
        for rows in (store.SAMPLES, store.OUTCOMES):
            (folder / rows).write_text(texts[rows])
    whole = found(tmp_path / "runs")
    page = reports.overview_html(whole, tmp_path / "runs" / "index.html")
    assert len(whole.entries) == 1000
    assert len(whole.groups) == 7
    assert len(page.encode()) < 3 << 20
