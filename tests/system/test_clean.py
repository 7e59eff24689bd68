"""kill -9 of a container's runtime at any moment, and of the run that it works for: ``tare clean`` leaves nothing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tare import runners
from tare.bench.host import audit, workspace
from tare.runners.container.lifecycle.checkpoint import NAMES
from tare.runners.container.network import bridge as networking
from tare.runners.image.cache import cache_dir
from tests import cli
from tests.conftest import require
from tests.oci import leftovers

COLD = "container-cold"
Words = tuple[str, ...]


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root", os.geteuid() == 0, "this is not root")


def command(runner: str, moment: str) -> list[str]:
    return [sys.executable, "-m", "tests.system.fatal", runner, moment]


def killed(runner: str, moment: str) -> Words:
    """A run that died at *moment*."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complaint:  # not pipes: others hold them, too
        done = subprocess.run(
            command(runner, moment), stdout=said, stderr=complaint, cwd=cli.ROOT, env=cli.environment(), check=False
        )
        said.seek(0)
        complaint.seek(0)
        assert done.returncode == -signal.SIGKILL, f"it did not die at {moment}: {complaint.read().decode()}"
        return words_of(runner, said.read().decode())


def words_of(runner: str, said: str) -> Words:
    """The words that all of a run can be known by; *said* is what it says first."""
    prefix, pid = said.split()
    return prefix, f"tare-owner-{pid}", f"tare-probe-{runner}-{pid}", f"tare-trial-{pid}-"


def left(words: Words) -> list[str]:
    """Everything on this host that bears one of *words*; a thing may be named twice."""
    found = [each for word in words for each in leftovers.leftovers(word)]
    for directory in (workspace.base(), Path(tempfile.gettempdir())):
        found += [f"directory {path}" for path in directory.iterdir() if path.name.startswith(words)]
    return found + [f"lease {name}" for name in networking.names() if any(word in name for word in words)]


def network(pid: int) -> int:
    """The number of the network namespace of process *pid*; 0 if that has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    return 0


@contextmanager
def held(pids: Iterable[int]) -> Iterator[set[int]]:
    """The numbers of the network namespaces of *pids* but for ours; the kernel gives none of them again meanwhile."""
    with ExitStack() as stack:
        for pid in pids:
            with suppress(OSError):
                stack.enter_context(Path(f"/proc/{pid}/ns/net").open("rb"))
        yield {network(pid) for pid in pids} - {0, network(os.getpid())}


def links() -> list[str]:
    return sorted(name for _, name in socket.if_nameindex())


def cleaned(words: Words) -> None:
    """Clean, and see that nothing is left of what there was."""
    assert left(words), "there was nothing to clean"
    theirs = {pid for word in words for pid, _ in leftovers.processes(word)}
    with held(theirs) as namespaces:
        done = cli.tare("clean")
        assert done.returncode == 0, done.stderr
        assert leftovers.settled(lambda: left(words)) == []
        everyone = {network(int(entry)) for entry in os.listdir("/proc") if entry.isdigit()}
    assert not namespaces & everyone
    assert cli.tare("clean").stdout == ""


@pytest.mark.parametrize("moment", [*NAMES, "running", "orphaned", "probe", "probed"])
def test_nothing_is_left_of_our_runtime(moment: str) -> None:
    before = links()
    cleaned(killed(COLD, moment))
    assert links() == before


def test_nothing_is_left_of_a_link_to_the_bridge() -> None:
    before = links()
    words = killed(COLD, "connected")
    assert links() != before
    cleaned(words)
    assert links() == before


@pytest.mark.parametrize("name", ["crun", "runc"])
@pytest.mark.parametrize("moment", ["running", "orphaned", "probed"])
def test_nothing_is_left_of_another_runtime(name: str, moment: str) -> None:
    support = runners.load(name).probe({}, cache_dir())
    require(name, support.ok, support.why)
    cleaned(killed(name, moment))


@pytest.mark.parametrize("moment", ["create:hooks", "start:end", "orphaned"])
def test_the_sweep_of_the_runner_ends_containers_wherever_they_are(moment: str) -> None:
    """By their root, not by the cgroup of a run: there may be none."""
    words = killed(COLD, moment)
    try:
        runners.load(COLD).sweep()
        kinds = ("process", "mount")
        assert leftovers.settled(lambda: [each for each in left(words) if each.startswith(kinds)]) == []
    finally:
        cli.tare("clean")


def test_what_a_live_run_owns_is_not_swept() -> None:
    with subprocess.Popen(
        command(COLD, "never"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cli.ROOT, env=cli.environment()
    ) as live:
        assert live.stdout is not None
        said = b""
        while not said.endswith(b" up"):
            part = live.stdout.read(1)
            assert part, "it ended"
            said += part
        words = words_of(COLD, said.decode().removesuffix(" up"))
        before = left(words)
        runners.load(COLD).sweep()
        assert left(words) == before != []
        live.communicate(timeout=60)
    assert live.returncode == 0
    assert left(words) == []


def test_what_is_made_where_no_cgroup_hierarchy_is() -> None:
    """crun makes a cgroup's path in a plain directory, too: it is told as a leak, and removed; what is beside stays."""
    top = Path("/sys/fs/cgroup")
    if (top / "cgroup.controllers").exists():
        pytest.skip("this host has v2 alone, and nothing beside it")
    plain = top / "tare-test-plain"
    ours, others = plain / "tare-0123ab/load/i1", plain / "someone/else"
    probe = plain / f"tare-probe-crun-{_dead()}"
    try:
        for directory in (ours, others, probe):
            directory.mkdir(parents=True)
            (directory / "cgroup.procs").write_text("1\n")
        assert set(audit._cgroups("tare-0123ab")) == {str(plain / path) for path in ("tare-0123ab", *LOAD)}
        done = cli.tare("clean")
        assert f"{plain}/tare-0123ab" in done.stdout, done
        assert str(probe) in done.stdout, done
        assert [path.name for path in plain.iterdir()] == ["someone"]
        assert (others / "cgroup.procs").exists()
    finally:
        shutil.rmtree(plain)


LOAD = ("tare-0123ab/load", "tare-0123ab/load/i1")


def _dead() -> int:
    """The number of a process that has ended."""
    return int(subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout)
