"""The instrument's resolution is measured again where the host stood still, and not for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tare.bench import readiness
from tare.bench.errors import HostError
from tare.bench.experiments import null_baseline, startup
from tare.bench.experiments.trial import Reading, TrialResult
from tare.bench.host.interrupts import Interrupts
from tare.bench.readings import stalls
from tare.bench.records.readiness import Exec, Exit, Http, Line, Mark, Ready, Tcp, kind

TIMED_OUT = TrialResult(status="timeout", reason="no 'ready' within 5 s", at_ns=0)


def resolution(interrupts: Interrupts) -> float:
    return null_baseline.resolution(Path("/nowhere"), "tare-test", interrupts)


def good(seconds: float) -> TrialResult:
    return TrialResult(status="ok", reason="", at_ns=0, readings=(Reading(values={"ready_seconds": seconds}),))


@pytest.mark.parametrize("spoilt", [{49}, {0}, {0, 1, 2}, {100, 101, 102}])
def test_what_a_stall_spoilt_is_measured_again(monkeypatch: pytest.MonkeyPatch, spoilt: set[int]) -> None:
    calls: list[int] = []

    def measure(*_args: object, **_named: object) -> TrialResult:
        calls.append(len(calls))
        return TIMED_OUT if calls[-1] in spoilt else good(0.5)

    monkeypatch.setattr(startup, "start_and_stop", measure)
    with Interrupts() as interrupts:
        assert resolution(interrupts) == 0.0
    assert len(calls) == null_baseline.STARTS + len([one for one in spoilt if one < len(calls)])


def test_a_host_that_never_gets_there_is_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([TIMED_OUT] * (1 + stalls.MOST_REPEATS))
    monkeypatch.setattr(startup, "start_and_stop", lambda *_args, **_named: next(answers))
    with (
        Interrupts() as interrupts,
        pytest.raises(HostError, match="resolution of the instrument cannot be measured: no 'ready'"),
    ):
        resolution(interrupts)
    assert list(answers) == []


def test_nothing_itself_is_measured() -> None:
    with Interrupts() as interrupts:
        assert resolution(interrupts) > 0


@pytest.mark.parametrize(
    "asked", [Tcp(port=80), Http(port=80, path="/deep", code=204), Exec(argv=("redis-cli", "ping"))]
)
def test_what_attempts_cannot_see_is_measured_where_something_always_answers(
    monkeypatch: pytest.MonkeyPatch, asked: Ready
) -> None:
    monkeypatch.setattr(null_baseline, "STARTS", 20)
    with Interrupts() as interrupts:
        found = null_baseline.of_attempts(asked, Path("/nowhere"), "tare-test", interrupts)
    assert found is not None
    assert found.by == kind(asked)
    assert found.period_seconds == readiness.load(asked).PERIOD_S
    assert found.attempt_seconds > 0
    assert found.resolution_seconds >= found.period_seconds + found.attempt_seconds


@pytest.mark.parametrize("asked", [Mark(), Line(pattern="x"), Exit()])
def test_what_the_kernel_announces_needs_no_attempts(asked: Ready) -> None:
    with Interrupts() as interrupts:
        assert null_baseline.of_attempts(asked, Path("/nowhere"), "tare-test", interrupts) is None
