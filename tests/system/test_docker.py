"""docker with our runtime: ``dockerd --add-runtime tare=tare-oci``. ``OCI_RUNTIME=runc`` makes it the control.

The daemon is the test's own: its directories, its socket, no bridge and no firewall rule; it is stopped at the end.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require, wait_until
from tests.oci import runtimes
from tests.oci.harness import OURS
from tests.system.engines import DEADLINE_S, IMAGE, Engine, EngineContract, LimitsContract, image


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    for name in ("dockerd", "docker"):
        require("docker", shutil.which(name), f"no {name} on PATH")
    inside = runtimes.compiled(Path(runtimes.__file__).with_name("inside.c"), tmp_path_factory.mktemp("programs"))
    ours = runtimes.usable(OURS, inside)
    word = f"tare-docker-{secrets.token_hex(3)}"
    directory = Path("/tmp", word)  # short: sockets below it have names of 108 bytes at most
    directory.mkdir()
    socket = f"unix://{directory}/s"
    words = [
        *("dockerd", "--host", socket, "--data-root", os.fspath(directory / "data"), "--storage-driver", "vfs"),
        *("--exec-root", os.fspath(directory / "exec"), "--pidfile", os.fspath(directory / "pid")),
        *("--bridge=none", "--iptables=false", "--ip6tables=false", "--add-runtime", f"tare={ours.binary}"),
    ]
    made = Engine(command=("docker", "--host", socket), run_options=("--network", "none"), word=word, cwd=directory)
    with (directory / "log").open("wb") as log:
        running = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: running.poll() is not None or made.call("version").returncode == 0, DEADLINE_S)
        said = (directory / "log").read_text(errors="replace").strip().splitlines()[-1:]
        require("docker", running.poll() is None, f"dockerd ended: {said}")
        done = made.call("import", os.fspath(image(directory, inside)), IMAGE)
        assert done.returncode == 0, done.stderr
        yield made
        for name in made.call("ps", "--all", "--quiet").stdout.split():
            made.call("rm", "--force", name)
    finally:
        running.terminate()
        try:
            running.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module", params=os.environ.get("OCI_RUNTIME", OURS).split(","))
def engine(request: pytest.FixtureRequest, daemon: Engine) -> Engine:
    return Engine(
        command=daemon.command,
        run_options=(*daemon.run_options, "--runtime", "tare" if request.param == OURS else str(request.param)),
        word=f"{daemon.word}-{request.param}",
        cwd=daemon.cwd,
    )


class TestDocker(EngineContract, LimitsContract):
    """Every test of both contracts."""
