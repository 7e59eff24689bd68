"""The doctor asks every runner, whatever one of them does, and sends nobody to itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tare import runners
from tare.bench.host import doctor
from tare.runners.base import RunnerError, Support


def probed(monkeypatch: pytest.MonkeyPatch, answer: Support | Exception) -> doctor.RunnerDiagnosis:
    def probe(_options: object, _cache: Path) -> Support:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(runners, "load", lambda name: SimpleNamespace(LAYERS=("container",), probe=probe))
    return doctor._probe("crun", Path("/nowhere"))


@pytest.mark.parametrize("fix", ["tare doctor", "see `tare doctor`"])
def test_the_doctor_does_not_name_itself_as_the_cure(monkeypatch: pytest.MonkeyPatch, fix: str) -> None:
    assert probed(monkeypatch, Support(ok=False, why="w", fix=fix)).fix == ""
    assert probed(monkeypatch, Support(ok=False, why="w", fix="install crun")).fix == "install crun"


def test_a_runner_that_cannot_be_asked_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    found = probed(monkeypatch, RunnerError("crun is broken", "status 1", "install it"))
    assert (found.ok, found.why, found.fix) == (False, "crun is broken: status 1", "install it")
    found = probed(monkeypatch, PermissionError(13, "Permission denied", "/usr/bin/crun"))
    assert not found.ok
    assert "/usr/bin/crun" in found.why
    # A run asks as the doctor does: a subject is skipped, and the others are weighed.
    skipped = doctor.probe(runners.load("crun"), {}, Path("/nowhere"))
    assert (skipped.ok, skipped.why) == (False, found.why)
