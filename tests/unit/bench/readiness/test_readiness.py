"""Each contract of readiness with an instance that a test makes up: no runner, no container."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tare.bench import readiness
from tare.bench.host.interrupts import TrialTimeout
from tare.bench.readiness import listeners
from tare.bench.readiness.connection import connected
from tare.bench.readiness.console import Console, clock_ns
from tare.bench.readiness.prober import probe
from tare.bench.records.readiness import Exec, Exit, Http, Line, Mark, Ready, Tcp
from tare.runners.base import Address

LONG_S = 20.0
#: Enough for some attempts, on a busy host too.
SHORT_S = 1.0


@dataclass
class Fake:
    """An instance that says, and answers, what the test wants."""

    console: int
    ports: dict[int, int] = field(default_factory=dict)
    ends: Callable[[], int | None] = lambda: None
    argv: tuple[str, ...] = ()
    cgroup: Path | None = None

    def pids(self) -> frozenset[int]:
        return frozenset()

    def explain(self) -> str:
        return ""

    def reclaim(self, size_bytes: int) -> None:
        raise AssertionError("nobody asked for memory")

    def address(self) -> Address:
        return Address(how="a test", ports=self.ports)

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        return self.argv or argv

    def status(self) -> int | None:
        return self.ends()


@contextmanager
def starting(**about: object) -> Iterator[tuple[Callable[..., readiness.Waited], int]]:
    """What makes a wait, and the end of the console on which the test writes; it is closed by the test, or here."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    fake = Fake(reader, **about)  # type: ignore[arg-type]

    def make(limit_s: float = LONG_S, *, marks: bool = False) -> readiness.Waited:
        console = Console({}, marks=marks)
        return readiness.Waited(instance=fake, console=console, deadline_ns=clock_ns() + int(limit_s * 1e9))

    try:
        yield make, writer
    finally:
        os.close(reader)


@contextmanager
def later(*acts: Callable[[], object], after_s: float = 0.03) -> Iterator[None]:
    """Do *acts* in another thread, each a moment after the one before."""

    def run() -> None:
        for act in acts:
            threading.Event().wait(after_s)
            act()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def serving(answer: bytes, family: socket.AddressFamily = socket.AF_INET) -> Iterator[int]:
    """A server on a free port of the loopback, which answers each connection with *answer*."""
    where = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((where, 0), family=family) as listener:

        def run() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with closing(client):
                    client.recv(4096)
                    client.sendall(answer)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_each_contract_has_a_module() -> None:
    for asked in (Mark(), Line(pattern="x"), Tcp(port=1), Http(port=1), Exec(argv=("x",)), Exit()):
        assert readiness.load(asked).PERIOD_S >= 0


def test_a_mark_is_seen_and_its_word_is_the_phase() -> None:
    with starting() as (make, writer), later(lambda: os.write(writer, b"tare fir"), lambda: os.write(writer, b"st\n")):
        start = make(marks=True)
        assert readiness.wait(Mark(word="first"), start)
        assert start.stamps.keys() == {"first"}
        os.close(writer)


@pytest.mark.parametrize(
    "chunks",
    [[b"noise\nlisten", b"ing on port 80\nmore\n"], [b"listening on port 80\r\n"], [b"x\n\n", b"listening on port"]],
)
def test_a_line_is_found_however_it_is_cut(chunks: list[bytes]) -> None:
    with starting() as (make, writer):
        acts = [lambda chunk=chunk: os.write(writer, chunk) for chunk in chunks]
        with later(*acts, lambda: os.close(writer)):
            start = make()
            found = readiness.wait(Line(pattern="^listening on port 80$|port 80\\b"), start)
        assert found == (chunks[-1] != b"listening on port"), "what has no end is no line"
        assert (readiness.READY in start.stamps) == found


def test_a_prompt_is_a_line_that_nobody_completes() -> None:
    with starting() as (make, writer):
        start = make()
        with later(lambda: os.write(writer, b"Debian\n\nhost log"), lambda: os.write(writer, b"in: ")):
            assert readiness.wait(Line(pattern="login: "), start)
        os.close(writer)


@pytest.mark.parametrize("pattern", ["ready$", r"ready\b", "ready(?! for nothing)", r"ready\Z"])
def test_a_pattern_that_more_of_the_line_could_refute_waits_for_its_end(pattern: str) -> None:
    with starting() as (make, writer):
        start = make()
        with later(lambda: os.write(writer, b"ready"), lambda: os.write(writer, b" for nothing\nready\n")):
            assert readiness.wait(Line(pattern=pattern), start)
        assert start.console.end.endswith(b"ready\n")
        os.close(writer)


def test_marks_mean_nothing_to_another_contract() -> None:
    with starting() as (make, writer):
        os.write(writer, b"tare ready\n")
        with pytest.raises(TrialTimeout):
            readiness.wait(Line(pattern="nothing like it"), make(0.05))
        os.close(writer)


def test_a_port_is_tried_until_it_accepts() -> None:
    port = free_port()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with closing(listener), starting(ports={80: port}) as (make, writer):
        start = make()
        with later(lambda: listener.bind(("127.0.0.1", port)), listener.listen):
            assert readiness.wait(Tcp(port=80), start)
        assert start.attempts > 1
        assert start.attempt_s > 0
        os.close(writer)


def test_a_socket_never_connects_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would, from the port to the port: nobody listens there, and yet it is accepted."""
    port = free_port()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.bind(("127.0.0.1", port))
        assert client.connect_ex(("127.0.0.1", port)) == 0, "this is what the module is about"
    given = iter([port, 0])
    bind = socket.socket.bind

    class Biased(socket.socket):
        def bind(self, address: Any, /) -> None:
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bind(self, (address[0], next(given)))

    monkeypatch.setattr(socket, "socket", Biased)
    with pytest.raises(ConnectionRefusedError), connected("127.0.0.1", port, 1):
        pass
    assert list(given) == []


@pytest.mark.parametrize(
    ("answer", "code", "ready", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, True, ""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, True, ""),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 200, False, "it answered with status 503"),
        (b"SSH-2.0-OpenSSH\r\n", 200, False, "no answer of HTTP"),
    ],
)
def test_a_request_must_have_the_status(answer: bytes, code: int, ready: bool, why: str) -> None:
    with serving(answer) as port, starting() as (make, writer):
        start = make(LONG_S if ready else SHORT_S)
        if ready:
            assert readiness.wait(Http(port=port, code=code), start)
        else:
            with pytest.raises(TrialTimeout):
                readiness.wait(Http(port=port, code=code), start)
            assert why in start.last_words
        os.close(writer)


def test_a_port_of_ipv6_alone_is_named_at_the_deadline() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this host has no IPv6")
    with serving(b"", socket.AF_INET6) as port, starting() as (make, writer):
        start = make(SHORT_S)
        with pytest.raises(TrialTimeout):
            readiness.wait(Tcp(port=port), start)
        assert f"it listens on port {port} of IPv6 alone" in start.last_words
        os.close(writer)


def test_listeners_are_read_from_the_kernels_table() -> None:
    text = (
        "  sl  local_address rem_address   st tx_queue\n"
        "   0: 0100007F:1FBB 00000000:0000 0A 00000000:00000000\n"
        "   1: 0100007F:0050 0100007F:C350 01 00000000:00000000\n"
    )
    assert listeners.ports(text) == {8123}


def test_a_command_may_fail_first(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with starting(argv=("test", "-e", str(mark))) as (make, writer), later(mark.touch):
        start = make()
        assert readiness.wait(Exec(argv=("whatever",)), start)
        assert start.attempts > 1
        os.close(writer)


def test_a_command_that_never_succeeds_is_quoted() -> None:
    with starting(argv=("sh", "-c", "echo not yet >&2; exit 3")) as (make, writer):
        start = make(SHORT_S)
        with pytest.raises(TrialTimeout):
            readiness.wait(Exec(argv=("whatever",)), start)
        assert start.last_words == "the command ended with status 3: not yet"
        os.close(writer)


def test_a_command_that_fails_and_then_hangs_is_quoted(tmp_path: Path) -> None:
    """The deadline cuts the last attempt, which says nothing; what an earlier one said is the reason."""
    script = f"test -e {tmp_path}/again && exec sleep 100; : > {tmp_path}/again; echo not yet >&2; exit 3"
    with starting(argv=("sh", "-c", script)) as (make, writer):
        start = make(1.0)
        with pytest.raises(TrialTimeout):
            readiness.wait(Exec(argv=("whatever",)), start)
        assert start.last_words == "the command ended with status 3: not yet"
        assert start.attempts == 2
        os.close(writer)


def test_a_command_that_only_hangs_is_named() -> None:
    with starting(argv=("sleep", "100")) as (make, writer):
        start = make(SHORT_S)
        with pytest.raises(TrialTimeout):
            readiness.wait(Exec(argv=("whatever",)), start)
        assert start.last_words == "the command did not end"
        os.close(writer)


@pytest.mark.parametrize(("ended", "wanted", "ready"), [(0, 0, True), (7, 7, True), (1, 0, False), (137, 0, False)])
def test_an_end_has_a_status(ended: int, wanted: int, ready: bool) -> None:
    with starting(ends=lambda: ended) as (make, writer):
        os.write(writer, b"the last words\n")
        os.close(writer)
        start = make()
        assert readiness.wait(Exit(code=wanted), start) == ready
        assert (readiness.READY in start.stamps) == ready
        assert (f"status {ended}" in start.last_words) == (not ready)
        assert start.console.said() == "the last words"


def test_an_end_whose_output_somebody_holds_has_no_time() -> None:
    with starting(ends=lambda: 0) as (make, writer):
        start = make()
        assert not readiness.wait(Exit(), start)
        assert "holds its output" in start.last_words
        os.close(writer)


def test_who_closes_the_console_and_runs_on_may_still_get_ready() -> None:
    port = free_port()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with closing(listener), starting() as (make, writer):
        os.close(writer)
        with later(lambda: listener.bind(("127.0.0.1", port)), listener.listen):
            assert readiness.wait(Tcp(port=port), make())


def test_who_ends_before_is_not_ready_whoever_answers() -> None:
    """As a server that goes into the background: where its console stays open, its end is asked for."""
    with serving(b"") as port, starting(ends=lambda: 0) as (make, writer):
        start = make()
        assert not readiness.wait(Tcp(port=port), start)
        assert readiness.READY not in start.stamps
        os.close(writer)


@pytest.mark.parametrize("asked", [Mark(), Line(pattern="x"), Tcp(port=1), Http(port=1), Exit()])
def test_silence_ends_at_the_deadline(asked: Ready) -> None:
    with starting() as (make, writer):
        with pytest.raises(TrialTimeout):
            readiness.wait(asked, make(0.05))
        os.close(writer)


def test_what_was_said_is_read_although_the_wait_is_over() -> None:
    """A wait that asks for the instance's end can see it before it has read the last words."""
    with starting() as (make, writer):
        start = make()
        os.write(writer, b"no configuration found\n")
        start.console.catch_up(start.instance.console)
        assert start.console.said() == "no configuration found"
        start.console.catch_up(start.instance.console)
        os.close(writer)
        start.console.catch_up(start.instance.console)
        assert start.console.said() == "no configuration found"


def test_one_that_writes_without_end_is_not_read_for_ever() -> None:
    with starting() as (make, writer):
        start = make()
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                with suppress(BlockingIOError):
                    os.write(writer, b"x" * 65536)

        thread = threading.Thread(target=write)
        thread.start()
        start.console.catch_up(start.instance.console)
        stop.set()
        thread.join()
        os.close(writer)


@pytest.mark.parametrize(
    ("before", "said"),
    [(("Connection refused",), "Connection refused"), ((), "timed out")],
    ids=("refused before", "never answered, as behind a packet filter"),
)
def test_an_attempt_that_the_deadline_ends_does_not_hide_why_those_before_failed(
    before: tuple[str, ...], said: str
) -> None:
    words = iter(before)

    def attempt(left_s: float) -> str | None:
        for why in words:
            return why
        threading.Event().wait(left_s)
        raise TimeoutError("timed out")

    with starting() as (make, writer):
        start = make(0.2)
        with pytest.raises(TrialTimeout):
            probe(start, attempt, address=None, period_s=0.0)
        assert start.last_words == said
        os.close(writer)
