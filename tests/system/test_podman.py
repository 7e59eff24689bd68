"""podman with our runtime: ``podman --runtime tare-oci run ...``. ``OCI_RUNTIME=runc`` makes it the control."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.oci import runtimes
from tests.oci.harness import OURS
from tests.system.engines import IMAGE, Engine, EngineContract, image


@pytest.fixture(scope="module", params=os.environ.get("OCI_RUNTIME", OURS).split(","))
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    for name in ("podman", "conmon"):
        require("podman", shutil.which(name), f"no {name} on PATH")
    programs = tmp_path_factory.mktemp("programs")
    inside = runtimes.compiled(Path(runtimes.__file__).with_name("inside.c"), programs)
    runtime = runtimes.usable(str(request.param), inside)
    word = f"tare-podman-{secrets.token_hex(3)}"
    directory = Path("/tmp", word)  # short: sockets below it have names of 108 bytes at most
    directory.mkdir()
    try:
        made = Engine(
            command=(
                "podman",
                *("--root", os.fspath(directory / "root"), "--runroot", os.fspath(directory / "run")),
                *("--tmpdir", os.fspath(directory / "tmp"), "--storage-driver", "vfs", "--events-backend", "file"),
                *("--cgroup-manager", "cgroupfs", "--runtime", runtime.binary),
            ),
            # podman asks for limits above this host's, which takes CAP_SYS_RESOURCE.
            run_options=("--network", "none", "--ulimit", "nofile=1000:1000", "--ulimit", "nproc=4000:4000"),
            word=word,
            cwd=directory,
        )
        done = made.call("import", os.fspath(image(directory, inside)), IMAGE)
        require("podman", done.returncode == 0, f"podman import: {done.stderr.strip()}")
        yield made
    finally:
        subprocess.run([*made.command, "rm", "--all", "--force", "--time", "0"], capture_output=True, check=False)
        shutil.rmtree(directory, ignore_errors=True)


class TestPodman(EngineContract):
    """Every test of the contract."""
