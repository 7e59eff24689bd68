"""How ``tare run`` ends: its directory on standard output, the answer and the page on standard error, nothing lost."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tare import command, reports
from tare.bench import engine
from tare.bench.errors import OutputError
from tare.bench.records import store
from tare.bench.trial_loop import Result
from tare.reports.cli import arguments, ending
from tests.unit.reports import fixture

NAME = "20260203T101112Z-startup-1a2b"


class Ended:
    """What a command left: exit code, both streams."""

    def __init__(self, code: int, streams: Any) -> None:
        self.code, self.out, self.err = code, streams.out, streams.err


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """``tare run quick WORDS``, where what would be measured is there already."""

    def ran(*words: str, failed: int = 0, **changes: Any) -> Ended:
        def measured(*_: object) -> Result:
            path = fixture.write_run(tmp_path / NAME, rounds=10, **changes)
            return Result(path=path, header=store.load_header(path), failed=failed)

        monkeypatch.setenv("COLUMNS", "200")  # whatever the one who runs the tests has: no sentence is folded
        monkeypatch.setattr(engine, "run", measured)
        code = ending.run(arguments.invoke(command.cli, ["run", "quick", *words]), as_json="--json" in words)
        return Ended(code, capsys.readouterr())

    @contextlib.contextmanager
    def none() -> Iterator[Any]:
        yield type("None", (), {"pending": None})

    monkeypatch.setattr("tare.bench.host.interrupts.Interrupts", none)
    return ran


def test_a_run_ends_with_the_answer_and_the_path_of_its_page(run: Callable[..., Ended], tmp_path: Path) -> None:
    done = run()
    page = tmp_path / NAME / "report.html"
    assert (done.code, done.out) == (0, f"{tmp_path / NAME}\n")
    *_, sentence, last = done.err.splitlines()
    assert last == str(page)
    assert sentence == reports.sentence(reports.build(store.load(tmp_path / NAME)))
    assert page.read_text("utf-8").startswith("<!doctype html>")


def test_no_page_is_made_that_nobody_wants(run: Callable[..., Ended], tmp_path: Path) -> None:
    done = run("--no-page")
    assert (done.code, done.out) == (0, f"{tmp_path / NAME}\n")
    assert "report.html" not in done.err
    assert not (tmp_path / NAME / "report.html").exists()


@pytest.mark.parametrize(("words", "made"), [((), True), (("--no-page",), False)])
def test_scripts_are_told_of_the_page(
    run: Callable[..., Ended], tmp_path: Path, words: tuple[str, ...], made: bool
) -> None:
    told = json.loads(run("--json", *words).out)
    page = str(tmp_path / NAME / "report.html")
    assert told == {"run": str(tmp_path / NAME), "state": "complete", "failed": 0, "page": page if made else None}


ERRORS = [ValueError("a fault in a chart"), OutputError("cannot write", "No space left on device"), MemoryError()]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("step", ["html", "analyse"])
def test_a_page_that_fails_loses_nothing_that_was_measured(
    run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(reports, step, fails)
    done = run()
    assert (done.code, done.out) == (0, f"{tmp_path / NAME}\n")
    assert "could not be made" in done.err
    assert f"tare report {tmp_path / NAME}" in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert len(store.load(tmp_path / NAME).outcomes) > 40


def test_the_exit_code_is_that_of_the_run_and_the_page_is_there(run: Callable[..., Ended], tmp_path: Path) -> None:
    assert run(failed=2).code == 1
    assert (tmp_path / NAME / "report.html").exists()


def test_a_leak_is_told_after_the_page(run: Callable[..., Ended], tmp_path: Path) -> None:
    done = run(leaks=fixture.LEAKS)
    assert (done.code, done.out) == (5, f"{tmp_path / NAME}\n")
    lines = done.err.splitlines()
    assert lines.index(str(tmp_path / NAME / "report.html")) < lines.index("tare: the run left something on this host")


def test_a_run_without_an_answer_says_so(tmp_path: Path) -> None:
    report = reports.build(store.load(fixture.write_run(tmp_path / NAME, done=0, state="interrupted")))
    assert reports.sentence(report) == "There is no answer yet."
