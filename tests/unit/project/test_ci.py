"""Continuous integration, and the hooks before a commit: what they run is what was looked at."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import TESTS

ROOT = TESTS.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
USES = [
    (path.name, line.strip()) for path in WORKFLOWS for line in path.read_text("utf-8").splitlines() if "uses:" in line
]


def test_there_are_actions() -> None:
    assert len(USES) > 2


@pytest.mark.parametrize(("workflow", "line"), USES)
def test_every_action_is_pinned_to_a_commit_and_says_its_version(workflow: str, line: str) -> None:
    """A tag can be moved to other code; the code of a commit is what it was when somebody looked at it."""
    assert re.fullmatch(r"- uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)


def test_an_action_has_one_version() -> None:
    pinned = {tuple(line.split("uses: ")[1].split("@", 1)) for _, line in USES}
    assert len(pinned) == len({name for name, _ in pinned})


def test_the_fast_loop_is_held_to_what_is_promised_of_it() -> None:
    """A job in which there is neither root, nor libvirt, nor a compiler; see CONTRIBUTING.md."""
    job = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8").split("\n  fast:\n")[1].split("\n\n")[0]
    for word in ("rm --force", "command -v cc gcc clang", "id -u", "import libvirt", "nox --session fast --no-install"):
        assert word in job


def test_the_hooks_before_a_commit_use_the_tools_of_the_project() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert re.findall(r"repo: (\S+)", text) == ["local"]
    entries = [entry.split()[0] for entry in re.findall(r"entry: (.+)", text)]
    assert entries == [".venv/bin/ruff", ".venv/bin/ruff", ".venv/bin/mypy", "shellcheck"]


@pytest.mark.parametrize("tool", ["ruff", "mypy"])
def test_what_judges_the_code_is_pinned(tool: str) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert [word for word in settings["project"]["optional-dependencies"]["dev"] if word.startswith(f"{tool}==")]


def test_pre_commit_can_read_its_configuration() -> None:
    program = Path(sys.executable).with_name("pre-commit")
    found = str(program) if program.exists() else shutil.which("pre-commit")
    if not found:
        pytest.skip("needs pre-commit: pip install -e '.[dev]'")
    done = subprocess.run(
        [found, "validate-config", ROOT / ".pre-commit-config.yaml"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
