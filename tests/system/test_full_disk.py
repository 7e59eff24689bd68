"""A disk that is full, a run of another user: what was measured can be read, nothing half-written stays."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tare.bench.errors import OutputError
from tare.bench.records import run_writer, store
from tare.bench.records.header import RunHeader
from tests import cli
from tests.conftest import require
from tests.unit.bench.records.test_store import HEADER, outcome, sample
from tests.unit.reports import fixture

NOBODY = 65534
SCENARIO = """
schema = 1
question = "What is left of a run whose disk becomes full?"
[run]
rounds = {rounds}
[[subjects]]
label = "process"
runner = "process"
[[subjects]]
label = "slow"
runner = "process"
delay_ms = 1
"""


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root", os.geteuid() == 0, "this is not root")


class Disk:
    """A tmpfs of a size that can be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def size(self, kib: int, *, again: bool = True) -> None:
        options = f"{'remount,' if again else ''}size={kib}k,nr_inodes=1000"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.path], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk")
    made.size(64, again=False)
    yield made
    subprocess.run(["umount", made.path], check=True)


def hidden(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.name.startswith(".")]


def fill(path: Path) -> None:
    """Take all the room that is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - the end that is wanted


def write(path: Path, header: RunHeader, written: list[str]) -> None:
    """A run as the engine writes it, until the disk is full; *written* gets the trials that were."""
    with run_writer.RunWriter(path) as writer:
        writer.header(header)
        try:
            writer.manifest("process", {"config.json": "x" * 8000})
            for number in range(10_000):
                name = f"t{number}"
                writer.trial([sample(name, float(number), metric) for metric in METRICS], outcome(name))
                written.append(name)
        finally:
            ended = "2026-01-01T00:00:00+00:00"
            writer.header(msgspec.structs.replace(header, state="failed", finished_at=ended))


@pytest.mark.parametrize("kib", range(4, 68, 4))
def test_wherever_a_disk_becomes_full_what_was_written_is_whole(disk: Disk, kib: int) -> None:
    """The header, a manifest, a row, the end of the header: one of them is the first that has no room."""
    disk.size(kib)
    plan = tuple(fixture._plan(["process"], 30, 0, random.Random(1)))
    header = msgspec.structs.replace(HEADER, plan=plan)
    path = run_writer.create(disk.path, "run")
    written: list[str] = []
    with pytest.raises(OutputError, match="cannot write"):
        write(path, header, written)
    assert not hidden(disk.path)
    if not path.exists():
        return  # no room for the first header: there is no run
    loaded = store.load(path)
    assert (loaded.header.state, loaded.header.plan) == ("failed", plan)
    assert loaded.notes == ()
    assert len(loaded.samples) == len(METRICS) * len(loaded.outcomes)
    assert [row.trial for row in loaded.outcomes] == written
    disk.size(1024)
    run_writer.trim(path)
    with run_writer.RunWriter(path) as writer:
        writer.trial([sample("more", 1.0)], outcome("more"))
        writer.header(msgspec.structs.replace(header, state="complete"))
    assert store.load(path).header.state == "complete"
    assert len(store.load(path).outcomes) == len(written) + 1


METRICS = ("created_seconds", "first_seconds", "ready_seconds", "stopped_seconds", "removed_seconds", "cpu_seconds")


def test_a_run_on_a_full_disk_is_failed_reportable_and_goes_on(disk: Disk, tmp_path: Path) -> None:
    file = tmp_path / "full.toml"
    file.write_text(SCENARIO.format(rounds=40))
    done = cli.tare("run", file, "--results", disk.path)
    (run,) = store.runs(disk.path)
    assert (done.returncode, done.stdout) == (74, "")
    assert "No space left on device" in done.stderr
    assert f"`tare run --resume {run}`" in done.stderr
    loaded = store.load(run)
    assert loaded.header.state == "failed"
    assert 5 < len(loaded.outcomes) < 82
    assert not hidden(disk.path)
    assert "failed" in cli.tare("list", "--runs", "--results", disk.path).stdout
    # The page finds no room either, beside the run; elsewhere it does.
    fill(disk.path / "filler")
    assert cli.tare("report", run).returncode == 74
    assert not hidden(disk.path)
    assert not (run / "report.html").exists()
    assert cli.tare("report", run, "-o", tmp_path / "page.html").returncode == 0
    (disk.path / "filler").unlink()
    disk.size(4096)
    assert cli.tare("run", "--resume", run).stdout == f"{run}\n"
    assert store.load_header(run).state == "complete"
    assert len(store.load(run).outcomes) == 82


@pytest.fixture
def results() -> Iterator[Path]:
    """A directory that every user may reach; pytest's own is root's alone."""
    path = Path(tempfile.mkdtemp(prefix="edge-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def as_nobody(*words: str | Path) -> subprocess.CompletedProcess[str]:
    closed = [path for path in (cli.ROOT, *cli.ROOT.parents) if not path.stat().st_mode & 1]
    require("reachable", not closed, f"{' '.join(map(str, closed))}: another user may not enter it")
    # Not measured for coverage: that user may not write where its data are kept.
    env = {name: value for name, value in cli.environment().items() if not name.startswith("COV")}
    done = subprocess.run(
        cli.command(*words), capture_output=True, text=True, cwd="/", env={**env, "HOME": "/nonexistent"},
        user=NOBODY, group=NOBODY, extra_groups=[], check=False, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def test_another_users_run_is_listed_and_said_to_be_unreadable(results: Path) -> None:
    mine = fixture.write_run(results / "20260203T101112Z-startup-1a2b")
    hers = fixture.write_run(results / "20260203T111112Z-startup-3c4d")
    other = results / "lost+found"
    other.mkdir(mode=0o700)
    hers.chmod(0o700)
    done = as_nobody("list", "--runs", "--results", results)
    assert [line.split("\t")[1::2] for line in done.stdout.splitlines()] == [
        ["complete", str(mine)], ["unreadable", str(hers)],
    ]  # fmt: skip
    assert "Permission denied" in done.stderr
    file = hers / "run.json"
    for words in (
        ("report", hers), ("report", file), ("report", mine, hers), ("report", "latest", "--results", results),
        ("compare", mine, hers), ("run", "--resume", hers), ("pack", hers), ("pack", hers / "none.zip"),
    ):  # fmt: skip
        done = as_nobody(*words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert f"{hers}" in done.stderr
        assert "Permission denied" in done.stderr
    page = as_nobody("index", results, "-o", "-")
    assert (page.returncode, "1 run of 1 scenario" in page.stdout, str(hers.name) in page.stdout) == (0, True, True)
    (mine / "samples.jsonl").chmod(0o600)
    assert f"cannot read {mine}/samples.jsonl" in as_nobody("report", mine).stderr


def test_a_page_that_may_not_be_written_can_be_written_elsewhere(results: Path) -> None:
    run = fixture.write_run(results / "20260203T101112Z-startup-1a2b")
    done = as_nobody("report", run)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Permission denied" in done.stderr
    assert as_nobody("report", run, "-o", "-").stdout.startswith("<!doctype html>")
    assert not hidden(run)


def test_files_and_places_that_may_not_be_read_or_written_are_bad_input(results: Path) -> None:
    (results / "secret.toml").write_text("")
    (results / "secret.toml").chmod(0o600)
    assert "Permission denied" in as_nobody("plan", results / "secret.toml").stderr
    (results / "closed").mkdir(mode=0o700)
    for words in (("plan", "closed/x.toml"), ("list", "--runs", "--results", "closed"), ("report", "closed/run")):
        done = as_nobody(*words[:-1], results / words[-1])
        assert (done.returncode, done.stdout) == (2, "")
        assert "Permission denied" in done.stderr
