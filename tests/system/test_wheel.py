"""The wheel in somebody's environment: one name among the modules, and a user's own `bench` is left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests import cli

pytestmark = pytest.mark.system

OURS = ("bench", "reports", "runners", "scenarios")


def run(*words: str | Path, cwd: Path) -> str:
    clean = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist")
    words = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", place, cli.ROOT)
    run(sys.executable, "-m", "pip", *words, cwd=place)
    (found,) = place.glob("tarebench-*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel. What it depends on is this one's: its links to the checkout do not count."""
    place = tmp_path_factory.mktemp("some one") / "env"
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=place.parent)
    install = ("--python", place, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", "pip", *install, cwd=place.parent)
    (packages,) = place.glob("lib/python3*/site-packages")
    # A line of a .pth file is a directory to import from; .pth files in that directory are not read (site).
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return place


@pytest.fixture
def users(tmp_path: Path) -> Path:
    """A directory in which a user has modules of the same names."""
    for name in OURS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"OWNER = 'the user of {name}'\n", encoding="utf-8")
    return tmp_path


def test_one_name_is_all_that_it_puts_among_the_modules(wheel: Path) -> None:
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.startswith("tarebench-")} == {"tare"}


def test_everything_of_the_checkout_is_in_it(wheel: Path) -> None:
    """Nothing twice, nothing less: a folder that is new here must not be forgotten there."""
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("tare/")}
    tracked = run("git", "ls-files", *OURS, "tare/*.py", cwd=cli.ROOT).splitlines()
    assert held == {name if name.startswith("tare/") else f"tare/{name}" for name in tracked}


def test_a_users_modules_of_the_same_names_are_their_own(environment: Path, users: Path) -> None:
    code = f"import tare.bench.engine, tare.reports; print(*(__import__(n).OWNER for n in {OURS}), sep='; ')"
    said = run(environment / "bin" / "python", "-c", code, cwd=users)
    assert said.strip() == "; ".join(f"the user of {name}" for name in OURS)
    code = f"import importlib.util as u; print([n for n in {OURS} if u.find_spec(n)])"
    assert run(environment / "bin" / "python", "-c", code, cwd=environment).strip() == "[]"


def test_quick_runs_beside_them(environment: Path, users: Path) -> None:
    tare = environment / "bin" / "tare"
    run(tare, "run", "quick", "--rounds", "1", "--results", users / "runs", cwd=users)
    (found,) = (users / "runs").iterdir()
    page = run(tare, "report", found, cwd=users).strip()
    assert "<svg" in Path(page).read_text(encoding="utf-8")
    assert '"container"' in run(tare, "report", "--json", found, cwd=users)


def test_its_runtime_runs_beside_them(environment: Path, users: Path) -> None:
    runtime = environment / "bin" / "tare-oci"
    assert run(runtime, "--version", cwd=users).startswith("tare-oci version ")
    place = run(environment / "bin" / "python", "-c", "import tare; print(tare.__file__)", cwd=users)
    assert place.startswith(os.fspath(environment))
