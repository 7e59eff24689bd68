"""A terminal in the foreground whose other sides do not read, or go away: nothing hangs, and nothing stays."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.conftest import wait_until
from tests.oci.harness import DEADLINE_S, READY, Box, Running
from tests.oci.terminals import own_terminal, read_until

LINES = 3000
#: It reads nothing, writes much, and says when it is through.
DEAF = f"sleep 0.5; yes line | head -n {LINES}; echo -- end --"


def in_front(box: Box, script: str, **streams: Any) -> Running:
    box.process["terminal"] = True
    box.process["args"] = ["/bin/sh", "-c", script]
    box.save()
    return box.begin("run", "--bundle", os.fspath(box.bundle), box.name, **streams)


@pytest.fixture
def typed() -> Iterator[int]:
    """A pipe full of what a user types: more than a terminal keeps."""
    reader, writer = os.pipe()

    def feed() -> None:
        with suppress(OSError), os.fdopen(writer, "wb") as pipe:
            pipe.write(b"y\n" * 100_000)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    yield reader
    os.close(reader)
    thread.join(DEADLINE_S)


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_program_that_does_not_read_what_is_typed(our_box: Box, typed: int, verb: str) -> None:
    if verb == "run":
        running = in_front(our_box, DEAF, stdin=typed)
    else:
        our_box.live()
        running = our_box.begin("exec", "--tty", our_box.name, "/bin/sh", "-c", DEAF, stdin=typed)
    done = running.wait().ok()
    assert done.out.count("line") == LINES
    assert "-- end --" in done.out


def test_it_is_sent_signals_all_the_same(our_box: Box, typed: int) -> None:
    running = in_front(our_box, f"trap 'exit 9' TERM; echo '{READY}'; while :; do sleep 0.05; done", stdin=typed)
    running.until(READY)
    wait_until(lambda: _waits(typed), DEADLINE_S, what="the terminal takes no more")
    running.child.send_signal(signal.SIGTERM)
    assert running.wait().status == 9
    assert our_box.gone()


def _waits(fd: int) -> bool:
    """Whether what is in the pipe stays there."""
    before = _held(fd)
    threading.Event().wait(0.1)
    return 0 < before == _held(fd)


def _held(fd: int) -> int:
    import fcntl
    import struct
    import termios

    return int(struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0])


def test_all_that_is_typed_arrives(our_box: Box, typed: int) -> None:
    """Also what had to wait, and the end after it."""
    done = in_front(our_box, "stty -echo; sleep 0.3; wc -l", stdin=typed).wait().ok()
    assert done.out.rstrip().endswith("100000")


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_nobody_reads_what_is_said(our_box: Box, verb: str) -> None:
    """As of a full pipe: signals go to the container all the same, and end the wait for a reader of its last words."""
    reader, writer = os.pipe()
    script = "yes & trap 'kill $!; exit 9' TERM; wait"
    try:
        if verb == "run":
            running = in_front(our_box, script, stdout=writer)
        else:
            our_box.live()
            running = our_box.begin("exec", "--tty", our_box.name, "/bin/sh", "-c", script, stdout=writer)
        wait_until(lambda: _held(reader) > 1 << 15 and _waits(reader), DEADLINE_S, what="the pipe is full")

        def ended() -> bool:
            running.child.send_signal(signal.SIGTERM)  # the first for the program, another for its last words
            return running.child.poll() is not None

        wait_until(ended, DEADLINE_S)
        assert running.wait().status == 9
    finally:
        os.close(reader)
        os.close(writer)
    assert our_box.gone() == (verb == "run")


def test_the_last_words_wait_for_their_reader(our_box: Box) -> None:
    reader, writer = os.pipe()
    running = in_front(our_box, f"stty -onlcr; yes word | head -n {LINES * 10}; exit 3", stdout=writer)
    os.close(writer)
    wait_until(lambda: _held(reader) > 1 << 15 and _waits(reader), DEADLINE_S, what="the pipe is full")
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read().count(b"word\n") == LINES * 10
    assert running.wait().status == 3


def test_the_reader_goes_away(our_box: Box) -> None:
    """The program goes on to its end, and the container is removed."""
    reader, writer = os.pipe()
    running = in_front(our_box, f"{DEAF}; touch /tmp/through; exit 5", stdout=writer)
    os.close(writer)
    os.close(reader)
    assert running.wait().status == 5
    assert (our_box.rootfs / "tmp" / "through").exists()
    assert our_box.gone()


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_stream_that_is_closed_from_the_start(our_box: Box, closed: int) -> None:
    prefix = ("/bin/sh", "-c", f'exec {closed}{"<" if closed == 0 else ">"}&-; exec "$@"', "sh")
    our_box.process["terminal"] = True
    our_box.process["args"] = ["/bin/sh", "-c", "echo word; exit 5"]
    our_box.save()
    done = our_box.call("run", "--bundle", os.fspath(our_box.bundle), our_box.name, prefix=prefix)
    assert done.status == 5, done.err
    assert our_box.gone()


def test_the_users_terminal_hangs_up(box: Box) -> None:
    """SIGHUP is the program's to mind; one that goes on is removed at its end."""
    box.process["terminal"] = True
    box.process["args"] = ["/bin/sh", "-c", f"trap '' HUP; echo '{READY}'; sleep 1; yes | head -n {LINES}; exit 5"]
    box.save()
    with own_terminal() as (master, slave):
        prefix = ("setsid", "--ctty", "--wait")
        words = ("run", "--bundle", os.fspath(box.bundle), box.name)
        running = box.begin(*words, stdin=slave, stdout=slave, stderr=slave, prefix=prefix)
        read_until(master, READY)
    wait_until(box.gone, DEADLINE_S)
    running.wait()
