"""The program that executes others: made of bytes, so looked at as what it is, and run."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from runners.container import inside, stub

MACHINES = {"x86_64": 62, "aarch64": 183}


@pytest.mark.parametrize("machine", MACHINES)
def test_image_is_one_segment(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub, "_machine", lambda: machine)
    image = stub.image()
    magic, kind, number, _, entry, headers = struct.unpack_from("<16sHHIQQ", image)
    assert magic == b"\x7fELF\2\1\1" + bytes(9)
    assert (kind, number, headers) == (2, MACHINES[machine], 64)
    load, flags, offset, address, _, size, memory, _ = struct.unpack_from("<IIQQQQQQ", image, 64)
    assert (load, offset, size, memory) == (1, 0, len(image), len(image))
    assert flags == 5, "readable, executable, not writable"
    assert address + 64 + 56 == entry
    assert entry % 4 == 0, "aarch64 has its instructions at multiples of four"


def test_unknown_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub, "_machine", lambda: "vax")
    assert "vax" in stub.why_not()
    with pytest.raises(OSError, match="vax"):
        stub.make()


def test_file_is_sealed() -> None:
    fd = stub.make(least=20)
    try:
        assert fd >= 20
        assert not os.get_inheritable(fd)
        for attempt in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0)):
            with pytest.raises(PermissionError):
                attempt()
    finally:
        os.close(fd)


def executed(path: str, *argv: str, **env: str) -> tuple[int, bytes, bytes]:
    """Execute a program through the stub: its exit status, what it printed, what came over the report pipe."""
    out, out_in = os.pipe()
    report, report_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(out_in, 1)
            os.set_inheritable(report_in, True)
            os.execve(stub.make(), stub.words(report_in, path, argv), env)
        finally:
            os._exit(99)
    os.close(out_in)
    os.close(report_in)
    with open(out, "rb") as printed, open(report, "rb") as said:
        text, error = printed.read(), said.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text, error


@pytest.mark.skipif(bool(stub.why_not()), reason="no stub for this machine")
def test_words_and_environment_arrive_whole() -> None:
    script = 'echo "$0|$1|$2|$A"; exit 5'
    assert executed("/bin/sh", "sh", "-c", script, "zero", "", "two words", A="b") == (5, b"zero||two words|b\n", b"")


@pytest.mark.skipif(bool(stub.why_not()), reason="no stub for this machine")
def test_error_number_comes_back(tmp_path: Path) -> None:
    """The report is closed by a program that runs, and says why one does not."""
    status, _, said = executed("/absent", "absent")
    assert (status, stub.said(said, "/absent")) == (127, f"cannot execute /absent: {os.strerror(errno.ENOENT)}")
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0\1\2\3")
    broken.chmod(0o755)
    assert stub.said(executed(str(broken), "x")[2], "it") == f"cannot execute it: {os.strerror(errno.ENOEXEC)}"


def test_texts_are_left_as_they_are() -> None:
    assert stub.said(b"cannot mount: no\n", "x") == "cannot mount: no"


@pytest.mark.parametrize("number", [-1, 255])
def test_a_descriptor_that_is_no_byte_is_refused(number: int) -> None:
    with pytest.raises(OSError, match="cannot be handed on"):
        stub.words(number, "/x", ("x",))


def tool(directory: Path, name: str, mode: int = 0o755) -> str:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text("#!/bin/sh\n")
    (directory / name).chmod(mode)
    return str(directory / name)


def test_path_is_searched_in_order(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    tool(one, "x", 0o644)
    second = tool(two, "x")
    (tmp_path / "three" / "x").mkdir(parents=True)
    search = f"{tmp_path}/absent:{tmp_path}/three:{one}:{two}"
    assert inside.find("x", search) == second
    with pytest.raises(FileNotFoundError, match=r"y: executable file not found in \$PATH"):
        inside.find("y", search)
    with pytest.raises(PermissionError, match="x cannot be executed"):
        inside.find("x", f"{one}")


def test_a_name_with_a_slash_is_not_searched(tmp_path: Path) -> None:
    path = tool(tmp_path / "bin", "x")
    assert inside.find(path, "") == path
    with pytest.raises(FileNotFoundError, match="No such file"):
        inside.find(f"{path}y", "")
    with pytest.raises(PermissionError):
        inside.find(str(tmp_path), "")


@pytest.mark.parametrize(
    ("passwd", "home"),
    [
        ("root:x:0:0::/root:/bin/sh\nada:x:7:7::/home/ada:/bin/sh\n", "/home/ada"),
        ("root:x:0:0::/root:/bin/sh\n", "/"),
        ("ada:x:7\nada:x:7:7:::/bin/sh\n", "/"),
        (None, "/"),
    ],
)
def test_home_by_passwd(tmp_path: Path, passwd: str | None, home: str) -> None:
    (tmp_path / "etc").mkdir()
    if passwd is not None:
        (tmp_path / "etc/passwd").write_text(passwd)
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        assert inside.home(7, root=root) == home
    finally:
        os.close(root)


def test_home_is_not_read_from_the_host(tmp_path: Path) -> None:
    """A passwd that is a link out of the image, or a fifo that would never be read to its end."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/etc/passwd")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        assert inside.home(0, root=root) == "/"
        (tmp_path / "etc/passwd").unlink()
        os.mkfifo(tmp_path / "etc/passwd")
        assert inside.home(0, root=root) == "/"
    finally:
        os.close(root)
