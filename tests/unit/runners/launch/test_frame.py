"""What the launchers of containers share, without a container: the frame of a start, refusals, descriptors."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tare.bench.host import workspace
from tare.runners import fork_server
from tare.runners.base import RunnerError
from tare.runners.launch import frame, orphans
from tests.unit.still import Still


class Instance(Still):
    """Writes down what is done to it."""

    console = -1
    cgroup = None

    def __init__(self, done: list[str]) -> None:
        self.done = done

    def pids(self) -> frozenset[int]:
        return frozenset()

    def explain(self) -> str:
        return ""

    def stop(self) -> None:
        self.done.append("stop")


def test_a_launch_is_stamped_stopped_and_then_removed() -> None:
    done: list[str] = []

    def start(name: str, stack: ExitStack) -> Instance:
        done.append(f"start {name}")
        stack.callback(done.append, "remove")
        return Instance(done)

    with frame.launcher(start)("one", done.append):
        done.append("inside")
    assert done == ["start one", "created", "inside", "stop", "stopped", "remove"]


def test_an_exception_inside_stops_and_removes_all_the_same() -> None:
    done: list[str] = []

    def start(name: str, stack: ExitStack) -> Instance:
        stack.callback(done.append, "remove")
        return Instance(done)

    with pytest.raises(KeyError), frame.launcher(start)("one", lambda phase: None):
        raise KeyError
    assert done == ["stop", "remove"]


def test_a_start_that_fails_is_removed_and_never_stamped() -> None:
    done: list[str] = []

    def start(name: str, stack: ExitStack) -> Instance:
        stack.callback(done.append, "remove")
        raise RunnerError("no")

    with pytest.raises(RunnerError), frame.launcher(start)("one", done.append):
        pass
    assert done == ["remove"]


@pytest.mark.compiler
@pytest.mark.parametrize("error", [RunnerError("the binary is missing", "why"), OSError(errno.EPERM, "not for you")])
def test_a_trial_that_cannot_be_prepared_is_a_reason(error: Exception, tmp_path: Path) -> None:
    def prepare(*_: object) -> None:
        raise error

    with pytest.raises(RunnerError) as caught:
        frame.prove(prepare, {}, tmp_path, label="x", grouped=False, fix="fix of {}".format)  # type: ignore[arg-type]
    if isinstance(error, RunnerError):
        assert caught.value is error
    else:
        assert "a trial start failed: [Errno 1] not for you" in str(caught.value)
        assert caught.value.fix == "fix of [Errno 1] not for you"


def report() -> tuple[fork_server._Report, int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return fork_server._Report(reader, "/payload"), reader, writer


def is_open(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").exists()


def test_a_report_ends_with_the_exec_that_closes_its_pipe() -> None:
    told, reader, writer = report()
    assert not told.ended()
    assert is_open(reader)
    os.close(writer)
    assert told.ended()
    assert not is_open(reader)
    assert told.text == ""
    told.close()


def test_a_report_keeps_what_was_said_before_its_end() -> None:
    told, reader, writer = report()
    os.write(writer, b"cannot mount")
    os.close(writer)
    assert told.ended()
    assert told.text == "cannot mount"
    assert not is_open(reader)


def test_all_below_a_monitor_are_its_family_whichever_thread_made_them() -> None:
    program = (
        "import subprocess, sys, threading\n"
        "def make():\n"
        "    with subprocess.Popen(['sleep', '1000']) as child:\n"
        "        print(child.pid, flush=True)\n"
        "        sys.stdin.read(1)\n"
        "        child.kill()\n"
        "threading.Thread(target=make).start()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert set(orphans.family(parent.pid)) == {parent.pid, child}
        parent.communicate(b"x")
    assert orphans.family(child) == [child]


def test_an_ascent_may_open_as_many_files_as_the_hard_limit_says() -> None:
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, soft), hard))
        with workspace.many_open_files():
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(64, soft), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
