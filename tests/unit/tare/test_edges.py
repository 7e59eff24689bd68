"""The command line at its edges: values that make no sense, damaged runs, outputs that cannot be, odd terminals."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pty
import random
import re
import shlex
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from tare import command as front
from tare.bench import engine, experiments
from tare.bench.errors import UsageError
from tare.bench.records import run_writer, store
from tare.bench.scenario import resolve
from tare.reports.analysis import build
from tare.reports.page import render
from tare.reports.terminal import consoles
from tare.reports.terminal.progress import Watcher
from tests import cli, warm
from tests.conftest import first
from tests.unit.reports import fixture, ramps_fixture
from tests.warm import fails


def options() -> Iterator[tuple[str, str]]:
    for verb, command in front.cli.commands.items():
        for one in command.params:
            if isinstance(one, click.Option) and not one.is_flag and one.name != "help":
                yield from ((verb, name) for name in one.opts)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fixture.write_run(tmp_path_factory.mktemp("runs") / "20260203T101112Z-startup-1a2b")


@pytest.mark.parametrize(("verb", "option"), list(options()))
def test_no_option_takes_an_empty_value(verb: str, option: str) -> None:
    said = fails(verb, option, "")
    assert "is empty" in said or "not a valid" in said


@pytest.mark.parametrize(
    "words", [("plan", ""), ("run", ""), ("report", ""), ("compare", "", "x"), ("compare", "x", "")]
)
def test_no_argument_is_empty(words: tuple[str, ...]) -> None:
    assert "is empty" in fails(*words)


VALUES = {"--rounds": "3", "--seed": "1", "--cache": "warm", "--timeout": "5", "--ready": "first", "--warmup": "0"}


@pytest.mark.parametrize("option", VALUES)
def test_an_option_with_one_value_is_given_once(option: str) -> None:
    assert f"{option} is given twice" in fails("plan", "quick", option, VALUES[option], option, VALUES[option])


def test_other_names_of_an_option_are_the_same_option() -> None:
    assert "--rounds is given twice" in fails("plan", "quick", "-r", "3", "--runs", "4")
    assert warm.tare("plan", "quick", "-s", "process", "-s", "process", "--json", "--json").returncode == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--rounds", "-1"), ("--rounds", "0"), ("--rounds", "9" * 5000), ("--rounds", "1e3"), ("--rounds", "nan"),
        ("--warmup", "-1"), ("--warmup", "101"), ("--seed", "-1"), ("--seed", "9223372036854775808"),
        ("--timeout", "0"), ("--timeout", "-1"), ("--timeout", "nan"), ("--timeout", "inf"), ("--timeout", "1e999"),
        ("--cache", "hot"), ("--ready", "never"), ("--subject", "nobody"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_the_options_fault(option: str, value: str) -> None:
    for verb in ("plan", "run"):
        said = fails(verb, "quick", option, value)
        assert option in said
        assert "quick.toml" not in said


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (("plan", "strtup"), "did you mean 'startup'? known: busy, calibration"),
        (("plan", "zzz"), "known: busy, calibration"),
        (("plan", "quick", "--subject", "contaner"), "did you mean 'container'? known: process, container, vm"),
        (("repot", "x"), "did you mean 'report'? known: clean, compare"),
        (("plan", "quick", "--sead", "1"), "--seed"),
    ],
)
def test_what_is_unknown_is_answered_with_what_there_is(words: tuple[str, ...], known: str) -> None:
    assert known in fails(*words)


@pytest.mark.parametrize(
    "flags",
    [("--seed", "0"), ("--rounds", "3"), ("--dry-run",), ("-s", "process"), ("--timeout", "3"), ("--results", "other")],
)
def test_a_run_that_goes_on_takes_no_other_contract(run: Path, flags: tuple[str, ...]) -> None:
    assert f"{'--subject' if flags[0] == '-s' else flags[0]} cannot be given" in fails("run", "--resume", run, *flags)


def test_an_option_that_would_not_be_followed_is_refused(run: Path, tmp_path: Path) -> None:
    for output in (str(tmp_path / "page.html"), "-"):
        done = warm.tare("report", run, "--json", "-o", output)
        assert done.returncode == 2
        assert "--output and --json exclude each other" in json.loads(done.stdout)["error"]
    for results in ("results/runs", str(tmp_path)):
        assert "--results needs --runs" in fails("list", "--results", results)
    assert list(tmp_path.iterdir()) == []
    assert warm.tare("list", TARE_RESULTS=str(tmp_path)).returncode == 0


@pytest.mark.parametrize(
    "size", ["", "64GiB", "64GiB:0", "0GiB:4", "-1GiB:4", "64GiB:16:96%", "nanGiB:1", "9" * 99 + "GiB:1"]
)
def test_a_size_of_a_host_that_cannot_be_is_named(run: Path, size: str) -> None:
    fails("report", run, "--host", size)


def test_one_damaged_run_hides_no_other(run: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    good = fixture.write_run(results / "20260203T101112Z-startup-1a2b")
    texts = {"a-nothing": b"", "b-binary": bytes(range(256)), "c-deep": b'{"schema":' + b"[" * 5000, "d-other": b"[]"}
    for name, text in texts.items():
        (results / name).mkdir()
        (results / name / "run.json").write_bytes(text)
    (results / "e-pipe").mkdir()
    os.mkfifo(results / "e-pipe" / "run.json")
    (results / "f-folder" / "run.json").mkdir(parents=True)
    (results / "no-run").mkdir()
    done = warm.tare("list", "--runs", "--results", results)
    assert done.returncode == 0
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows[-1] == ["2026-02-03T10:11:12+00:00", "complete", "startup", str(good)]
    assert [(row[1], Path(row[3]).name) for row in rows[:-1]] == [
        ("unreadable", name) for name in (*texts, "e-pipe", "f-folder")
    ]
    assert len(done.stderr.splitlines()) == len(texts) + 2
    told = json.loads(warm.tare("list", "--runs", "--json", "--results", results).stdout)
    assert [bool(row["why"]) for row in told] == [*[True] * 6, False]


def test_results_that_are_no_directory_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in fails("list", "--runs", "--results", tmp_path / "file")
    assert warm.tare("list", "--runs", "--results", tmp_path / "nothing").returncode == 0


VIEWS = [
    ("report", "--json"),
    ("report", "-o", "-"),
    ("compare", "RUN"),
    ("compare", "RUN", "--json"),
    ("plan",),
    ("list",),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
@pytest.mark.parametrize("words", VIEWS)
def test_reports_and_comparisons_in_ascii(run: Path, env: dict[str, str], words: tuple[str, ...]) -> None:
    first = {"report": str(run), "compare": str(run), "plan": "calibration"}.get(words[0])
    command = [words[0], *([first] if first else []), *(str(run) if word == "RUN" else word for word in words[1:])]
    done = subprocess.run(
        cli.command(*command), capture_output=True, env=cli.environment(**env), cwd=cli.ROOT, check=False
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    page = words == ("report", "-o", "-")  # it says of itself that it is UTF-8
    text = done.stdout.decode("utf-8" if page or "--json" in words else "ascii")
    assert not page or ("·" in text and '<meta charset="utf-8">' in text)


def on_terminal(columns: int, *words: str | Path, **env: str) -> str:
    """What a terminal of *columns* is sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {key: value for key, value in cli.environment(**env).items() if key != "COLUMNS"}
    with subprocess.Popen(
        cli.command(*words), stdout=theirs, stderr=theirs, stdin=theirs, env=environment, cwd=cli.ROOT
    ):
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 65536):
                parts.append(part)
        except OSError:  # EIO: the last one has closed it
            pass
    os.close(ours)
    return b"".join(parts).decode("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_every_figure_of_a_comparison_is_whole_on_a_terminal(run: Path, columns: int) -> None:
    shown = on_terminal(columns, "compare", run, run, NO_COLOR="1", TERM="xterm")
    wide = warm.tare("compare", run, run, COLUMNS="10000").stdout
    spans = re.findall(r"(?<= )[0-9.]+ to [0-9.]+(?= )", wide)
    assert len(spans) >= 30
    for figure in ("188 MiB", "no difference shown", "vm (emulated)", *spans):
        assert figure in wide
        assert figure in shown
    assert not re.search(r"\x1b\[([0-9;]*;)?(3[0-7]|9[0-7])m", shown), "a colour, though NO_COLOR is set"
    for line in re.sub(r"\x1b\[[0-9;]*m|\r", "", shown).splitlines():
        assert len(line) <= columns


def test_a_path_is_one_piece_on_a_terminal_and_in_a_pipe(tmp_path: Path) -> None:
    results = tmp_path / ("long-" * 20)
    path = fixture.write_run(results / "20260203T101112Z-startup-1a2b")
    assert str(path) in on_terminal(40, "list", "--runs", "--results", results)
    assert warm.tare("list", "--runs", "--results", results).stdout.rstrip("\n").endswith(f"\t{path}")


def test_a_path_with_a_line_end_is_one_line_on_a_terminal_and_in_a_pipe(tmp_path: Path) -> None:
    results = tmp_path / "a\nb"
    fixture.write_run(results / "20260203T101112Z-startup-1a2b")
    (results / "20260203T101113Z-bad").mkdir()
    (results / "20260203T101113Z-bad" / "run.json").touch()
    done = warm.tare("list", "--runs", "--results", results)
    assert len(done.stdout.splitlines()) == 2
    assert [line[:6] for line in done.stderr.splitlines()] == ["tare: "]
    shown = on_terminal(200, "list", "--runs", "--results", results).splitlines()
    assert sum("a?b/2026" in line for line in shown) == 3
    assert not any(line.startswith("b/") for line in shown)


def test_a_command_that_is_told_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = fixture.write_run(tmp_path / "my runs" / "it's")
    with run_writer.RunWriter(run) as writer:
        fix = writer._stopped(run, OSError(errno.ENOSPC, "full")).fix
    assert shlex.split(fix.partition("`")[2].rstrip("`")) == ["tare", "run", "--resume", str(run)]
    monkeypatch.setattr("tare.bench.engine.workspace.locked", contextlib.nullcontext)
    monkeypatch.setattr("tare.bench.engine.conditions.parted", lambda *_, **__: [])
    with pytest.raises(UsageError, match="is complete") as refused:
        engine.resume(run, tmp_path, Watcher(consoles.err()))
    assert shlex.split(refused.value.fix) == ["tare", "report", str(run)]


def test_nothing_is_filled_up_in_a_pipe(run: Path) -> None:
    for words in (("list",), ("list", "--runs", "--results", run.parent), ("plan", "startup"), ("compare", run, run)):
        lines = warm.tare(*words, COLUMNS="").stdout.splitlines()
        assert lines
        assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("columns", ["0", "-5", "nan", "²", "9" * 30])
def test_a_width_that_cannot_be_meant_is_ignored(columns: str) -> None:
    assert warm.tare("plan", "quick", COLUMNS=columns).returncode == 0


# -- run directories that are no longer what a run wrote ---------------------------------------------------------------

_VALUES: list[Any] = [
    None, 0, -1, 1, 10**18, -(10**18), 1e308, 1e-320, "", "x", "a\0b", "[red]", True, [], {}, [1], ["a"], {"a": 1},
    "startup", "density", "memory", "least-memory", "process", "vm", [[]], "9" * 30, "/etc/passwd", "ok", "failed",
]  # fmt: skip


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def damaged(text: str, rng: random.Random) -> str:
    """*text*, JSON, with one value that something else stands for, or that is gone."""
    data = json.loads(text)
    *way, last = rng.choice(list(places(data)))
    inner = data
    for key in way:
        inner = inner[key]
    if rng.random() < 0.2:
        del inner[last]
    else:
        inner[last] = rng.choice(_VALUES)
    return json.dumps(data)


@pytest.mark.slow
@pytest.mark.parametrize("write", [fixture.write_run, ramps_fixture.write])
@pytest.mark.parametrize("seed", first(2, range(8)))
def test_a_run_that_was_damaged_anywhere_is_reported_or_refused(tmp_path: Path, write: Any, seed: int) -> None:
    run, rng = write(tmp_path / "run"), random.Random(seed)
    texts = {name: (run / name).read_text("utf-8") for name in (store.HEADER, store.SAMPLES, store.OUTCOMES)}
    for _ in range(6):
        name = rng.choice(list(texts))
        lines = [texts[name]] if name == store.HEADER else texts[name].splitlines()
        place = rng.randrange(len(lines))
        lines[place] = damaged(lines[place], rng)
        (run / name).write_text("\n".join(lines) + "\n", "utf-8")
        try:
            loaded = store.load(run)
            render.page(build.analyse(loaded))  # past the door that makes all bad input
        except UsageError:
            pass
        (run / name).write_text(texts[name], "utf-8")


HOSTILE = {
    "nothing": "", "no object": "[]", "deep": '{"schema":1,"scenario":' + "[" * 5000, "NUL": "\0",
    "digits": '{"schema":' + "1" * 5000,
    "schema": '{"schema":"1"}', "not JSON": "schema = 1", "stack": "STACK", "probe": "PROBE",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_header_is_bad_input_for_every_verb(run: Path, tmp_path: Path, name: str) -> None:
    header = json.loads((run / store.HEADER).read_text("utf-8"))
    changed = {"STACK": {"stack": 3}, "PROBE": {"probe": ["memory"]}}
    text = HOSTILE[name]
    (tmp_path / store.HEADER).write_text(json.dumps({**header, "scenario": changed[text]}) if text in changed else text)
    for words in (
        ("report", tmp_path),
        ("compare", tmp_path, run),
        ("compare", run, tmp_path),
        ("run", "--resume", tmp_path),
    ):
        assert str(tmp_path) in fails(*words)


def test_a_plan_that_no_scenario_gave_does_not_go_on(run: Path) -> None:
    header = store.load_header(run)
    loaded = experiments.scenario(resolve.find("startup"))

    def check(**changes: Any) -> None:
        scenario = msgspec.structs.replace(loaded, **changes)
        engine._check_plan(msgspec.structs.replace(header, scenario=scenario, subjects=()))

    check()
    with pytest.raises(ValueError, match="not a subject of its scenario"):
        check(subjects=loaded.subjects[:1])
    other = msgspec.structs.replace(loaded.subjects[0], runner="nspawned")
    with pytest.raises(ValueError, match="no runner 'nspawned'"):
        check(subjects=(other, *loaded.subjects[1:]))
    with pytest.raises(ValueError, match="no experiment 'deploy'"):
        check(experiment="deploy")
