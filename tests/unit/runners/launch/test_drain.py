"""What nobody waits for is read all the same, and by nobody else than its own sink."""

from __future__ import annotations

import os
import socket
import threading

from tare.runners.launch import drain
from tests.conftest import wait_until


def pipe() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return reader, writer


def test_a_writer_never_waits_and_the_end_is_kept() -> None:
    reader, writer = pipe()
    tail = drain.Tail(1000)
    drain.take(reader, tail.keep)
    for _ in range(256):
        os.write(writer, b"x" * 65536)
    os.write(writer, b"the end")
    drain.catch_up(reader)
    os.close(writer)
    drain.close(reader)
    assert tail.text() == "x" * 993 + "the end"


def test_many_are_read_at_once_each_for_its_own_sink() -> None:
    seen: dict[int, bytes] = {}
    pairs = [pipe() for _ in range(50)]

    def sink(number: int) -> drain.Sink:
        def keep(data: bytes) -> None:
            seen[number] = seen.get(number, b"") + data

        return keep

    for number, (reader, _) in enumerate(pairs):
        drain.take(reader, sink(number))
    for number, (_, writer) in enumerate(pairs):
        os.write(writer, str(number).encode())
    for reader, writer in pairs:
        drain.catch_up(reader)
        os.close(writer)
        drain.close(reader)
    assert seen == {number: str(number).encode() for number in range(50)}


def test_a_number_that_is_used_again_is_nobody_elses() -> None:
    """Another's descriptor has the number as soon as one is closed; what is written there is for its reader alone."""
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            reader, writer = pipe()
            drain.take(reader, lambda _: None)
            os.write(writer, b"y" * 100)
            os.close(writer)
            drain.close(reader)

    threads = [threading.Thread(target=churn) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2000):
            reader, writer = os.pipe()
            os.write(writer, b"mine")
            assert os.read(reader, 10) == b"mine"
            os.close(writer)
            os.close(reader)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_an_end_is_let_go_of_and_a_reset_is_an_end() -> None:
    reader, writer = pipe()
    drain.take(reader, lambda _: None)
    os.close(writer)
    wait_until(lambda: reader not in drain._the()._sinks, 10)
    drain.close(reader)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    ours.send(b"unread: so its close is a reset for us")
    drain.take(ours.fileno(), lambda _: None)
    theirs.close()
    wait_until(lambda: ours.fileno() not in drain._the()._sinks, 10)
    drain.close(ours.detach())


def test_what_was_never_taken_is_closed_too() -> None:
    reader, writer = pipe()
    drain.close(reader)
    drain.catch_up(reader)
    try:
        os.write(writer, b"x")
    except BrokenPipeError:
        pass
    else:
        raise AssertionError("it is still open")
    finally:
        os.close(writer)
