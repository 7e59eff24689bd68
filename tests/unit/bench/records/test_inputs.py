"""Files that a user names: of any kind, any content, any permission, each is read or refused by its path."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tare.bench.errors import UsageError
from tare.bench.records import inputs


def refused(path: Path) -> UsageError:
    with pytest.raises(UsageError) as caught:
        inputs.text(path, most=100, fix="give another")
    assert str(path) in caught.value.what
    assert caught.value.fix == "give another"
    return caught.value


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("é" * 50, encoding="utf-8")
    assert inputs.text(file, most=100, fix="") == "é" * 50
    file.write_text("x" * 101, encoding="utf-8")
    assert "too large" in refused(file).what


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _null(path: Path) -> None:
    path.symlink_to("/dev/null")


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _binary(path: Path) -> None:
    path.write_bytes(bytes(range(200, 256)))


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (Path.mkdir, "a directory"),
        (_pipe, "a named pipe"),
        (_socket, "a socket"),
        (_loop, "symbolic links"),
        (_null, "a device"),
        (_endless, "a device"),
        (_binary, "not UTF-8"),
        (_sparse, "too large"),
        (lambda path: None, "no such file"),
    ],
)
def test_what_is_no_file_of_text_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    make(tmp_path / "x")
    error = refused(tmp_path / "x")
    assert said in f"{error.what} {error.why}"


def test_a_name_that_no_system_call_takes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="null"):
        inputs.data(tmp_path / "a\0b", most=1, fix="")
    error = refused(tmp_path / ("x" * 300))
    assert "too long" in error.why


def test_a_pipe_that_the_caller_has_open_is_read() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"text")
    os.close(writing)
    try:
        assert inputs.text(Path(f"/dev/fd/{reading}"), most=100, fix="") == "text"
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    "error",
    [RecursionError("x"), MemoryError(), KeyError("a"), IndexError(), TypeError("b"), OverflowError(), AssertionError(),
     UnicodeDecodeError("utf-8", b"", 0, 1, "bad"), ValueError("Exceeds the limit for integer string conversion")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_a_parser_raises_is_bad_input_with_its_cause(error: Exception) -> None:
    with pytest.raises(UsageError) as caught, inputs.parsing("FILE is damaged", "restore it"):
        raise error
    assert (caught.value.what, caught.value.fix) == ("FILE is damaged", "restore it")
    assert caught.value.why
    assert "Error" not in caught.value.why or type(error).__name__ in caught.value.why
    assert caught.value.__cause__ is error
