"""The instrument's resolution is weighed again where the host stood still, and not for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tare.bench import engine
from tare.bench.errors import HostError
from tare.bench.experiments import startup
from tare.bench.experiments.trial import Reading, TrialResult
from tare.bench.host.interrupts import Interrupts
from tare.bench.readings import stalls

TIMED_OUT = TrialResult(status="timeout", reason="no 'ready' within 5 s", at_ns=0)


def session() -> engine._Stretch:
    found = object.__new__(engine._Stretch)
    found.cache, found.prefix = Path("/nowhere"), "tare-test"
    return found


def good(seconds: float) -> TrialResult:
    return TrialResult(status="ok", reason="", at_ns=0, readings=(Reading(values={"ready_seconds": seconds}),))


@pytest.mark.parametrize("spoilt", [{49}, {0}, {0, 1, 2}, {100, 101, 102}])
def test_what_a_stall_spoilt_is_weighed_again(monkeypatch: pytest.MonkeyPatch, spoilt: set[int]) -> None:
    calls: list[int] = []

    def weigh(*_args: object, **_named: object) -> TrialResult:
        calls.append(len(calls))
        return TIMED_OUT if calls[-1] in spoilt else good(0.5)

    monkeypatch.setattr(startup, "start_and_stop", weigh)
    with Interrupts() as interrupts:
        assert session()._null_baseline(interrupts) == 0.0
    assert len(calls) == engine._NULL_STARTS + len([one for one in spoilt if one < len(calls)])


def test_a_host_that_never_gets_there_is_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([TIMED_OUT] * (1 + stalls.MOST_REPEATS))
    monkeypatch.setattr(startup, "start_and_stop", lambda *_args, **_named: next(answers))
    with (
        Interrupts() as interrupts,
        pytest.raises(HostError, match="resolution of the instrument cannot be measured: no 'ready'"),
    ):
        session()._null_baseline(interrupts)
    assert list(answers) == []


def test_nothing_itself_is_weighed() -> None:
    with Interrupts() as interrupts:
        assert session()._null_baseline(interrupts) > 0
