"""Workloads of a scenario: one for all, one of a subject's own, several; and what contradicts itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tare.bench import experiments
from tare.bench.errors import UsageError
from tare.bench.records.readiness import Exit, Mark, Tcp
from tare.bench.records.resolved import Scenario
from tare.bench.scenario import resolve

HEAD = 'schema = 1\nquestion = "Which?"\n'
SUBJECTS = """
[[subjects]]
label = "process"
runner = "process"
[[subjects]]
label = "container"
runner = "container"
"""
SEVERAL = """
[workloads.web]
command = ["serve"]
ready = { tcp = 80 }
[workloads.job]
command = ["job"]
ready = { exit = 0 }
"""


def loaded(tmp_path: Path, text: str) -> Scenario:
    file = tmp_path / "some.toml"
    file.write_text(HEAD + text)
    return experiments.scenario(file)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(UsageError) as error:
        loaded(tmp_path, text)
    return f"{error.value.why}; {error.value.fix}"


def test_one_takes_the_place_of_the_payload(tmp_path: Path) -> None:
    found = loaded(tmp_path, '[workload]\ncommand = ["serve", "-x"]\nready = { tcp = 80 }\n' + SUBJECTS)
    for subject in found.subjects:
        assert subject.argv == ("serve", "-x")
        assert subject.ready(found.run) == Tcp(port=80)


@pytest.mark.parametrize("experiment", ["memory", "density"])
def test_what_has_ended_cannot_be_kept(tmp_path: Path, experiment: str) -> None:
    text = f'experiment = "{experiment}"\n[workload]\ncommand = ["job"]\nready = {{ exit = 0 }}\n' + SUBJECTS
    assert "is ready when it has ended" in refused(tmp_path, text)
    assert loaded(tmp_path, text.replace("exit = 0", 'line = "up"')).experiment == experiment


def test_a_subject_may_have_its_own(tmp_path: Path) -> None:
    text = SUBJECTS + '[subjects.workload]\ncommand = ["job"]\nready = { exit = 3 }\n'
    process, container = loaded(tmp_path, text).subjects
    assert process.workload is None
    assert process.ready(loaded(tmp_path, text).run) == Mark()
    assert container.ready(loaded(tmp_path, text).run) == Exit(code=3)


def test_several_are_each_measured_in_each_subject_and_compared_with_their_own_reference(tmp_path: Path) -> None:
    found = loaded(tmp_path, 'pairs = [["container", "process"]]\n' + SEVERAL + SUBJECTS)
    labels = [subject.label for subject in found.subjects]
    assert labels == ["web/process", "web/container", "job/process", "job/container"]
    assert [subject.base for subject in found.subjects] == ["process", "container", "process", "container"]
    assert found.reference_of("job/container") == "job/process"
    assert found.references == {"web/process", "job/process"}
    assert found.pairs == (("web/container", "web/process"), ("job/container", "job/process"))
    assert [one.label for one in resolve.select(found, ["job/container"]).subjects] == ["job/process", "job/container"]


def test_a_subject_may_leave_some_out(tmp_path: Path) -> None:
    found = loaded(tmp_path, SEVERAL + SUBJECTS + 'workloads = ["job"]\n')
    assert [subject.label for subject in found.subjects] == ["web/process", "job/process", "job/container"]


def test_a_command_of_the_users_own_runs_on_the_host_itself_only_where_that_is_asked_for(tmp_path: Path) -> None:
    """It may write there. The payload cannot, and is measured as a bare process, too."""
    contained = '[[subjects]]\nlabel = "container"\nrunner = "container"\n'
    assert [one.label for one in loaded(tmp_path, contained).subjects] == ["process", "container"]
    found = loaded(tmp_path, '[workload]\ncommand = ["rm", "-rf", "/tmp/x"]\nready = { exit = 0 }\n' + contained)
    assert [one.label for one in found.subjects] == ["container"]
    assert found.reference == "container"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[workload]\ncommand = ["x"]\n' + SEVERAL + SUBJECTS, "give every workload a name"),
        (SEVERAL + SUBJECTS + 'workloads = ["jab"]\n', "did you mean 'job'"),
        ('[workload]\ncommand = ["x"]\n[payload]\ntouch_mib = 4\n' + SUBJECTS, "leave [payload] out"),
        ('[workload]\ncommand = ["x"]\n' + SUBJECTS + "touch_mib = 4\n", "touch_mib belongs to the payload"),
        ('[workload]\ncommand = ["x"]\nready = { tcp = 80, exit = 0 }\n' + SUBJECTS, "exactly one of line, tcp"),
        ('[workload]\ncommand = ["x"]\nready = { }\n' + SUBJECTS, "exactly one of line, tcp"),
        ('[workload]\ncommand = ["x"]\nready = { tpc = 80 }\n' + SUBJECTS, "did you mean 'tcp'"),
        ('[workload]\ncommand = ["x"]\nready = { tcp = 80, status = 200 }\n' + SUBJECTS, "status belongs to"),
        ('[workload]\ncommand = ["x"]\nready = { http = "http://example/" }\n' + SUBJECTS, "http://:8000/health"),
        ('[workload]\ncommand = ["x"]\nimage = "absent"\n' + SUBJECTS, "there is no directory"),
        ('[workload]\ncommand = ["x"]\nimage = "dock:x"\n' + SUBJECTS, "there is no source of images 'dock'"),
        ('[workload]\ncomand = ["x"]\n' + SUBJECTS, "did you mean 'command'"),
        ('[workloads."a b"]\ncommand = ["x"]\n' + SUBJECTS, "cannot be used"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)
