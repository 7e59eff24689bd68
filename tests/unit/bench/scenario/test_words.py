"""A command line as a scenario: what it asks for, and what cannot be asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tare.bench import experiments
from tare.bench.errors import UsageError
from tare.bench.records.readiness import Exec, Exit, Http, Line, Mark, Ready, Tcp
from tare.bench.records.resolved import Scenario
from tare.bench.scenario import words
from tare.bench.scenario.words import Wish


def asked(tmp_path: Path, **changes: Any) -> Scenario:
    file = tmp_path / "weigh.toml"
    wish = {"command": ("python3", "-c", 'print("a\\b")'), "subjects": ("process", "container"), **changes}
    file.write_text(words.scenario(Wish(**wish)))
    return experiments.scenario(file)


def test_it_is_an_ordinary_scenario(tmp_path: Path) -> None:
    found = asked(tmp_path, env={"A": "b c"}, cwd="/srv", user="nobody", run={"rounds": 4}, grant={"memory_mib": 64})
    assert [one.label for one in found.subjects] == ["process", "container"]
    assert (found.reference, found.run.rounds) == ("process", 4)
    for one in found.subjects:
        assert one.memory_bytes == 64 << 20
        assert one.workload is not None
        assert one.workload.command == ("python3", "-c", 'print("a\\b")')
        assert (one.workload.env, one.workload.cwd, one.workload.user) == ({"A": "b c"}, "/srv", "nobody")
        assert one.workload.image == "host"


@pytest.mark.parametrize(
    ("text", "contract"),
    [
        ("mark", Mark()),
        ("exit", Exit()),
        ("exit:3", Exit(code=3)),
        ("tcp:8000", Tcp(port=8000)),
        ("http://:80/health?x=1", Http(port=80, path="/health?x=1")),
        ("http://:80", Http(port=80)),
        ("line:ready in [0-9]+ ms: yes", Line(pattern="ready in [0-9]+ ms: yes")),
        ("exec:test -e '/run/a b'", Exec(argv=("test", "-e", "/run/a b"))),
    ],
)
def test_each_contract_can_be_said(tmp_path: Path, text: str, contract: Ready) -> None:
    work = asked(tmp_path, ready=text).subjects[0].workload
    assert work is not None
    assert work.ready == contract


@pytest.mark.parametrize("text", ["", "tcp", "tcp:", "tcp:x", "tcp:٣", "http:80", "line:", "exec:", "exit:x", "ready"])
def test_what_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        words.ready(text)
    assert "tcp:PORT" in refused.value.fix


@pytest.mark.parametrize("text", ["tcp:0", "tcp:65536", "exit:256", "line:[", "http://host:80/", "http://:0/"])
def test_what_no_port_status_or_pattern_can_be_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        asked(tmp_path, ready=text)


def test_two_builds_of_one_runtime(tmp_path: Path) -> None:
    binary = tmp_path / "crun"
    binary.write_text("")
    found = asked(tmp_path, subjects=(f"old=crun,binary={binary}", "crun"))
    # The bare process is added by the experiment: it is what all are compared with, if anybody asks.
    assert [(one.label, one.options) for one in found.subjects if one.runner == "crun"] == [
        ("old", {"binary": str(binary)}),
        ("crun", {}),
    ]
    assert found.reference == "old"


@pytest.mark.parametrize("text", ["", "a=b=c", "crun,binary", "Crun", "=crun"])
def test_what_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        words.subject(text)
    assert "-i container" in refused.value.fix


def test_the_question_says_what_was_asked() -> None:
    assert words.question(Wish(command=("true",), subjects=())) == "How long does this take: true"
    assert (
        words.question(Wish(command=("s", "a b"), subjects=(), ready="tcp:1"))
        == "How long until this is ready: s 'a b'"
    )
    assert len(words.question(Wish(command=("x" * 500,), subjects=()))) < 120
