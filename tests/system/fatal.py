"""A run that ends by SIGKILL, with the runtime that it has started: ``python -m tests.system.fatal RUNNER MOMENT``.

It works where a run of tare works: under the lock, in a run cgroup, in a scratch directory. It says its prefix and its
number, and starts one container. MOMENT is when all this dies:

- a name of :data:`runners.container.lifecycle.checkpoint.NAMES`: the runtime is killed there, and this process with it;
- ``probe``: the runtime is killed as it sets up the trial container of the probe, and this process with it;
- ``probed``: this process is killed while the trial container of the probe runs;
- ``running``: this process is killed, the container and its monitor live on;
- ``orphaned``: the monitor is killed and then this process, the container lives on;
- ``connected``: this process is killed, the container has a link to the bridge;
- ``never``: nothing dies, all ends in order once standard input does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import psutil

from tare import runners
from tare.bench.host import run_cgroup, workspace
from tare.runners import payload
from tare.runners.base import Instance, Runner, Scratch, Spec
from tare.runners.container.lifecycle import checkpoint
from tare.runners.container.network import bridge
from tare.runners.container.warm import leftovers, smallest_container
from tare.runners.image.cache import cache_dir
from tare.runners.image.rootfs import payload_root
from tare.runners.image.tree import plain


class Popen(subprocess.Popen[bytes]):
    """Where we learn that the runtime was killed, we are killed: what it left is not for us to remove."""

    def wait(self, timeout: float | None = None) -> int:
        status = super().wait(timeout)
        if status == -signal.SIGKILL:
            die()
        return status


def main(runner: Runner, moment: str) -> None:
    cache = cache_dir()
    root = payload_root(cache)
    prefix = workspace.new_prefix()
    with workspace.locked(), workspace.scratch(prefix) as directory, run_cgroup.opened(prefix) as opened:
        os.write(1, f"{prefix} {os.getpid()}".encode())
        if moment.startswith("probe"):
            probe(runner, moment, cache)
        spec = Spec(argv=payload.Payload().argv, image=plain(root), memory_bytes=1 << 26, cpus=1)
        place = Scratch(directory=directory, cache=cache, cgroup=opened.load if opened else None, prefix=prefix)
        with runner.prepare(spec, {}, place) as prepared:
            if moment in checkpoint.NAMES and moment != "delete:begin":
                kill_at(moment)
            with prepared.launch(f"{prefix}-1", lambda _: None) as instance:
                go_on(instance, moment, directory)


def go_on(instance: Instance, moment: str, directory: Path) -> None:
    """The container is made; return where its end is the moment."""
    (monitor,) = psutil.Process().children()
    if moment.startswith(("create:", "start:")):
        monitor.wait()
        die()
    assert smallest_container.await_word(instance.console, b"tare ready")
    if moment in ("running", "orphaned", "connected"):
        if moment == "orphaned":
            monitor.kill()
        elif moment == "connected":
            (first,) = instance.pids() - {monitor.pid}
            bridge.setup(first, os.fspath(directory / leftovers.mine() / "1"))
        die()
    if moment == "never":
        os.write(1, b" up")
        sys.stdin.read()
    elif moment == "delete:begin":  # the verb's alone, which the runner calls when a monitor has left something
        monitor.kill()
        monitor.wait()
        kill_at(moment)


def probe(runner: Runner, moment: str, cache: Path) -> None:
    with mock.patch.object(
        smallest_container, "await_word", die if moment == "probed" else smallest_container.await_word
    ):
        if moment == "probe":
            kill_at("create:ready")
        runner.probe({}, cache)


def kill_at(name: str) -> None:
    """From now on the runtime dies at *name*."""
    os.environ |= {"TARE_OCI_TEST": "1", "TARE_OCI_CRASH": name}


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    with mock.patch("subprocess.Popen", Popen):
        main(runners.load(sys.argv[1]), sys.argv[2])
