"""The instrument's resolution is measured again where the host stood still, and not for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tare.bench.errors import HostError
from tare.bench.experiments import null_baseline, startup
from tare.bench.experiments.trial import Reading, TrialResult
from tare.bench.host.interrupts import Interrupts
from tare.bench.readings import stalls

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
