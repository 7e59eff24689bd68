"""Verbs that take a run take it by any of its names: place, beginning, path, packed file."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tare.bench.records import packed
from tests import warm
from tests.unit.reports import fixture
from tests.warm import fails

NAMES = ["20260201T101112Z-startup-aaaa", "20260202T101112Z-startup-bbbb", "20260203T101112Z-startup-cccc"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("choosing")
    for seed, name in enumerate(NAMES):
        fixture.write_run(place / name, [fixture.subject("process")], rounds=2, seed=seed)
    (place / "broken").mkdir()
    (place / "broken" / "run.json").write_text("{")
    return place


def named(results: Path, *words: str | Path) -> str:
    """Which run a report is of."""
    done = warm.tare("report", *words, "--json", TARE_RESULTS=str(results))
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["run"])


@pytest.mark.parametrize(("word", "place"), [("latest", 2), ("-1", 2), ("-3", 0), ("20260202", 1), (NAMES[0], 0)])
def test_a_report_is_of_the_run_that_is_meant(results: Path, word: str, place: int) -> None:
    assert named(results, word) == NAMES[place]


def test_a_place_may_stand_anywhere_and_no_option_loses_its_value(results: Path, tmp_path: Path) -> None:
    page = tmp_path / "-2"
    done = warm.tare("report", "-o", "-2", "-1", cwd=tmp_path, TARE_RESULTS=str(results))
    assert (done.returncode, done.stdout, NAMES[2] in page.read_text("utf-8")) == (0, "-2\n", True)
    assert NAMES[1] in warm.tare("report", "-o", "-", "--", "-2", TARE_RESULTS=str(results)).stdout
    told = json.loads(warm.tare("compare", "-2", "--json", "-1", "--results", results).stdout)
    assert (told["before"], told["after"]) == (NAMES[1], NAMES[2])


def test_options_are_still_options(results: Path) -> None:
    assert "-x" in fails("report", "-x", "--results", results)
    assert "There is" not in fails("plan", "-1")


def test_what_is_not_there_is_answered_with_what_is(results: Path) -> None:
    assert NAMES[2] in fails("report", "2027", "--results", results)
    assert f"{NAMES[0]}, {NAMES[1]}, {NAMES[2]}" in fails("compare", "202602", "latest", "--results", results)
    assert "-4 is broken" in fails("report", "-5", "--results", results)
    assert "broken/run.json is damaged" in fails("report", "-4", "--results", results)
    assert "is not complete" not in fails("run", "--resume", "20260")


def test_a_packed_run_is_reported_and_its_page_lies_beside_it(results: Path, tmp_path: Path) -> None:
    done = warm.tare("pack", "latest", "--results", results, "-o", tmp_path / "run.zip")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/run.zip\n")
    assert zipfile.is_zipfile(tmp_path / "run.zip")
    assert named(results, tmp_path / "run.zip") == NAMES[2]
    page = tmp_path / f"{NAMES[2]}-report.html"
    assert warm.tare("report", tmp_path / "run.zip").stdout == f"{page}\n"
    assert NAMES[2] in page.read_text("utf-8")
    told = json.loads(warm.tare("compare", tmp_path / "run.zip", results / NAMES[0], "--json").stdout)
    assert (told["before"], told["after"]) == (NAMES[2], NAMES[0])


def test_a_packed_run_is_written_here_by_the_name_of_the_run(results: Path, tmp_path: Path) -> None:
    done = warm.tare("pack", NAMES[0], "--results", results, cwd=tmp_path)
    assert done.stdout == f"{NAMES[0]}.zip\n"
    assert (tmp_path / f"{NAMES[0]}.zip").read_bytes() == packed.pack(results / NAMES[0])
    assert "a file" in fails("pack", NAMES[0], "--results", results, "-o", "-")
    assert "is damaged" in fails("pack", "broken", "--results", results)
    assert "cannot be unpacked" in fails("report", results / NAMES[0] / "samples.jsonl")


def test_a_packed_run_does_not_go_on(results: Path, tmp_path: Path) -> None:
    (tmp_path / "run.zip").write_bytes(packed.pack(results / NAMES[0]))
    assert "is a packed run" in fails("run", "--resume", tmp_path / "run.zip")


def test_completion_offers_names_and_paths(results: Path) -> None:
    for begun, offered in (("lat", "latest"), ("202602", NAMES[0]), (f"{results}/2026", str(results / NAMES[1]))):
        done = warm.tare(
            _TARE_COMPLETE="bash_complete",
            COMP_WORDS=f"tare report {begun}",
            COMP_CWORD="2",
            TARE_RESULTS=str(results),
        )
        assert offered in done.stdout, begun
