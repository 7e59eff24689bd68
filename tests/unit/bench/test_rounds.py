"""Rounds are added until every figure is precise, and the header says how that came about."""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from tare import reports
from tare.bench import engine, experiments
from tare.bench.errors import UsageError
from tare.bench.experiments.base import Experiment, Session
from tare.bench.experiments.prepare import Ready
from tare.bench.experiments.trial import Reading, TrialResult
from tare.bench.host import run_cgroup, workspace
from tare.bench.monitor import Silent
from tare.bench.readings.others import Others
from tare.bench.records import store
from tare.bench.records.header import Precision
from tare.bench.records.metrics import METRICS
from tare.bench.records.rows import Sample
from tare.bench.scenario.plan import interleaved
from tare.bench.trial_loop import Result
from tare.reports.sections.standard import Standard
from tests import fifth
from tests.unit.reports import ramps_fixture

SCENARIO = """
schema = 1
question = "How long?"
experiment = "told"
reference = "a"
[run]
rounds = 8
warmup = 1
precision = "5%"
[[subjects]]
label = "a"
runner = "process"
[[subjects]]
label = "b"
runner = "process"
[[subjects]]
label = "nothing"
runner = "null"
"""


class Told(Experiment):
    """Starts nothing: a trial yields the next number that it was given, or fails where there is none."""

    name = "told"
    precise = "ready_seconds"
    metrics = (METRICS["ready_seconds"],)
    section = "tests.unit.bench.test_rounds:SECTION"

    def __init__(self) -> None:
        self.next: Callable[[str], float | None] = lambda label: 1.0

    def trial(self, session: Session, ready: Ready, name: str) -> TrialResult:
        value = self.next(ready.subject.label)
        if value is None:
            return TrialResult(status="failed", reason="it broke", at_ns=1)
        return TrialResult(status="ok", reason="", at_ns=1, readings=(Reading(values={"ready_seconds": value}),))


TOLD = Told()
SECTION = Standard(metrics=TOLD.metrics, primary="ready_seconds")


class Heard(Silent):
    """Keeps what it is told of precision; may break the run there."""

    def __init__(self, breaks: bool = False) -> None:
        self.said: list[tuple[str, int]] = []
        self.breaks = breaks

    def looked(self, precision: Precision, rounds: int) -> None:
        self.said.append((precision.ended, rounds))
        if self.breaks:
            raise OSError("the cable was pulled")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @contextmanager
    def nothing(name: str) -> Iterator[None]:
        yield None

    monkeypatch.setattr(workspace, "base", lambda: tmp_path)
    monkeypatch.setattr(run_cgroup, "opened", nothing)
    monkeypatch.setattr(Others, "record", lambda self: None)  # the tests beside this one keep the host busy
    monkeypatch.setattr(gc, "collect", lambda: 0)  # between trials; a test's process has a million objects
    monkeypatch.setitem(experiments.REGISTRY, "told", "tests.unit.bench.test_rounds:TOLD")
    TOLD.next = lambda label: 1.0


def run(tmp_path: Path, monitor: Silent | None = None, text: str = SCENARIO) -> Result:
    file = tmp_path / "told.toml"
    file.write_text(text)
    planned = experiments.plan(experiments.scenario(file))
    return engine.run(planned, tmp_path / "runs", tmp_path / "cache", monitor or Silent())


def scattered(spread: float) -> Callable[[str], float]:
    numbers = random.Random(1)
    return lambda label: numbers.lognormvariate(0, spread if label != "nothing" else 3.0)


def test_narrow_intervals_end_it_after_the_least_rounds(tmp_path: Path) -> None:
    heard = Heard()
    header = run(tmp_path, heard).header
    assert header.precision is not None
    assert (header.precision.ended, len(header.precision.looks), max(t.round for t in header.plan)) == ("reached", 1, 8)
    assert header.precision.looks[0].half_widths == {"a": 0.0, "b": 0.0}  # what is nothing is not waited for
    assert heard.said == [("reached", 8)]
    report = reports.build(store.load(tmp_path / "runs" / header.run))
    assert report.precision is not None
    assert report.precision.sentence == "wanted 5 %, reached 0 % (a) after 8 rounds"
    assert report.status == "complete: 8 of 8 rounds done"


def test_wide_intervals_add_whole_rounds_up_to_the_cap(tmp_path: Path) -> None:
    TOLD.next = scattered(0.5)
    heard = Heard()
    result = run(tmp_path, heard)
    found, plan = result.header.precision, result.header.plan
    assert found is not None
    assert found.ended == "cap"
    assert [look.rounds for look in found.looks] == [8, 16, 32, 40]
    assert [rounds for _, rounds in heard.said] == [16, 32, 40, 40]
    assert set(Counter((trial.round, trial.subject) for trial in plan if trial.kind == "measured").values()) == {1}
    asked = result.header.scenario
    assert plan == interleaved(replace(asked, run=replace(asked.run, rounds=40))), "the order has nothing to do with it"
    loaded = store.load(result.path)
    assert {outcome.trial for outcome in loaded.outcomes} == {trial.id for trial in plan}
    report = reports.build(loaded)
    assert report.precision is not None
    assert "after 40 rounds: more than 40 were not allowed" in report.precision.sentence
    assert report.precision.sentence in reports.html(reports.analyse(loaded)).replace("\N{NO-BREAK SPACE}", " ")


def test_a_subject_that_fails_is_not_waited_for(tmp_path: Path) -> None:
    TOLD.next = lambda label: None if label == "b" else 1.0
    found = run(tmp_path).header.precision
    assert found is not None
    assert (found.ended, found.left_out) == ("reached", ("b",))
    TOLD.next = lambda label: None
    found = run(tmp_path).header.precision
    assert found is not None
    assert (found.ended, found.left_out) == ("no figure", ("a", "b"))


def test_a_run_that_was_broken_off_goes_on_where_it_looked(tmp_path: Path) -> None:
    TOLD.next = scattered(0.5)
    with pytest.raises(OSError, match="cable"):
        run(tmp_path, Heard(breaks=True))
    (path,) = store.runs(tmp_path / "runs")
    first = store.load_header(path)
    assert first.precision is not None
    assert (len(first.precision.looks), max(trial.round for trial in first.plan)) == (1, 16)
    TOLD.next = lambda label: 1.0
    header = engine.resume(path, tmp_path / "cache", Silent()).header
    assert header.precision is not None
    assert header.precision.looks[0] == first.precision.looks[0]
    # The wide values of the first stretch are not forgotten.
    assert (header.precision.looks[1].half_widths["a"] or 1.0) > 0.0
    assert header.precision.ended == "reached"
    with pytest.raises(UsageError, match="is complete"):
        engine.resume(path, tmp_path / "cache", Silent())


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('"5%"', '"5"', 'precision must be a percentage from 0.1% to 50%, such as "5%"'),
        ('"5%"', '"0%"', "precision must be a percentage from 0.1% to 50%"),
        ('precision = "5%"', "max_rounds = 9", "run.max_rounds has no effect without run.precision"),
        ('"5%"', '"5%"\nmax_rounds = 7', "run.max_rounds is 7, and the least number of rounds is 8"),
        ('"told"', '"end"', "the experiment 'end' has no figure that more rounds could make precise"),
    ],
)
def test_what_cannot_be_wanted_is_refused(tmp_path: Path, before: str, after: str, why: str) -> None:
    file = tmp_path / "told.toml"
    file.write_text(SCENARIO.replace(before, after))
    with fifth.registered(), pytest.raises(UsageError) as refused:
        experiments.scenario(file)
    assert why in str(refused.value)


def test_fewer_rounds_than_a_verdict_needs_are_more_there(tmp_path: Path) -> None:
    file = tmp_path / "told.toml"
    file.write_text(SCENARIO.replace("rounds = 8", "rounds = 3"))
    run_table = experiments.scenario(file).run
    assert (run_table.rounds, run_table.max_rounds, run_table.precision) == (8, 40, 0.05)
    assert experiments.scenario(file, {"precision": "10 %", "max_rounds": 9}).run.precision == 0.1


@pytest.mark.parametrize("experiment", ["memory", "density"])
def test_the_figure_of_a_ramp_is_that_of_the_report(tmp_path: Path, experiment: str) -> None:
    loaded = store.load(ramps_fixture.write(tmp_path / "run", probe=experiment))
    told = experiments.load(experiment)
    report = reports.build(loaded)
    for subject in report.subjects:
        mine = [one for one in loaded.header.plan if one.subject == subject.label]
        rows = ([row for row in loaded.samples if row.trial == trial.id] for trial in mine)
        values = [told.figure_of(_readings(some)) for some in rows]
        assert sorted(values)[2] == pytest.approx(subject.figure("margin_bytes").median)  # type: ignore[type-var]


def _readings(rows: Sequence[Sample]) -> list[Reading]:
    found: dict[object, Reading] = {}
    for row in rows:
        place = row.n, row.role, row.serves, row.stage
        empty = Reading(values={}, n=row.n, role=row.role, serves=row.serves, stage=row.stage)
        found.setdefault(place, empty).values[row.metric] = row.value
    return list(found.values())
