"""Which run is meant, and what is said where none is, or several are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tare.bench.errors import UsageError
from tare.bench.records import choice, packed
from tests.unit.reports import fixture

NAMES = ["20260101T000000Z-startup-aaaa", "20260102T000000Z-memory-bbbb", "20260103T000000Z-startup-cccc"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("choice") / "runs"
    for name in NAMES:
        fixture.write_run(place / name, [fixture.subject("process")], rounds=2)
    return place


def chosen(text: str, results: Path) -> str:
    with choice.opened(text, results) as run:
        return run.path.name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("latest", NAMES[2]), ("-1", NAMES[2]), ("-2", NAMES[1]), ("-3", NAMES[0]),
        (NAMES[1], NAMES[1]), ("20260102", NAMES[1]), ("20260103T000000Z-s", NAMES[2]),
    ],
)  # fmt: skip
def test_a_run_is_meant_by_its_place_or_its_name(results: Path, text: str, name: str) -> None:
    assert chosen(text, results) == name


def test_a_path_is_that_path_whatever_the_runs_are_called(results: Path, tmp_path: Path) -> None:
    assert chosen(str(results / NAMES[0]), tmp_path / "nothing") == NAMES[0]
    assert chosen(str(results / NAMES[0] / "run.json"), tmp_path / "nothing") == NAMES[0]


def test_a_file_in_this_directory_wins_over_the_beginning_of_a_name(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixture.write_run(tmp_path / "20260102", [fixture.subject("process")], rounds=2)
    monkeypatch.chdir(tmp_path)
    assert chosen("20260102", results) == "20260102"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2026010", "more than one run begins with '2026010'"),
        ("2026010", f"{NAMES[0]}, {NAMES[1]}, {NAMES[2]}"),
        ("20260104", f"the nearest are .*{NAMES[2]}"),
        ("zzz", f"the last are .*{NAMES[2]}"),
        ("-4", "there is no run -4"),
        ("-4", f"-3 is {NAMES[0]}"),
    ],
)
def test_where_no_run_or_several_are_meant_the_candidates_are_named(results: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        chosen(text, results)
    found = f"{refused.value}: {refused.value.fix}"
    assert re.search(said, found), found


def test_many_candidates_are_named_in_part(tmp_path: Path) -> None:
    for day in range(10, 20):
        (tmp_path / f"202601{day}T000000Z-quick-1a2b").mkdir()
        (tmp_path / f"202601{day}T000000Z-quick-1a2b" / "run.json").touch()
    with pytest.raises(UsageError) as refused:
        chosen("2026", tmp_path)
    assert "20260119T000000Z-quick-1a2b and 5 older" in refused.value.fix


def test_where_there_are_no_runs_the_way_to_one_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        chosen("latest", tmp_path)
    assert "tare run quick" in refused.value.fix


def test_the_latest_run_is_the_last_that_began_whatever_it_is_called(tmp_path: Path) -> None:
    first, last = "20260101T000000Z-startup-aaaa", "20260301T000000Z-startup-aaaa"
    for name, began in ((first, "2026-01-01"), ("monday", "2026-02-02"), (last, "2026-03-01")):
        fixture.write_run(tmp_path / name, [fixture.subject("process")], rounds=2, started_at=f"{began}T00:00:00+00:00")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").touch()
    assert [chosen(text, tmp_path) for text in ("-1", "-2", "-3", "-4")] == [last, "monday", first, "broken"]


def test_a_directory_of_runs_is_no_run_and_names_them(results: Path) -> None:
    with pytest.raises(UsageError, match="is a directory of runs") as refused:
        chosen(str(results), results)
    assert str(results / NAMES[0]) in refused.value.fix


def test_a_packed_run_does_not_go_on(results: Path, tmp_path: Path) -> None:
    file = tmp_path / "run.zip"
    file.write_bytes(packed.pack(results / NAMES[0]))
    with pytest.raises(UsageError, match="is a packed run"):
        choice.directory(str(file), results)
    assert choice.directory("latest", results) == results / NAMES[2]
