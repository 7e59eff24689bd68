"""How fast tare's own code is: ``nox -s bench`` (pytest-benchmark). In the ordinary suite each runs once, untimed."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tare import reports
from tare.bench import experiments
from tare.bench.experiments import prepare
from tare.bench.experiments.start import Contract
from tare.bench.experiments.startup import start_and_stop
from tare.bench.host import run_cgroup, workspace
from tare.bench.host.interrupts import Interrupts
from tare.bench.records import store
from tare.bench.records.readiness import Mark
from tare.bench.records.resolved import Subject
from tare.bench.scenario import resolve
from tare.bench.stats import compare
from tare.runners import payload
from tare.runners.base import Launch, Scratch
from tare.runners.image.cache import cache_dir
from tests import cli
from tests.conftest import require
from tests.unit.reports.fixture import subject, write_run
from tests.unit.reports.ramps_fixture import LARGE, large


@pytest.fixture(params=["null", "process", "container"])
def launch(request: pytest.FixtureRequest) -> Iterator[Launch]:
    name = request.param
    if name == "container":
        require("root", os.geteuid() == 0, "this is not root")
    prefix = workspace.new_prefix()
    subject = Subject(
        label=name,
        runner=name,
        options={},
        payload=payload.Payload(),
        memory_bytes=128 << 20,
        cpus=1,
    )
    with ExitStack() as stack:
        scratch = stack.enter_context(workspace.scratch(prefix))
        opened = stack.enter_context(run_cgroup.opened(prefix))
        cgroup = opened.load if opened else None
        where = Scratch(directory=scratch, cache=cache_dir(), cgroup=cgroup, prefix=prefix)
        tried = prepare.try_subject(subject, prepare.images(where.cache), where, "0", stack)
        assert tried.ready is not None, tried.support.why
        yield tried.ready.prepared.launch


def test_weighing_one_start(benchmark: BenchmarkFixture, launch: Launch) -> None:
    """Request, ready, stop, removal: what one trial costs in all."""
    contract = Contract(ready=Mark(), timeout_s=30.0)
    with Interrupts() as interrupts:
        found = benchmark(lambda: start_and_stop(launch, "tare-speed-1", contract, interrupts=interrupts, cpu_ns=None))
    assert found.status == "ok"


def test_planning_a_thousand_rounds(benchmark: BenchmarkFixture) -> None:
    loaded = experiments.scenario(resolve.find("startup"), {"rounds": 1000})
    assert len(benchmark(experiments.plan, loaded).trials) == 5005


def test_comparing_twelve_rounds(benchmark: BenchmarkFixture) -> None:
    subject, reference = [10.0 + number / 10 for number in range(12)], [9.0 + number / 10 for number in range(12)]
    assert benchmark(compare.compare, subject, reference).verdict == "higher"


def test_loading_a_run(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    assert benchmark(store.load, path).samples


#: Runs of starts, as (subjects, rounds): seven numbers a start. A scenario may have 10 000 rounds at most.
STARTS = {"12 rounds": (3, 12), "a million numbers": (15, 9530)}
#: Runs of ramps, as (what there is very much of, experiment): a million numbers each.
RAMPS = {f"{experiment}, {shape}": (shape, experiment) for shape in LARGE for experiment in ("memory", "density")}


@pytest.fixture(params=[*STARTS, *RAMPS])
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if not request.config.getoption("benchmark_enable") and request.param != "12 rounds":
        pytest.skip("a million numbers are for nox -s bench")
    if request.param in RAMPS:
        return large(tmp_path / "run", *RAMPS[request.param])
    count, rounds = STARTS[request.param]
    runners = ("process", "container", "crun")
    subjects = [subject(runners[n % 3], f"{runners[n % 3]}-{n // 3}" if n > 2 else "") for n in range(count)]
    return write_run(tmp_path / "run", subjects, rounds=rounds)


@pytest.mark.parametrize("words", [["--json"], ["--output", "-"]], ids=["json", "page"])
def test_reporting_as_a_whole_process(benchmark: BenchmarkFixture, recorded: Path, words: list[str]) -> None:
    """``tare report``: imports, reading, statistics, drawing. Its largest memory is said beside the time."""
    done = benchmark(cli.tare, "report", recorded, *words)
    assert done.returncode == 0, done.stderr
    benchmark.extra_info["output_bytes"] = len(done.stdout)
    benchmark.extra_info["largest_child_kib"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def test_reporting_to_the_terminal(benchmark: BenchmarkFixture, recorded: Path) -> None:
    """What ends a run: reading, statistics, the tables and sentences."""
    assert benchmark(lambda: reports.render(reports.build(store.load(recorded))))
