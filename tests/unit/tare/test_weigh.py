"""``tare weigh`` as a user types it: what it writes, and what it says of a slip. Nothing is started here."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests import cli

SERVER = ("--ready", "tcp:8000", "--", "python3", "-m", "http.server", "8000")


def test_it_prints_and_saves_a_scenario_that_can_be_planned(tmp_path: Path) -> None:
    file = tmp_path / "web.toml"
    words = ("weigh", "-i", "process", "-i", "container", "-r", "9", "--save", file, "--dry-run")
    done = cli.tare(*words, *SERVER)
    assert done.returncode == 0, done.stderr
    assert done.stdout == file.read_text()
    found = tomllib.loads(done.stdout)
    assert found["workload"]["command"] == ["python3", "-m", "http.server", "8000"]
    assert (found["workload"]["ready"], found["run"]["rounds"]) == ({"tcp": 8000}, 9)
    planned = cli.tare("plan", file)
    assert planned.returncode == 0
    assert "ready when its port 8000 accepted a connection" in planned.stdout
    assert "round 9" in planned.stdout


def test_options_of_the_command_are_not_its_own() -> None:
    done = cli.tare("weigh", "-i", "process", "--dry-run", "--", "ls", "--json", "-i", "x", "")
    assert tomllib.loads(done.stdout)["workload"]["command"] == ["ls", "--json", "-i", "x", ""]


def test_the_json_of_the_command_is_not_asked_of_tare() -> None:
    done = cli.tare("weigh", "-i", "absent", "--", "ls", "--json")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-i", "proces", "--", "true"], "did you mean 'process'"),
        (["-i", "process", "--ready", "tpc:80", "--", "true"], "one of: mark, line:REGEX"),
        (["-i", "process", "--ready", "tcp:99999", "--", "true"], "65535"),
        (["-i", "process", "-e", "A", "--", "true"], "NAME=VALUE"),
        (["-i", "process", "--image", "./absent", "--", "true"], "there is no directory"),
        (["-i", "process", "--image", "debain:bookworm", "--", "true"], "did you mean 'debian'"),
        (["-i", "crun,binary=/absent", "--", "true"], "there is no file /absent"),
        (["-i", "crun,color=red", "--", "true"], "has no option 'color'"),
        (["-i", "process", "-i", "process", "--", "true"], "is used 2 times"),
        (["-i", "process"], "give a command after --"),
        (["-i", "process", "--rounds", "0", "--", "true"], "1"),
    ],
)
def test_a_slip_is_bad_input_and_says_what_would_be_right(words: list[str], said: str) -> None:
    done = cli.tare("weigh", "--dry-run", *words)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
