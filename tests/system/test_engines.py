"""podman, docker and containerd, where something goes wrong: an outcome with a reason, and nothing is left."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tare import runners
from tare.bench.host import audit, run_cgroup, workspace
from tare.bench.records import store
from tare.runners.base import Instance, Prepared, RunnerError, Scratch, Spec
from tare.runners.container.warm import leftovers, smallest_container
from tare.runners.engines.common import engine_place
from tare.runners.image import sources
from tare.runners.image.cache import cache_dir
from tare.runners.launch import monitored
from tare.runners.payload import Payload
from tests import cli
from tests.conftest import require, wait_until

#: Engine -> the options with which it works on every host that has it.
OPTIONS = {"podman": {"runtime": "runc"}, "docker": {}, "containerd": {}}
ENGINES = sorted(OPTIONS)
DAEMONS = {"docker": "dockerd", "containerd": "containerd"}
SCENARIO = """
schema = 1
question = "What becomes of a run whose daemon dies?"
[run]
rounds = 3
warmup = 0
timeout_s = 20
[[subjects]]
label = "process"
runner = "process"
[[subjects]]
label = "engine"
runner = "{engine}"
delay_ms = 2000
"""


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root", os.geteuid() == 0, "this is not root")


@dataclass(frozen=True)
class Place:
    """One run's worth of place."""

    engine: str
    scratch: Scratch

    @contextmanager
    def prepared(self, image: str = sources.PAYLOAD) -> Iterator[Prepared]:
        runner = runners.load(self.engine)
        found = runner.probe(OPTIONS[self.engine], cache_dir())
        require(self.engine, found.ok, found.why)
        spec = Spec(
            argv=Payload().argv, image=sources.find(image, cache_dir()), memory_bytes=128 << 20, cpus=1
        )  # fmt: skip
        directory = self.scratch.directory / "0"
        directory.mkdir()
        where = Scratch(
            directory=directory, cache=self.scratch.cache, cgroup=self.scratch.cgroup, prefix=self.scratch.prefix
        )
        with runner.prepare(spec, OPTIONS[self.engine], where) as ready:
            yield ready

    @contextmanager
    def started(self, prepared: Prepared) -> Iterator[Instance]:
        with prepared.launch(f"{self.scratch.prefix}-1", lambda _: None) as instance:
            assert smallest_container.await_word(instance.console, b"tare ready"), instance.explain()
            yield instance


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Of each engine; at the end nothing of it may be left on the host."""
    prefix = workspace.new_prefix()
    with workspace.scratch(prefix) as scratch, run_cgroup.opened(prefix) as group:
        where = Scratch(directory=scratch, cache=cache_dir(), cgroup=group.load if group else None, prefix=prefix)
        before = audit.take(prefix, scratch)
        yield Place(str(request.param), where)
        leaks = audit.difference(before, audit.take(prefix, scratch), str)
        assert not leaks, "\n".join(f"{leak.kind}: {leak.name}" for leak in leaks)


def test_the_start_in_two_figures(place: Place) -> None:
    """The OCI runtime's own share is a part of the whole, and the engine is the rest."""
    with place.prepared() as prepared:
        assert prepared.share is not None
        assert bool(prepared.daemon_pids) == (place.engine in DAEMONS)
        import time

        began = time.monotonic_ns()
        with prepared.share() as share, place.started(prepared) as instance:
            ready = time.monotonic_ns()
            share_s = share(instance, ready)
            assert share_s is not None
            assert 0.001 < share_s < (ready - began) / 1e9


def test_a_command_beside_it(place: Place) -> None:
    with place.prepared() as prepared, place.started(prepared) as instance:
        words = list(instance.command(Payload(exit_code=5).argv))
        done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert "tare ready" in done.stdout, done.stderr
        assert done.returncode == 5
        pid = instance.address().pid
        assert pid is not None
        assert Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def test_an_image_that_went_meanwhile_is_a_reason(place: Place) -> None:
    with place.prepared() as prepared:
        argv = shlex.split(prepared.manifest["argv.txt"])
        verb = argv.index("run")
        image = next(word for word in argv if word.startswith("localhost/"))
        remove = {"podman": ("rmi", "--force"), "docker": ("image", "rm", "--force"), "containerd": ("images", "rm")}
        subprocess.run([*argv[:verb], *remove[place.engine], image], check=True, stdout=subprocess.DEVNULL)
        with pytest.raises(RunnerError, match="made no container") as caught, place.started(prepared):
            pass
        assert image in caught.value.why or "image" in caught.value.why


@pytest.mark.parametrize("place", sorted(DAEMONS), indirect=True)
def test_a_daemon_that_dies_takes_its_container_with_it_and_is_named(place: Place) -> None:
    pids: frozenset[int] = frozenset()

    def lose(prepared: Prepared) -> None:
        nonlocal pids
        with place.started(prepared) as instance:
            pids = instance.pids()
            (daemon,) = prepared.daemon_pids & monitored.named({DAEMONS[place.engine]})
            os.kill(daemon, signal.SIGKILL)
            wait_until(lambda: not leftovers.alive(daemon), 30)

    with place.prepared() as prepared:
        with pytest.raises(RunnerError, match="has ended"):
            lose(prepared)
        assert pids
        assert not [pid for pid in pids if leftovers.alive(pid)]
        with pytest.raises(RunnerError, match="has ended"), place.started(prepared):
            pass


@pytest.mark.parametrize("engine", sorted(DAEMONS))
def test_a_run_whose_daemon_dies_goes_on_and_is_clean(engine: str, tmp_path: Path) -> None:
    found = runners.load(engine).probe(OPTIONS[engine], cache_dir())
    require(engine, found.ok, found.why)
    file = tmp_path / "scenario.toml"
    file.write_text(SCENARIO.format(engine=engine))
    words = cli.command("run", file, "--results", tmp_path / "runs")
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes, env=cli.environment()) as run:
        killer = threading.Thread(target=_kill_in_a_trial, args=(engine, run.pid))
        killer.start()
        out, said = run.communicate(timeout=180)
        killer.join()
    assert run.returncode == 1, said
    loaded = store.load(Path(out.strip()))
    ended = {name: [one for one in loaded.outcomes if one.subject == name] for name in ("process", "engine")}
    assert [one.status for one in ended["process"]] == ["ok"] * 3
    assert "failed" in [one.status for one in ended["engine"]]
    assert all("ended" in one.reason for one in ended["engine"] if one.status != "ok"), ended["engine"]
    assert loaded.header.leaks == ()


def _kill_in_a_trial(engine: str, run: int) -> None:
    """Kill the run's own daemon when a container of it runs: not that of the probe, and not while it is prepared."""

    def running() -> int:
        for pid in monitored.named({DAEMONS[engine]}):
            if not monitored.descends(pid, run):  # another test's
                continue
            with suppress(OSError):
                prefix = re.search(r"/(tare-[0-9a-f]{6})-", Path(f"/proc/{pid}/cmdline").read_text())
                inside = [Path(f"/proc/{one}/cgroup").read_text() for one in monitored.named({"payload"})]
                if prefix and any(f"/{prefix[1]}/load/" in text for text in inside):
                    return pid
        return 0

    os.kill(wait_until(running, 120), signal.SIGKILL)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_disk_that_is_full_while_the_image_is_loaded_is_a_reason(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = runners.load(engine).probe(OPTIONS[engine], cache_dir())
    require(engine, found.ok, found.why)
    tree = tmp_path / "image"
    tree.mkdir()
    (tree / "large").write_bytes(os.urandom(64 << 20))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", small], check=True)
    try:
        monkeypatch.setenv("TMPDIR", os.fspath(small))
        (tmp_path / "0").mkdir()
        scratch = Scratch(directory=tmp_path / "0", cache=tmp_path / "cache", cgroup=None, prefix="tare-full")
        spec = Spec(argv=("/large",), image=sources.find(f"dir:{tree}", scratch.cache), memory_bytes=1 << 26, cpus=1)
        with pytest.raises(RunnerError) as caught, runners.load(engine).prepare(spec, OPTIONS[engine], scratch):
            pass
        assert "no space left on device" in caught.value.why
        assert caught.value.fix.startswith(f"make room in {small}")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


KILLED = """
import os, signal, sys
from pathlib import Path
from tare import runners
from tare.runners.base import Scratch, Spec
from tare.runners.image import sources
from tare.runners.image.cache import cache_dir
from tare.runners.payload import Payload
engine, options, directory = sys.argv[1], eval(sys.argv[2]), Path(sys.argv[3])
scratch = Scratch(directory=directory, cache=cache_dir(), cgroup="tare-0a1b2c/load", prefix="tare-0a1b2c")
spec = Spec(argv=Payload().argv, image=sources.find("payload", cache_dir()), memory_bytes=1 << 26, cpus=1)
with runners.load(engine).prepare(spec, options, scratch) as prepared, prepared.launch("tare-0a1b2c-1", print) as one:
    print(*one.pids(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_killed_run_left_is_swept(engine: str, tmp_path: Path) -> None:
    found = runners.load(engine).probe(OPTIONS[engine], cache_dir())
    require(engine, found.ok, found.why)
    (tmp_path / "0").mkdir()
    words = [sys.executable, "-c", KILLED, engine, repr(OPTIONS[engine]), os.fspath(tmp_path / "0")]
    with (tmp_path / "said").open("wb") as said:
        done = subprocess.run(words, stdout=said, stderr=said, env=cli.environment(), check=False)
    assert done.returncode == -signal.SIGKILL, (tmp_path / "said").read_text()
    pids = [int(word) for word in (tmp_path / "said").read_text().split() if word.isdigit()]
    assert pids
    removed = list(runners.load(engine).sweep())
    assert [name for name in removed if f"-{engine}-" in name], removed
    assert list(engine_place.base().glob("tare-0a1b2c-*")) == []
    wait_until(lambda: not any(map(leftovers.alive, pids)), 30, what=f"{pids} are gone")
    assert "/tare-0a1b2c-" not in Path("/proc/self/mountinfo").read_text()
    run_cgroup.remove("tare-0a1b2c")
    assert list(runners.load(engine).sweep()) == []
