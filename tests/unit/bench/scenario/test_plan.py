"""Plans: pure, seeded, complete, interleaved."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.bench import experiments
from tare.bench.records.resolved import Scenario
from tare.bench.scenario import plan, resolve

STARTUP = experiments.scenario(resolve.find("startup"))


def with_run(**changes: object) -> Scenario:
    return msgspec.structs.replace(STARTUP, run=msgspec.structs.replace(STARTUP.run, **changes))


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    assert experiments.plan(with_run(seed=7)) == experiments.plan(with_run(seed=7))
    assert experiments.plan(with_run(seed=7)).trials != experiments.plan(with_run(seed=8)).trials


def test_the_order_of_a_seed_never_changes() -> None:
    """Recorded once: a new Python or a refactoring may not reorder the runs of old seeds."""
    first = [trial.subject for trial in experiments.plan(with_run(seed=7)).trials if trial.round == 1]
    assert first == ["runc", "container", "process", "vm", "crun"]


@given(seed=st.integers(0, 2**63 - 1), rounds=st.integers(1, 30), warmup=st.integers(0, 3))
def test_every_subject_runs_once_in_every_round_and_warm_ups_come_first(seed: int, rounds: int, warmup: int) -> None:
    trials = experiments.plan(with_run(seed=seed, rounds=rounds, warmup=warmup)).trials
    assert len({trial.id for trial in trials}) == len(trials) == (rounds + warmup) * 5
    kinds = [trial.kind for trial in trials]
    assert kinds == ["warmup"] * (5 * warmup) + ["measured"] * (5 * rounds)
    for number in range(1, rounds + 1):
        of_round = [trial for trial in trials if trial.round == number]
        assert Counter(trial.subject for trial in of_round) == Counter(subject.label for subject in STARTUP.subjects)
        assert [trial.order for trial in of_round] == [1, 2, 3, 4, 5]


def test_the_shuffle_favours_no_place() -> None:
    trials = experiments.plan(with_run(rounds=10_000, warmup=0)).trials
    first = Counter(trial.subject for trial in trials if trial.order == 1)
    assert all(1800 < count < 2200 for count in first.values())


def test_the_arithmetic_is_printed_and_right() -> None:
    planned = experiments.plan(with_run(rounds=12, warmup=1))
    assert planned.arithmetic() == "5 subjects x 12 rounds + 5 warm-ups = 65 starts"
    assert experiments.plan(with_run(rounds=1, warmup=0)).arithmetic() == "5 subjects x 1 round = 5 starts"
    calibration = experiments.plan(experiments.scenario(resolve.find("calibration")))
    none_s = {subject.label: 0.0 for subject in calibration.scenario.subjects}
    assert calibration.estimate_s(none_s) == pytest.approx(13 * 2 * 0.25)  # the known delays are known
    assert planned.estimate_s(dict.fromkeys(["process", "container", "crun", "runc"], 0.0) | {"vm": 5.0}) == 65.0


def test_a_ramp_counts_its_starts() -> None:
    planned = experiments.plan(experiments.scenario(resolve.find("density")))
    assert planned.arithmetic() == "5 subjects x 1 round = 5 ramps, at most 6800 starts"
    # and the windows before its readings: 11 of the process (0, 1 .. 1000), 15, 10, 9, 13 of the others
    assert planned.estimate_s({subject.label: 1.0 for subject in planned.scenario.subjects}) == 6800.0 + 58.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1, "1 s"), (59, "59 s"), (100, "1 min 40 s"), (120, "2 min"), (7500, "2 h 5 min"), (7200, "2 h")],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert plan.duration(seconds) == text
