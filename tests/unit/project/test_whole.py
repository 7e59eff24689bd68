"""The suite in three parts says no more and no less than what both found. Here it is that of a small project."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import whole
from tests.conftest import TESTS, wait_until

PASSES = "from bench import one\nfrom reports import one as two\nfrom runners import one as three\n"
PASSES += "def test_passes(): assert one() + two() + three() == 3\n"
FAILS = "def test_fails(): assert False\n"


def project(folder: Path, unit: str, system: str) -> Path:
    (folder / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\ntestpaths = ["tests/unit", "tests/oci", "tests/system"]\n'
        'pythonpath = ["."]\naddopts = ["-ra"]\n'
        '[tool.coverage.run]\nsource = ["bench", "reports", "runners"]\nparallel = true\n'
    )
    for name in ("bench", "reports", "runners"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("def one(): return 1\n")
    for name, text in (("unit", unit), ("oci", "def test_beside(): print('beside')\n"), ("system", system)):
        (folder / "tests" / name).mkdir(parents=True)
        (folder / "tests" / name / f"test_{name}.py").write_text(text)
    shutil.copy(TESTS / "whole.py", folder / "tests")
    return folder


def environment() -> dict[str, str]:
    """Workers and coverage are its own, not those of the run that this test is part of. Two plugins will do."""
    ours = ("PYTEST", "COV", "TARE_REQUIRE")
    plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin,pytest_cov.plugin"}
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | plugins


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "system", "status"),
    [(PASSES, PASSES, 0), (FAILS + PASSES, PASSES, 1), (PASSES, "import nothing\n", 1)],
    ids=["both pass", "a unit test fails", "a file of the rest cannot be read"],
)
def test_it_passes_if_all_parts_do_and_all_run(tmp_path: Path, unit: str, system: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.whole"],
        cwd=project(tmp_path, unit, system), env=environment(),
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    assert not done.stderr
    assert done.stdout.count("test session starts") == 3
    assert len(re.findall(r"^FAILED ", done.stdout, re.MULTILINE)) == (FAILS in unit)
    for name in whole.FLOORS:
        assert re.search(rf"^  {name} +100.0 %, with a floor of", done.stdout, re.MULTILINE)
    slow, rest = done.stdout.split("the slowest tests")[1].split("where the time went")
    where, said = rest.split("coverage by units and pages (")
    assert re.search(r"^ +[0-9]+ s  tests/unit$", where, re.MULTILINE)
    assert "tests/unit/test_unit.py::test_passes" in slow
    first, runtimes, second = said.split("\ntests\n")[1].splitlines()
    assert ("1 passed" in first, "1 failed" in first) == (True, FAILS in unit)
    assert "1 passed" in runtimes
    assert ("1 passed" in second) == (system == PASSES)


@pytest.mark.parametrize(
    ("statuses", "percent", "arguments", "expected"),
    [
        ((0, 0, 0), 100.0, [], 0),
        ((1, 0, 0), 100.0, [], 1),
        ((0, 1, 0), 100.0, [], 1),
        ((0, 0, 3), 100.0, [], 1),
        ((0, 0, 0), 1.0, [], 1),
        ((0, 0, 0), 1.0, ["-k", "x"], 0),  # a part of the suite is not held to the floors
        ((5, 0, 0), 1.0, ["-k", "x"], 0),  # and need not have tests in each part
        ((5, 5, 5), 1.0, ["-k", "x"], 0),
    ],
)
def test_the_status_is_that_of_all_parts_and_of_the_floors(
    monkeypatch: pytest.MonkeyPatch,
    statuses: tuple[int, int, int, int],
    percent: float,
    arguments: list[str],
    expected: int,
) -> None:

    def run(plan: whole.Plan, signals: whole.Signals) -> None:
        for part, status in zip(plan.parts(), statuses, strict=True):
            part.status = status

    monkeypatch.setattr(whole, "run", run)
    monkeypatch.setattr(whole, "covered", lambda: dict.fromkeys(whole.FLOORS, percent))
    monkeypatch.setattr(whole.Signals, "install", lambda self: None)
    assert whole.main(arguments) == expected


@pytest.mark.parametrize(("package", "floor"), whole.FLOORS.items())
def test_the_floors_are_those_that_a_contributor_reads(package: str, floor: int) -> None:
    assert f"`{package}/` {floor} %" in " ".join((TESTS.parent / "CONTRIBUTING.md").read_text("utf-8").split())
    assert re.search(rf"{package}/ \({floor} %", (TESTS.parent / "bootstrap").read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_after_an_interrupt_pytest_tidies_up_and_nothing_more_begins(tmp_path: Path, number: signal.Signals) -> None:
    waits = (
        "import pathlib, pytest, time\n@pytest.fixture\ndef host():\n    yield\n    pathlib.Path('tidy').touch()\n"
        "def test_waits(host):\n    pathlib.Path('begun').touch()\n    time.sleep(60)\n"
    )
    folder = project(tmp_path, waits, PASSES)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.whole"],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as child:  # fmt: skip
        wait_until((folder / "begun").exists, 60, what="the test")
        if number == signal.SIGINT:
            os.killpg(child.pid, number)  # as a terminal does
        else:
            child.send_signal(number)
        said, _ = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert (folder / "tidy").exists()
    assert said.count("test session starts") == 2, "nothing begins after the first two"
