"""A client of an engine that lacks an option says so in its own words; tare says which release has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare.runners.base import RunnerError
from tare.runners.engines import containerd, docker, podman
from tests.unit.runners.engines.script import on_path


def test_an_old_podman_is_told_from_a_missing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.environ["PATH"]
    on_path(tmp_path, monkeypatch, "podman", 'echo "Error: unknown flag: --pidfile" >&2; exit 125')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{before}")
    found = podman._Podman(
        program=str(tmp_path / "bin/podman"), disk=tmp_path, run=tmp_path, driver="overlay", runtime="", user=None
    )
    with pytest.raises(RunnerError, match=r"podman load failed: .*unknown flag: --pidfile") as caught:
        found.ask("load", "--quiet")
    assert caught.value.fix == "install podman 4.1 or newer"


@pytest.mark.parametrize(
    ("fix", "said", "advice"),
    [
        (podman.fix, "Error: unknown flag: --conmon-pidfile", "install podman 4.1 or newer"),
        (docker.fix, "unknown flag: --cgroupns", "install docker 20.10 or newer"),
        (containerd.fix, "flag provided but not defined: -cgroup", "install containerd 1.6 or newer"),
    ],
)
def test_what_a_client_does_not_know_names_the_release_that_does(fix: object, said: str, advice: str) -> None:
    assert callable(fix)
    assert fix(said) == advice
