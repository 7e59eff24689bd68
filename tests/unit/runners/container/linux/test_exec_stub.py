"""The program that executes others: made of bytes, so looked at as what it is, and run."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from tare.runners.container.linux.exec_stub import stub, unnamed_file
from tare.runners.container.setup import child
from tests.unit.runners.container.linux.processor import MACHINES, Processor

CALLS = (
    stub.Call(stub.CAPABILITIES, "prctl", (47, 2, 21, 0, 0)),
    stub.Call(stub.CAPABILITIES, "capset", (b"head", b"sets")),
    stub.Call(stub.FILTER, "seccomp", (1, 6, (b"count...", b"the filter"))),
)


@pytest.mark.parametrize("machine", MACHINES)
def test_image_is_two_segments(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub, "_machine", lambda: machine)
    image = stub.image()
    magic, kind, number, _, entry, headers = struct.unpack_from("<16sHHIQQ", image)
    assert magic == b"\x7fELF\2\1\1" + bytes(9)
    assert (kind, number, headers) == (2, MACHINES[machine].elf, 64)
    load, flags, offset, address, _, size, memory, align = struct.unpack_from("<IIQQQQQQ", image, 64)
    assert (load, offset, size) == (1, 0, memory)
    assert flags == 5, "readable, executable, not writable"
    assert address < entry < address + size <= address + len(image)
    assert entry % 4 == 0, "aarch64 has its instructions at multiples of four"
    load, flags, offset, place, _, size, memory, _ = struct.unpack_from("<IIQQQQQQ", image, 64 + 56)
    assert (load, offset, size, memory) == (1, 0, len(image), len(image))
    assert flags == 6, "readable, writable, not executable"
    assert (address % align, place % align) == (0, 0)
    assert place >= address + align


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_in_order_then_execve(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an emulated processor: the same on both machines, whichever this is."""
    monkeypatch.setattr(stub, "_machine", lambda: machine)
    processor = Processor(machine, stub.image(CALLS, announce=True), stub.words(700, "/bin/x", ("x", "y")))
    processor.run()
    names = [name for name, _ in processor.calls]
    assert names == ["fcntl", "write", "prctl", "capset", "seccomp", "execve"]
    given = [arguments for _, arguments in processor.calls]
    assert given[0][:3] == (700, 2, 1)
    assert given[1][0] == 700
    assert processor.read(given[1][1], 1) == b"0"
    assert given[2] == (47, 2, 21, 0, 0)
    assert [processor.read(at, 4) for at in given[3][:2]] == [b"head", b"sets"]
    assert given[4][:2] == (1, 6)
    pair = processor.read(given[4][2], 16)
    assert pair[:8] == b"count..."
    assert processor.read(int.from_bytes(pair[8:], "little"), 10) == b"the filter"
    path, argv, env = given[5][:3]
    assert processor.text(path) == b"/bin/x"
    assert processor.texts(argv) == [b"x", b"y"]
    assert processor.texts(env) == [b"A=b"]


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("failing", ["fcntl", "prctl", "capset", "seccomp", "execve"])
def test_a_call_that_fails_is_told_and_nothing_is_executed(
    machine: str, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stub, "_machine", lambda: machine)
    processor = Processor(machine, stub.image(CALLS), stub.words(3, "/bin/x", ("x",)))
    processor.answers[failing] = -errno.EPERM
    processor.run()
    names = [name for name, _ in processor.calls]
    assert names[names.index(failing) :] == [failing, "write", "exit_group"]
    report, at, size = processor.calls[-2][1][:3]
    assert (report, size) == (3, 4)
    said = stub.said(processor.read(at, 4), "/bin/x")
    assert said.endswith(os.strerror(errno.EPERM))
    what = {"fcntl": "descriptor", "prctl": "capabilities", "capset": "capabilities", "seccomp": "filter"}
    assert what.get(failing, "execute /bin/x") in said
    assert processor.calls[-1][1][0] == 127


@pytest.mark.parametrize("machine", MACHINES)
def test_who_may_not_even_exit_is_killed(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter may answer exit_group with an error: there is nothing after it that could run."""
    monkeypatch.setattr(stub, "_machine", lambda: machine)
    processor = Processor(machine, stub.image(), stub.words(3, "/bin/x", ("x",)), exits=False)
    processor.answers |= {"execve": -2, "write": -1, "exit_group": -1}
    with pytest.raises(RuntimeError, match="killed"):
        processor.run()


@pytest.mark.parametrize("machine", MACHINES)
def test_a_listener_is_waited_for_without_a_call(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub, "_machine", lambda: machine)
    call = stub.Call(stub.FILTER, "seccomp", (1, 8, (b"count...", b"the filter")), stub.LISTENER)
    processor = Processor(machine, stub.image((call,)), stub.words(3, "/bin/x", ("x",)))
    processor.answers["seccomp"] = 9
    processor.run(most=5000)
    assert [name for name, _ in processor.calls] == ["fcntl", "seccomp"], "it waits"
    assert processor.read(stub.LISTENER_AT, 4) == (9 + 1).to_bytes(4, "little")
    processor.write(stub.GO_AT, b"\1\0\0\0")
    processor.resume()
    assert [name for name, _ in processor.calls][2:] == ["execve"]


def test_unknown_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stub, "_machine", lambda: "vax")
    assert "vax" in stub.why_not()
    with pytest.raises(OSError, match="vax"):
        stub.make()


def test_file_is_sealed() -> None:
    fd = unnamed_file.file(b"data", least=20)
    try:
        assert fd >= 20
        assert not os.get_inheritable(fd)
        assert os.pread(fd, 9, 0) == b"data"
        for attempt in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0)):
            with pytest.raises(PermissionError):
                attempt()
    finally:
        os.close(fd)


def executed(path: str, *argv: str, calls: tuple[stub.Call, ...] = (), **env: str) -> tuple[int, bytes, bytes]:
    """Execute a program through the stub: its exit status, what it printed, what came over the report pipe."""
    out, out_in = os.pipe()
    report, report_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(out_in, 1)
            os.set_inheritable(report_in, True)
            os.execve(stub.make(calls), stub.words(report_in, path, argv), env)
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


@pytest.mark.skipif(bool(stub.why_not()), reason="no stub for this machine")
def test_calls_are_made_by_the_kernel() -> None:
    """no_new_privs, then an error of the kernel's: a filter without instructions."""
    quiet = stub.Call(stub.CAPABILITIES, "prctl", (38, 1, 0, 0, 0))
    nothing = stub.Call(stub.FILTER, "seccomp", (1, 0, (bytes(8), b"x" * 8)))
    grep = ("grep", "-c", "NoNewPrivs:\t1", "/proc/self/status")
    assert executed("/bin/grep", *grep, calls=(quiet,)) == (0, b"1\n", b"")
    status, text, said = executed("/bin/grep", *grep, calls=(quiet, nothing))
    assert (status, text) == (127, b"")
    assert stub.said(said, "/bin/grep") == f"cannot filter system calls: {os.strerror(errno.EINVAL)}"


def test_a_listener_that_nobody_takes_is_told() -> None:
    said = stub.said(struct.pack("=I", stub.FILTER << 16 | errno.ETIMEDOUT), "/bin/x")
    assert "nobody took the listener" in said


@pytest.mark.parametrize("number", [0, 3, 254, 255, 256, 5000, 65024])
def test_every_descriptor_has_two_bytes_none_of_them_zero(number: int) -> None:
    high, low = stub.words(number, "/x", ())[0]
    assert min(high, low) > 0
    assert (high - 1) * 255 + low - 1 == number


@pytest.mark.parametrize("number", [-1, 65025])
def test_a_descriptor_that_is_too_large_is_refused(number: int) -> None:
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
    assert child.find("x", search) == second
    with pytest.raises(FileNotFoundError, match=r"y: executable file not found in \$PATH"):
        child.find("y", search)
    with pytest.raises(PermissionError, match="x cannot be executed"):
        child.find("x", f"{one}")


def test_a_name_with_a_slash_is_not_searched(tmp_path: Path) -> None:
    path = tool(tmp_path / "bin", "x")
    assert child.find(path, "") == path
    with pytest.raises(FileNotFoundError, match="No such file"):
        child.find(f"{path}y", "")
    with pytest.raises(PermissionError):
        child.find(str(tmp_path), "")


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
        assert child.home(7, root=root) == home
    finally:
        os.close(root)


def test_home_is_not_of_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's directory is entered before: a file below it is nobody's passwd."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/nowhere:/bin/sh\n")
    monkeypatch.chdir(tmp_path)
    assert child.home(0) == Path("~root").expanduser().as_posix()


def test_mode_bits_do_not_overrule_a_capability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the C library has no faccessat2(2), it knows of no capabilities; execve does."""
    path = tool(tmp_path / "bin", "x", 0o100)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(PermissionError):
        child.find(path, "")
    assert child.find(path, "", overrides=True) == path
    with pytest.raises(PermissionError):
        child.find(tool(tmp_path / "bin", "y", 0o600), "", overrides=True)


def test_home_is_not_read_from_the_host(tmp_path: Path) -> None:
    """A passwd that is a link out of the image, or a fifo that would never be read to its end."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").symlink_to("/etc/passwd")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        assert child.home(0, root=root) == "/"
        (tmp_path / "etc/passwd").unlink()
        os.mkfifo(tmp_path / "etc/passwd")
        assert child.home(0, root=root) == "/"
    finally:
        os.close(root)
