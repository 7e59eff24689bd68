"""The host's end of a serial line: askers come one after the other, and what one left is not the next one's."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tare.runners.guest import inside
from tare.runners.guest.relay import Relay
from tare.runners.image.cache import cache_dir

pytestmark = pytest.mark.compiler
STATUS, OUTPUT, IDLE, MORE = 0, 1, 3, 4


class Guest:
    """The other end, played: it answers what a test tells it to."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.line.settimeout(20)

    def asked(self) -> tuple[int, list[str]]:
        """The number and the words of the next request."""
        magic, number, length = struct.unpack("=4sII", self.exactly(12))
        assert magic == b"TARE"
        return number, self.exactly(length).decode().split("\0")[:-1]

    def tell(self, number: int, what: int, content: bytes = b"") -> None:
        self.line.sendall(struct.pack("=4sIII", b"TARE", number, what, len(content)) + content)

    def end(self, number: int, status: int) -> None:
        """End a command, and answer the relay's question that follows."""
        self.tell(number, STATUS, struct.pack("=I", status))
        self.let_go()

    def let_go(self) -> None:
        number, words = self.asked()
        assert (number > 0, words) == (True, [])
        self.tell(number, IDLE)

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.line.recv(size - len(data))
            assert more
            data += more
        return data


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Relay, Guest]]:
    ours, theirs = socket.socketpair()
    relay = Relay(ours, tmp_path / "control")
    relay.open()
    relay.open()
    with theirs:
        yield relay, Guest(theirs)
        relay.close()
    assert not (tmp_path / "control").exists()
    assert "relay" not in {thread.name for thread in threading.enumerate()}


def ask(relay: Relay, *words: str) -> subprocess.Popen[bytes]:
    words = (str(inside.asker(cache_dir())), str(relay.control), *words)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_request_waits_until_the_guest_listens_and_is_answered(pair: tuple[Relay, Guest]) -> None:
    relay, guest = pair
    for status in (7, 0):
        with ask(relay, "echo", "a b") as asker:
            if status:
                guest.tell(0, IDLE)
            number, words = guest.asked()
            guest.tell(number, OUTPUT, b"out")
            guest.end(number, status)
            out, error = asker.communicate(timeout=20)
        assert (words, out, error, asker.returncode) == (["echo", "a b"], b"out", b"", status)


def test_of_one_that_was_killed_the_guest_is_told_and_the_next_gets_nothing(pair: tuple[Relay, Guest]) -> None:
    relay, guest = pair
    guest.tell(0, IDLE)
    with ask(relay, "first") as asker:
        number, _ = guest.asked()
        asker.kill()
    guest.tell(number, OUTPUT, b"x" * 5000)
    guest.line.sendall(b"TARE and a part of an answer")
    guest.let_go()
    with ask(relay, "second") as asker:
        number, words = guest.asked()
        guest.end(number, 3)
        assert (words, asker.communicate(timeout=20)) == (["second"], (b"", b""))
    assert asker.returncode == 3


def test_a_long_request_comes_in_slices_that_the_guest_asks_for(pair: tuple[Relay, Guest]) -> None:
    relay, guest = pair
    guest.tell(0, IDLE)
    with ask(relay, "x" * 5000) as asker:
        request = guest.exactly(2048)
        number = struct.unpack_from("=I", request, 4)[0]
        for size in (2048, 12 + 5001 - 4096):
            guest.line.settimeout(0.2)
            with pytest.raises(TimeoutError):
                guest.line.recv(1)
            guest.line.settimeout(20)
            guest.tell(number, MORE)
            request += guest.exactly(size)
        assert request[12:] == b"x" * 5000 + b"\0"
        guest.end(number, 0)
    assert asker.returncode == 0


def test_a_part_of_a_request_never_reaches_the_guest(pair: tuple[Relay, Guest]) -> None:
    relay, guest = pair
    guest.tell(0, IDLE)
    with socket.socket(socket.AF_UNIX) as broken:
        broken.connect(str(relay.control))
        broken.sendall(struct.pack("=4sII", b"TARE", 1, 100) + b"only this")
    guest.let_go()


def test_the_end_of_the_machine_is_the_askers(pair: tuple[Relay, Guest]) -> None:
    relay, guest = pair
    guest.tell(0, IDLE)
    with ask(relay, "true") as asker:
        guest.asked()
        guest.line.close()
        assert b"has ended" in asker.communicate(timeout=20)[1]
    assert asker.returncode == 125
    with ask(relay, "true") as late:
        late.communicate(timeout=20)
    assert late.returncode == 125


def test_an_asker_that_waits_does_not_hold_up_the_end(pair: tuple[Relay, Guest]) -> None:
    relay, guest = pair
    guest.tell(0, IDLE)
    with ask(relay, "true") as asker:
        guest.asked()
        relay.close()
        assert asker.wait(20) == 125


def test_a_line_that_nobody_asks_by_has_no_thread_and_no_socket(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    relay = Relay(ours, tmp_path / "control")
    assert "relay" not in {thread.name for thread in threading.enumerate()}
    relay.close()
    theirs.close()
    assert list(tmp_path.iterdir()) == []
