"""Terminals: the console socket of engines, and a runtime in the foreground of the user's own terminal."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.oci.harness import DEADLINE_S, Box, Running
from tests.oci.terminals import own_terminal, read_until

END = "-- end --"


class Console:
    """The socket on which an engine awaits a terminal's master."""

    def __init__(self, box: Box) -> None:
        self.path = box.directory / "console"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(os.fspath(self.path))
        self.socket.listen(1)
        self.socket.settimeout(DEADLINE_S)

    def master(self) -> int:
        """The descriptor that arrived."""
        connection, _ = self.socket.accept()
        with connection:
            connection.settimeout(DEADLINE_S)
            room = socket.CMSG_LEN(array.array("i", [0]).itemsize)
            _, ancillary, _, _ = connection.recvmsg(4096, room)
        ((level, kind, data),) = ancillary
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        (fd,) = array.array("i", data)
        return fd


@pytest.fixture
def console(box: Box) -> Iterator[Console]:
    box.process["terminal"] = True
    made = Console(box)
    with closing(made.socket):
        yield made


def in_a_terminal(box: Box, console: Console, script: str) -> str:
    box.create("/bin/sh", "-c", f"{script}; echo '{END}'", options=("--console-socket", os.fspath(console.path)))
    master = console.master()
    try:
        box.call("start", box.name).ok()
        return read_until(master, END).partition(END)[0]
    finally:
        os.close(master)


def test_the_three_are_the_terminal(box: Box, console: Console) -> None:
    """Standard input, output and error are one terminal, of the container's own /dev/pts, and it controls."""
    text = in_a_terminal(box, console, "tty; readlink /proc/self/fd/1; readlink /proc/self/fd/2; inside session")
    lines = text.splitlines()
    assert lines[0] in ("/dev/pts/0", "/dev/console")
    assert len(set(lines[:3])) == 1
    assert lines[3].endswith(" tty")


def test_dev_console_is_the_terminal(box: Box, console: Console) -> None:
    text = in_a_terminal(
        box, console, "test -c /dev/console && echo to-console > /dev/console; stat -c %t:%T /dev/console"
    )
    assert text.splitlines() == ["to-console", "88:0"]


def test_size(box: Box, console: Console) -> None:
    box.process["consoleSize"] = {"height": 33, "width": 99}
    assert in_a_terminal(box, console, "stty size") == "33 99\n"


def test_input_and_interrupt(box: Box, console: Console) -> None:
    """What is typed arrives; Ctrl-C is a signal to the foreground."""
    box.create(
        "/bin/sh",
        "-c",
        f"trap 'echo interrupted; echo {END}; exit 3' INT; read word; echo \"[$word]\"; while :; do sleep 0.05; done",
        options=("--console-socket", os.fspath(console.path)),
    )
    master = console.master()
    try:
        box.call("start", box.name).ok()
        os.write(master, b"typed\n")
        read_until(master, "[typed]")
        os.write(master, b"\x03")
        assert "interrupted" in read_until(master, END)
    finally:
        os.close(master)
    box.until_stopped()


def test_a_user_owns_the_terminal(box: Box, console: Console) -> None:
    """Or it could not be opened again, as many programs do."""
    box.process["user"] = {"uid": 1000, "gid": 1000}
    assert in_a_terminal(box, console, "echo again > $(tty); stat -c %u $(tty)") == "again\n1000\n"


def test_exec_with_a_console_socket(box: Box) -> None:
    box.live()
    made = Console(box)
    with closing(made.socket):
        words = ("exec", "--detach", "--tty", "--console-socket", os.fspath(made.path), box.name)
        running = box.begin(*words, "/bin/sh", "-c", f"tty; inside session; echo '{END}'")
        master = made.master()
    try:
        lines = read_until(master, END).splitlines()
    finally:
        os.close(master)
    running.wait().ok()
    assert lines[0].startswith("/dev/pts/")
    assert lines[1].endswith(" tty")


def test_a_terminal_needs_somebody_who_takes_it(box: Box) -> None:
    """create returns: it cannot stay to pass on what is typed."""
    box.process["terminal"] = True
    box.create_again("/bin/true").refused()


def test_a_console_socket_that_nobody_listens_on(box: Box) -> None:
    box.process["terminal"] = True
    box.process["args"] = ["/bin/true"]
    box.save()
    path = box.directory / "nobody"
    box.call("create", "--console-socket", os.fspath(path), "--bundle", os.fspath(box.bundle), box.name).refused()


# ---- in the foreground -----------------------------------------------------------------------------------------------


def foreground(box: Box, slave: int, *words: str) -> Running:
    """A command of the runtime as the foreground of a terminal, which controls it."""
    prefix = ("setsid", "--ctty", "--wait")
    return box.begin(*words, stdin=slave, stdout=slave, stderr=slave, prefix=prefix)


def test_run_with_a_terminal(box: Box) -> None:
    """Bytes go both ways, the status is the container's, the terminal is as it was."""
    box.process["terminal"] = True
    box.process["args"] = ["/bin/sh", "-c", 'tty; read word; echo "[$word]"; exit 5']
    box.save()
    with own_terminal() as (master, slave):
        before = termios.tcgetattr(slave)
        running = foreground(box, slave, "run", "--bundle", os.fspath(box.bundle), box.name)
        text = read_until(master, "/dev/")
        os.write(master, b"typed\n")
        text += read_until(master, "[typed]")
        assert running.wait().status == 5, text
        assert termios.tcgetattr(slave) == before
    assert "/dev/pts/0" in text or "/dev/console" in text


@pytest.mark.deviates("crun", "1.8 does not pass the size on")
def test_the_size_is_the_users(box: Box) -> None:
    """From the first moment: a program asks once."""
    box.process["terminal"] = True
    box.process["args"] = ["/bin/sh", "-c", f"stty size; echo '{END}'"]
    box.save()
    with own_terminal(31, 97) as (master, slave):
        running = foreground(box, slave, "run", "--bundle", os.fspath(box.bundle), box.name)
        assert "31 97" in read_until(master, END)
        running.wait().ok()


@pytest.mark.deviates("crun", "1.8 does not pass the size on")
def test_a_new_size_is_passed_on(box: Box) -> None:
    box.process["terminal"] = True
    script = f"trap 'stty size; echo {END}; exit 0' WINCH; echo waiting; while :; do sleep 0.05; done"
    box.process["args"] = ["/bin/sh", "-c", script]
    box.save()
    with own_terminal() as (master, slave):
        running = foreground(box, slave, "run", "--bundle", os.fspath(box.bundle), box.name)
        read_until(master, "waiting")
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 111, 0, 0))
        assert "44 111" in read_until(master, END)
        running.wait().ok()


def test_control_c_goes_to_the_container(box: Box) -> None:
    """The runtime's side is raw: the key is the container's to interpret."""
    box.process["terminal"] = True
    script = "trap 'echo interrupted; exit 6' INT; echo waiting; while :; do sleep 0.05; done"
    box.process["args"] = ["/bin/sh", "-c", script]
    box.save()
    with own_terminal() as (master, slave):
        running = foreground(box, slave, "run", "--bundle", os.fspath(box.bundle), box.name)
        read_until(master, "waiting")
        os.write(master, b"\x03")
        assert "interrupted" in read_until(master, "interrupted")
        assert running.wait().status == 6


def test_exec_with_a_terminal(box: Box) -> None:
    box.live()
    with own_terminal() as (master, slave):
        running = foreground(box, slave, "exec", "--tty", box.name, "/bin/sh", "-c", "tty; echo out; exit 4")
        text = read_until(master, "out")
        assert running.wait().status == 4
    assert "/dev/pts/" in text


def test_much_output_arrives_whole(box: Box) -> None:
    """The end of the container does not cut off what is still on its way."""
    box.process["terminal"] = True
    box.process["args"] = ["/bin/sh", "-c", f"yes 0123456789 | head -n 20000; echo {END}"]
    box.save()
    with own_terminal() as (master, slave):
        running = foreground(box, slave, "run", "--bundle", os.fspath(box.bundle), box.name)
        text = read_until(master, END)
        running.wait().ok()
    assert text.count("0123456789\n") == 20000
    assert Path(box.bundle).exists()
