"""The first serial port: how far a guest is by what it says, and who hears it."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tare.runners.launch.drain import Tail
from tare.runners.vm.serial import FirstPort, Timeline

BIOS = (
    b"\x1bc\x1b[?7l\x1b[2J\x1b[0mSeaBIOS (version 1.16.2-debian-1.16.2-1)\r\nBooting from Hard Disk...\r\n",
    b"SYSLINUX 6.04 EDD 20210613\r\nLoading /vmlinuz... ok\r\n",
    b"[    0.000000] Linux version 6.1.0-56-cloud-amd64 (debian-kernel@lists.debian.org)\r\n",
    b"Loading, please wait...\r\nBegin: Mounting root file system ... done.\r\n",
    b"\r\nWelcome to \x1b[1mDebian GNU/Linux 12 (bookworm)\x1b[0m!\r\n\r\n",
    b"Debian GNU/Linux 12 tare ttyS0\r\n\r\ntare login: ",
)
EFI = (
    b'BdsDxe: loading Boot0001\r\nBdsDxe: starting Boot0001 "UEFI Misc Device"\r\n',
    b"EFI stub: Loaded initrd\r\n[    0.000000] Linux version 6.12\r\n",
    b"Welcome to \x1b[0;34mFedora Linux (Initramfs)\x1b[0m!\r\n",
    b"Welcome to \x1b[0;34mFedora Linux\x1b[0m!\r\n",
)
OURS = (b"[    0.0] Linux version 6.1.0\n", b"tare init: initramfs\n", b"tare init: root\n")
ALL = ["firmware", "kernel", "initramfs", "init"]


def phases(*chunks: bytes) -> list[str]:
    found: list[str] = []
    timeline = Timeline(found.append)
    for chunk in chunks:
        timeline.read(chunk)
    return found


@pytest.mark.parametrize(
    ("chunks", "expected"), [(BIOS, ALL), (EFI, ALL), (OURS, ALL[1:]), ((b"tare ready\n",), [])], ids=str
)
def test_each_phase_is_told_once_in_order_however_the_text_is_cut(
    chunks: tuple[bytes, ...], expected: list[str]
) -> None:
    assert phases(*chunks, *chunks) == expected
    assert phases(b"".join(chunks)) == expected
    assert phases(*(bytes([letter]) for letter in b"".join(chunks))) == expected


def test_what_comes_before_its_time_is_no_phase_again() -> None:
    assert phases(BIOS[4], BIOS[0], BIOS[2]) == ["init"]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[tuple[FirstPort, socket.socket, list[bytes], Tail]]:
    """A port, QEMU's end of it, what its sink got, and its tail."""
    heard: list[bytes] = []
    tail = Tail(100)
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        made = FirstPort(listener, heard.append, tail)
        stack.callback(os.close, made.console)
        stack.callback(made.close)
        guest = stack.enter_context(socket.socket(socket.AF_UNIX))
        guest.connect(str(tmp_path / "s"))
        yield made, guest, heard, tail


def received(fd: int) -> bytes:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(5000)
    return os.read(fd, 100)


def test_what_a_guest_says_is_told_kept_and_passed_on(
    port: tuple[FirstPort, socket.socket, list[bytes], Tail],
) -> None:
    made, guest, heard, tail = port
    guest.sendall(b"login: ")
    assert received(made.console) == b"login: "
    assert (heard, tail.text()) == ([b"login: "], "login: ")
    made.send(b"\r")
    assert guest.recv(10) == b"\r"
    made.heard()
    assert received(made.console) == b"\ntare ready\n"
    guest.close()
    assert received(made.console) == b"", "its end is the end of the console"


def test_a_reader_that_does_not_read_holds_up_nobody(
    port: tuple[FirstPort, socket.socket, list[bytes], Tail],
) -> None:
    _, guest, _, tail = port
    guest.settimeout(10)
    guest.sendall(b"x" * (1 << 20) + b"end")
    guest.shutdown(socket.SHUT_WR)
    assert guest.recv(1) == b""
    assert tail.text().endswith("end")


def test_a_port_that_nobody_connects_to_is_closed_all_the_same(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen(1)
        made = FirstPort(listener, lambda _: None, Tail(10))
        made.send(b"\r")
        made.close()
        assert os.read(made.console, 1) == b""
        os.close(made.console)
