"""Our C files compile without a warning. A warning is an error here, and not on users' machines."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tare.runners import payload
from tests.conftest import TESTS, require

ROOT = TESTS.parent
SOURCES = sorted(
    str(path.relative_to(ROOT))
    for folder in ("bench", "reports", "runners", "tests")
    for path in (ROOT / folder).rglob("*.c")
)
FLAGS = ("-c", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11")
#: What a file is compiled with besides, where it is used.
MORE = {"tests/oci/bare.c": ("-ffreestanding",)}


@pytest.mark.compiler
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_compiler_warns(compiler: str, tmp_path: Path) -> None:
    found = shutil.which(compiler)
    require(compiler, found, f"no {compiler} on PATH")
    said = {}
    for source in SOURCES:
        command = [str(found), *FLAGS, *MORE.get(source, ()), "-o", str(tmp_path / "object"), str(ROOT / source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        said[source] = (done.returncode, done.stderr)
    assert said == dict.fromkeys(SOURCES, (0, ""))


def test_a_warning_stops_no_user() -> None:
    """A newer compiler knows more warnings."""
    assert not [flag for flag in payload.FLAGS if flag.startswith("-Werror")]


def test_they_are_found() -> None:
    assert {"runners/payload/payload.c", "tests/floor/floor.c"} <= set(SOURCES)
