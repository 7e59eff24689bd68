"""The fixtures of the conformance suite: each test runs against every runtime, or those that OCI_RUNTIME names.

::

    pytest tests/oci                                   crun, runc and tare-oci, one after another
    OCI_RUNTIME=runc pytest tests/oci                  one of them
    OCI_RUNTIME=/usr/local/bin/youki pytest tests/oci  any other program with the same commands

crun and runc are there to prove the tests: a test that they do not pass says something about itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oci import runtimes
from tests.oci.harness import OURS, Box, Runtime

NAMES = os.environ.get("OCI_RUNTIME", f"crun,runc,{OURS}").split(",")
SOURCE = Path(__file__).with_name("inside.c")


@pytest.fixture(scope="session")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static program that tests run in their containers."""
    return runtimes.compiled(SOURCE, tmp_path_factory.mktemp("inside"))


@pytest.fixture(scope="session", params=NAMES, ids=[Path(name).name for name in NAMES])
def runtime(request: pytest.FixtureRequest, inside: Path) -> Runtime:
    """A runtime that can run a container here; ours must be able to."""
    return runtimes.usable(str(request.param), inside)


@pytest.fixture(scope="session")
def ours(inside: Path) -> Runtime:
    return runtimes.usable(OURS, inside)


@pytest.fixture
def box(request: pytest.FixtureRequest, runtime: Runtime, inside: Path) -> Iterator[Box]:
    """A bundle for the runtime under test; whatever the test did, nothing may be left at its end."""
    with runtimes.box(runtime, inside, check=not runtimes.deviates(request, runtime)) as made:
        yield made


@pytest.fixture
def our_box(ours: Runtime, inside: Path) -> Iterator[Box]:
    """The same for tests that are about our runtime alone."""
    with runtimes.box(ours, inside) as made:
        yield made
