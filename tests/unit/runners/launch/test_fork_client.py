"""The near end of a warm helper: whose answer is whose, and what becomes of a child if a start fails."""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tare.runners.base import RunnerError
from tare.runners.launch.fork_client import ForkServer

Ends = tuple[ForkServer, socket.socket]


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    """A helper's near end, and its far end for a test to play."""
    log = tmp_path / "log"
    log.touch()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.settimeout(20)
        yield ForkServer(ours, log), theirs


def answer(far: socket.socket, question: str) -> None:
    far.send(f"ok\0{question}".encode())


def test_each_gets_the_answer_to_its_own_question(ends: Ends) -> None:
    """All questions are there before the first is answered."""
    near, far = ends
    count = 8
    with ThreadPoolExecutor(count) as threads:
        asked = [threads.submit(near.ask, f"q{number}") for number in range(count)]
        questions = [far.recv(64).decode() for _ in range(count)]
        for each in questions:
            answer(far, each)
        assert [each.result()[0] for each in asked] == [["ok", f"q{number}"] for number in range(count)]
    assert near.waiting == 0


def test_a_question_that_was_not_sent_takes_nobodys_answer(ends: Ends) -> None:
    near, far = ends
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(near.ask, "first")
        assert far.recv(64) == b"first"
        with pytest.raises(RunnerError, match="fork server is gone"):
            near.ask("unsent", [far.fileno() + 1000])
        second = threads.submit(near.ask, "second")
        assert far.recv(64) == b"second"
        answer(far, "first")
        answer(far, "second")
        assert (first.result()[0][1], second.result()[0][1]) == ("first", "second")


def test_a_question_that_is_interrupted_ends_the_helper(ends: Ends) -> None:
    """Its answer would be taken for the next question's."""
    near, far = ends

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        near.ask("first", meanwhile=interrupted)
    with pytest.raises(RunnerError, match="fork server is gone"):
        near.ask("second")
    assert [far.recv(64), far.recv(64)] == [b"first", b""]


def started(far: socket.socket, pid: int) -> None:
    """Say that *pid* is the child, without a pidfd, and that it was reaped."""
    for reply in (f"ok\0{pid}", "ended\x009"):
        far.send(reply.encode())


def test_what_the_kernel_refused_the_helper_is_the_cause_of_the_error(ends: Ends) -> None:
    near, far = ends
    far.send(b"error\x0028\0clone: No space left")
    with pytest.raises(RunnerError) as caught:
        near.ask("start")
    assert "No space left" in str(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert cause.errno == errno.ENOSPC


def test_a_child_whose_pidfd_was_dropped_is_killed(ends: Ends) -> None:
    """The kernel drops what it cannot put into a full table of descriptors."""
    near, far = ends
    with subprocess.Popen(["sleep", "10"]) as child:
        started(far, child.pid)
        with pytest.raises(OSError, match="Too many open"):
            near.start((), (), lambda: None, beside=False)
        assert child.wait() == -signal.SIGKILL


def test_a_child_is_killed_if_what_runs_meanwhile_fails(ends: Ends) -> None:
    near, far = ends

    def fail() -> None:
        raise RunnerError("no cgroup")

    with subprocess.Popen(["sleep", "10"]) as child:
        started(far, child.pid)
        with pytest.raises(RunnerError, match="no cgroup"):
            near.start((), (), fail, beside=False)
        assert child.wait() == -signal.SIGKILL
