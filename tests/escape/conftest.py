"""The runtimes that the tricks are tried on: ours, and runc as the control (OCI_RUNTIME names others).

A trick that runc does not stop either proves nothing about ours: the test is wrong, or the trick is no trick.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oci import runtimes
from tests.oci.harness import OURS, Box, Runtime

NAMES = os.environ.get("OCI_RUNTIME", f"runc,{OURS}").split(",")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """inside, and trick."""
    directory = tmp_path_factory.mktemp("programs")
    sources = Path(runtimes.__file__).with_name("inside.c"), Path(__file__).with_name("trick.c")
    return runtimes.compiled(sources[0], directory), runtimes.compiled(sources[1], directory)


@pytest.fixture(scope="session", params=NAMES, ids=[Path(name).name for name in NAMES])
def runtime(request: pytest.FixtureRequest, programs: tuple[Path, Path]) -> Runtime:
    return runtimes.usable(str(request.param), programs[0])


@pytest.fixture
def box(request: pytest.FixtureRequest, runtime: Runtime, programs: tuple[Path, Path]) -> Iterator[Box]:
    """A container with docker's capabilities and masks, and no filter: the other walls must hold without."""
    inside, trick = programs
    with runtimes.box(runtime, inside, check=not runtimes.deviates(request, runtime)) as made:
        shutil.copy(trick, made.rootfs / "bin" / "trick")
        yield made
