"""The command line where it measures nothing: help, plans, and every kind of bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tare import command
from tests import cli, warm

VERBS = sorted(command.cli.commands)


def test_the_verbs_are_those_that_are_documented() -> None:
    assert VERBS == [
        "clean",
        "compare",
        "completion",
        "doctor",
        "image",
        "index",
        "list",
        "pack",
        "plan",
        "report",
        "run",
        "weigh",
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str) -> None:
    found = command.cli.commands[verb].get_help(click.Context(command.cli.commands[verb], info_name=f"tare {verb}"))
    assert "Example:" in found
    assert f"tare {verb}" in found.partition("Example:")[2]


@pytest.mark.parametrize("verb", ["build", "import", "list", "rm", "show", "verify"])
def test_every_verb_of_images_has_help_with_an_example(verb: str) -> None:
    done = warm.tare("image", verb, "--help")
    assert done.returncode == 0
    assert f"tare image {verb}" in done.stdout.partition("Example:")[2]


def test_help_loads_nothing_heavy() -> None:
    """200 ms for --help would be gone with any one of these."""
    code = (
        "import sys; from tare import command\n"
        "try: command.cli(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'pandas','matplotlib','numpy','scipy','rich','libvirt','msgspec','psutil'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cli.ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(shell: str) -> None:
    done = warm.tare("completion", shell)
    assert done.returncode == 0
    assert "_TARE_COMPLETE" in done.stdout


def test_completion_offers_scenarios() -> None:
    done = warm.tare(_TARE_COMPLETE="bash_complete", COMP_WORDS="tare run st", COMP_CWORD="2")
    assert "startup" in done.stdout


def test_a_plan_is_the_same_twice_and_another_with_another_seed() -> None:
    first, second = (warm.tare("plan", "startup", "--seed", "7", "--json") for _ in range(2))
    assert first.stdout == second.stdout
    assert first.stdout != warm.tare("plan", "startup", "--seed", "8", "--json").stdout
    plan = json.loads(first.stdout)
    assert plan["arithmetic"] == "5 subjects x 12 rounds + 5 warm-ups = 65 starts"
    assert len(plan["trials"]) == 65


def test_a_plan_for_people_fits_80_columns_and_has_no_colour() -> None:
    done = warm.tare("plan", "calibration")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_dry_run_is_a_plan_and_starts_nothing(tmp_path: Path) -> None:
    done = warm.tare("run", "startup", "--dry-run", "--results", tmp_path / "results")
    assert (done.returncode, done.stdout) == (0, warm.tare("plan", "startup").stdout)
    assert not (tmp_path / "results").exists()


def test_list_names_scenarios_and_runs(tmp_path: Path) -> None:
    names = [row["scenario"] for row in json.loads(warm.tare("list", "--json").stdout)]
    assert {"startup", "quick", "calibration"} <= set(names)
    assert json.loads(warm.tare("list", "--runs", "--json", "--results", tmp_path).stdout) == []


def bad_scenarios(tmp_path: Path) -> dict[str, Path]:
    texts = {
        "unknown-key": 'schema = 1\nquestion = "?"\nreferense = "a"\n',
        "wrong-type": 'schema = "one"\n',
        "negative": "[run]\nrounds = -3\n",
        "not-toml": "schema = \n",
        "empty": "",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text)
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    (tmp_path / "directory.toml").mkdir()
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(100 << 20)
    names = [*texts, "binary", "directory", "huge", "missing"]
    return {name: tmp_path / f"{name}.toml" for name in names}


@pytest.mark.parametrize(
    "name", ["unknown-key", "wrong-type", "negative", "not-toml", "empty", "binary", "directory", "huge", "missing"]
)
def test_a_bad_scenario_is_one_clear_paragraph_and_exit_2(tmp_path: Path, name: str) -> None:
    path = bad_scenarios(tmp_path)[name]
    results = tmp_path / "results"
    done = warm.tare("run", path, "--results", results)
    assert done.returncode == 2
    assert done.stdout == ""
    assert str(path) in done.stderr
    assert done.stderr.splitlines()[-1].startswith(" fix: ")
    assert len(done.stderr.splitlines()) <= 3
    assert not results.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("run",),
        ("run", "quick", "--resume", "x"),
        ("run", "quick", "--rounds", "0"),
        ("run", "quick", "--rounds", "many"),
        ("run", "quick", "--subject", "nobody"),
        ("run", "no-such-scenario"),
        ("run", "quick", "--results", "/proc/nowhere"),
        ("run", "--resume", "/nowhere"),
        ("report", "/nowhere"),
        ("report", "/"),
        ("compare", "/nowhere", "/nowhere"),
        ("frobnicate",),
    ],
)
def test_bad_usage_is_exit_2_without_a_traceback(words: tuple[str, ...]) -> None:
    done = warm.tare(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr


def test_a_closed_pipe_ends_as_a_shell_shows_it() -> None:
    reader = subprocess.Popen(cli.command("plan", "calibration"), stdout=subprocess.PIPE, cwd=cli.ROOT)
    assert reader.stdout is not None
    reader.stdout.close()
    assert reader.wait(60) == 128 + signal.SIGPIPE
