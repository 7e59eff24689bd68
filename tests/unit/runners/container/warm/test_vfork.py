"""Children that run in their parent's memory: they do what they are told, and leave the parent as it was."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tare.runners.container.warm import vfork

SHELL = "/bin/sh"


class Make(Protocol):
    """The fixture's type."""

    def __call__(
        self,
        setup: Callable[[], bool] = ...,
        failed: Callable[[int], None] = ...,
        path: str = ...,
        script: str = ...,
    ) -> vfork.VforkChild: ...


@pytest.fixture
def programs() -> Iterator[Callable[[str], int]]:
    """Opens a program; closed at the end."""
    opened: list[int] = []

    def open_one(path: str) -> int:
        opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        return opened[-1]

    yield open_one
    for fd in opened:
        os.close(fd)


@pytest.fixture
def vfork_child(programs: Callable[[str], int]) -> Make:
    """Makes one whose child runs a script."""
    if why := vfork.why_not():
        pytest.skip(f"not on this machine: {why}")

    def make(
        setup: Callable[[], bool] = lambda: True,
        failed: Callable[[int], None] = lambda number: None,
        path: str = SHELL,
        script: str = "exit 7",
    ) -> vfork.VforkChild:
        words = [b"sh", b"-c", script.encode(), b"zero", b"o ne"]
        return vfork.VforkChild(setup=setup, failed=failed, program=programs(path), argv=words, env={"NAME": "va=lue"})

    return make


def status_of(made: vfork.VforkChild) -> int:
    pid, pidfd = made.start(0)
    os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_program_gets_its_words_and_its_environment(vfork_child: Make) -> None:
    made = vfork_child(script='test "$1" = "o ne" && test "$NAME" = "va=lue" && exit 3')
    assert status_of(made) == 3


def test_one_object_makes_many_children(vfork_child: Make) -> None:
    made = vfork_child()
    assert [status_of(made) for _ in range(50)] == [7] * 50


def test_the_set_up_runs_in_the_child_and_is_done_before_exec(vfork_child: Make) -> None:
    reader, writer = os.pipe()
    parent = os.getpid()

    def setup() -> bool:
        os.write(writer, b"child" if os.getpid() != parent else b"parent")
        os.chdir("/")
        return True

    assert status_of(vfork_child(setup, script='test "$(pwd)" = / && exit 4')) == 4
    os.close(writer)
    assert os.read(reader, 100) == b"child"
    os.close(reader)
    assert os.getcwd() != "/", "directories are not shared, memory is"  # noqa: PTH109


def test_its_memory_is_the_parents(vfork_child: Make) -> None:
    seen: list[int] = []

    def setup() -> bool:
        seen.append(1)
        return True

    made = vfork_child(setup)
    assert [status_of(made), status_of(made)] == [7, 7]
    assert seen == [1, 1]


def test_a_set_up_that_says_no_is_not_followed_by_exec_nor_by_a_word(vfork_child: Make) -> None:
    said: list[int] = []
    assert status_of(vfork_child(lambda: False, said.append)) == 126
    assert said == []


def test_a_set_up_that_raises_is_not_followed_by_exec(vfork_child: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda each: raised.append(str(each.exc_value)))

    def setup() -> bool:
        raise ValueError("half-made")

    assert status_of(vfork_child(setup)) == 126
    assert raised == ["half-made"]


def test_an_exec_that_fails_is_told_with_its_error_number(vfork_child: Make, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no program")
    text.chmod(0o755)
    said: list[int] = []
    made = vfork_child(failed=said.append, path=str(text))
    assert [status_of(made), status_of(made)] == [126, 126]
    assert said == [errno.ENOEXEC, errno.ENOEXEC]


def test_exceptions_within_the_set_up_leave_the_parents_alone(vfork_child: Make) -> None:
    def setup() -> bool:
        try:
            os.stat("/absent")  # noqa: PTH116
        except FileNotFoundError:
            return True
        return False

    made = vfork_child(setup)
    try:
        raise KeyError("mine")
    except KeyError as error:
        assert status_of(made) == 7
        assert sys.exception() is error  # noqa: PT017 - it is not about the error


def test_a_namespace_that_may_not_be_made_is_an_error_and_no_child(vfork_child: Make) -> None:
    made = vfork_child()
    impossible = 0x10000000 | 0x00000200  # CLONE_NEWUSER with CLONE_FS, clone(2): EINVAL
    with pytest.raises(OSError, match="clone"):
        made.start(impossible)
    assert status_of(made) == 7


def test_flags_that_clone_has_no_room_for_are_refused() -> None:
    assert "no room" in vfork.why_not(1 << 32)
    assert "no room" in vfork.why_not(0x80)
