"""One start: marks in any shape, ends of every kind, and what is never lost. Fakes stand for the instance."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tare.bench.errors import Interrupted
from tare.bench.experiments.start import Contract, clock_ns
from tare.bench.experiments.startup import start_and_stop
from tare.bench.experiments.trial import TrialResult
from tare.bench.host.interrupts import Interrupts, TrialTimeout
from tare.bench.readiness.console import Console
from tare.bench.records.readiness import Mark as ByMark
from tare.runners.base import DiskUse, Mark, RunnerError
from tare.runners.launch import drain
from tests.unit.still import Still

CONTRACT = Contract(ready=ByMark(), timeout_s=5.0)


class Fake(Still):
    """An instance whose console says what the test wants."""

    cgroup: Path | None = None

    def __init__(self, console: int, note: str = "") -> None:
        self.console = console
        self.note = note

    def pids(self) -> frozenset[int]:
        return frozenset((os.getpid(),))

    def explain(self) -> str:
        return self.note


def launching(*chunks: bytes, close: bool = False, note: str = "", removed: list[str] | None = None):  # type: ignore[no-untyped-def]
    @contextmanager
    def launch(name: str, mark: Mark) -> Iterator[Fake]:
        reader, writer = os.pipe2(os.O_NONBLOCK)
        try:
            mark("created")
            for chunk in chunks:
                os.write(writer, chunk)
            if close:
                os.close(writer)
            yield Fake(reader, note)
            mark("stopped")
        finally:
            drain.close(reader)
            if not close:
                os.close(writer)
            if removed is not None:
                removed.append(name)

    return launch


def weighed(launch, contract: Contract = CONTRACT) -> TrialResult:  # type: ignore[no-untyped-def]
    with Interrupts() as interrupts:
        return start_and_stop(launch, "x", contract, interrupts=interrupts, cpu_ns=lambda *_cgroups: 5)


def test_a_good_start_has_every_figure_in_order() -> None:
    found = weighed(launching(b"tare first\ntare ready\n"))
    assert found.status == "ok"
    values = found.values
    assert 0 <= values["created_seconds"] <= values["first_seconds"] <= values["ready_seconds"]
    assert 0 <= values["stopped_seconds"] <= values["removed_seconds"]
    assert values["pss_bytes"] > 0
    assert values["cpu_seconds"] == 0.0


@pytest.mark.parametrize(
    "chunks",
    [
        [b"tare fir", b"st\nta", b"re ready\n"],
        [b"[    0.1] kernel noise\r\ntare first\r\ntare ready\r\n"],
        [b"tare first\n", b"\xff\xfe garbage \x00\n", b"tare ready\ntare exit 0\n"],
    ],
)
def test_marks_are_found_in_any_chunks_and_among_other_lines(chunks: list[bytes]) -> None:
    found = weighed(launching(*chunks))
    assert (found.status, "first_seconds" in found.values) == ("ok", True)


def test_a_mark_without_its_line_end_does_not_count() -> None:
    found = weighed(launching(b"tare first\ntare ready", close=True))
    assert found.status == "failed"
    assert "ready_seconds" not in found.values


def test_a_mark_may_follow_what_the_workload_wrote_without_a_line_end() -> None:
    found = weighed(launching(b"loading ...tare first\n12 %", b"tare ready\n"))
    assert (found.status, "first_seconds" in found.values) == ("ok", True)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [b"x" * 64, b"\n" * 64, b"tare " * 16, b"tare ready" * 8, b"tare inside x 1\n" * 8])
def test_however_much_is_written_only_the_end_is_kept(chunk: bytes) -> None:
    console = Console({})
    reader, writer = os.pipe()

    def write() -> None:
        with open(writer, "wb") as file:
            for _ in range(4096):
                file.write(chunk * 64)
            file.write(b"\nthe last\ntare ready\n")

    with ThreadPoolExecutor(1) as pool:
        pool.submit(write)
        assert console.wait(reader, lambda: "ready" in console.stamps, clock_ns() + int(60e9))
    os.close(reader)
    assert console.stamps.keys() == {"ready"}
    assert len(console.end) <= 4000
    assert len(console.told) < 100
    assert console.tail().endswith("the last\ntare ready\n")


def test_a_workload_that_writes_without_end_is_a_timeout_also_where_no_alarm_can_go_off() -> None:
    """As in a batch of starts, which wait in threads."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)

    def write() -> None:
        with suppress(BrokenPipeError):
            while True:
                os.write(writer, b"x" * 65536)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(write)
        with pytest.raises(TrialTimeout):
            Console({}).wait(reader, lambda: False, clock_ns() + int(0.05e9))
        os.close(reader)
    os.close(writer)


def test_the_contract_chooses_the_mark() -> None:
    found = weighed(launching(b"tare first\n"), Contract(ready=ByMark(word="first"), timeout_s=5.0))
    assert found.status == "ok"
    assert found.values["ready_seconds"] == found.values["first_seconds"]


def test_an_early_death_is_a_failure_with_the_backends_words_and_the_console() -> None:
    found = weighed(launching(b"tare first\nno such file\n", close=True, note="exit status 71"))
    assert found.status == "failed"
    assert found.reason == "it ended before it was ready: no 'ready': exit status 71: no such file"
    assert "no such file" in found.console


def test_silence_is_a_timeout_with_the_consoles_tail_and_the_instance_is_removed() -> None:
    removed: list[str] = []
    found = weighed(launching(b"still booting\n", removed=removed), Contract(ready=ByMark(), timeout_s=0.05))
    assert found.status == "timeout"
    assert "no 'ready' within 0.05 s" in found.reason
    assert "still booting" in found.console
    assert removed == ["x"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGALRM])
def test_a_launch_is_never_torn_apart_by_a_signal_and_what_it_made_is_removed(number: signal.Signals) -> None:
    """A machine that libvirt has just started would be known to nobody."""
    done: list[str] = []

    @contextmanager
    def launch(name: str, mark: Mark) -> Iterator[Fake]:
        done.append("made")
        os.kill(os.getpid(), number)
        done.append("noted")
        reader, writer = os.pipe2(os.O_NONBLOCK)
        try:
            yield Fake(reader)
        finally:
            drain.close(reader)
            os.close(writer)
            done.append("removed")

    with Interrupts() as interrupts, suppress(Interrupted):
        found = start_and_stop(
            launch, "x", Contract(ready=ByMark(), timeout_s=0.05), interrupts=interrupts, cpu_ns=None
        )
        assert (number, found.status) == (signal.SIGALRM, "timeout")
    assert done == ["made", "noted", "removed"]
    assert (interrupts.pending is not None) == (number == signal.SIGINT)


def test_a_block_within_a_block_is_the_same_one() -> None:
    with Interrupts() as outer:
        with Interrupts() as inner:
            assert inner is outer
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)  # a second one changes nothing
        with pytest.raises(Interrupted, match="SIGTERM"):
            outer.check()


def test_a_launch_that_took_too_long_is_a_timeout_too() -> None:
    removed: list[str] = []
    wait = launching(removed=removed)

    @contextmanager
    def launch(name: str, mark: Mark) -> Iterator[Fake]:
        with wait(name, mark) as fake:
            time.sleep(0.06)
            yield fake

    assert weighed(launch, Contract(ready=ByMark(), timeout_s=0.05)).status == "timeout"
    assert removed == ["x"]


def test_a_runner_that_fails_is_a_failed_trial_and_not_a_traceback() -> None:
    @contextmanager
    def launch(name: str, mark: Mark) -> Iterator[Fake]:
        raise RunnerError("crun failed", "exit status 1", "install it")
        yield Fake(0)

    found = weighed(launch)
    assert (found.status, found.reason) == ("failed", "crun failed: exit status 1")


def test_a_removal_that_fails_fails_the_trial() -> None:
    @contextmanager
    def launch(name: str, mark: Mark) -> Iterator[Fake]:
        with launching(b"tare ready\n")(name, mark) as instance:
            yield instance
        raise OSError(16, "Device or resource busy", "/sys/fs/cgroup/x")

    found = weighed(launch)
    assert found.status == "failed"
    assert "/sys/fs/cgroup/x" in found.reason


def test_a_signal_ends_the_wait_and_the_instance_is_removed_first() -> None:
    removed: list[str] = []

    @contextmanager
    def launch(name: str, mark: Mark) -> Iterator[Fake]:
        with launching(removed=removed)(name, mark) as instance:
            os.kill(os.getpid(), signal.SIGTERM)
            yield instance

    with pytest.raises(Interrupted, match="SIGTERM"):
        weighed(launch)
    assert removed == ["x"]


def test_a_signal_during_removal_waits_until_the_removal_is_done() -> None:
    done: list[str] = []

    @contextmanager
    def launch(name: str, mark: Mark) -> Iterator[Fake]:
        with launching(b"tare ready\n")(name, mark) as instance:
            yield instance
        os.kill(os.getpid(), signal.SIGINT)
        done.append(name)

    with Interrupts() as interrupts:
        assert start_and_stop(launch, "x", CONTRACT, interrupts=interrupts, cpu_ns=None).status == "ok"
        assert done == ["x"]
        with pytest.raises(Interrupted):
            interrupts.check()


def test_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_how_far_a_guest_is_and_what_its_disk_takes_are_figures_where_they_are_known() -> None:
    class OnDisk(Fake):
        def disk(self) -> DiskUse | None:
            return DiskUse(made_bytes=4096, now_bytes=8192)

    @contextmanager
    def launch(_name: str, mark: Mark) -> Iterator[Fake]:
        reader, writer = os.pipe2(os.O_NONBLOCK)
        for phase in ("provisioned", "firmware", "created", "kernel", "initramfs", "init"):
            mark(phase)
        os.write(writer, b"tare ready\n")
        yield OnDisk(reader)
        mark("stopped")
        drain.close(reader)
        os.close(writer)

    values = weighed(launch).values
    order = ["provisioned", "firmware", "created", "kernel", "initramfs", "init", "ready"]
    assert sorted(order, key=lambda phase: values[f"{phase}_seconds"]) == order
    assert "first_seconds" not in values
    assert (values["provisioned_bytes"], values["disk_bytes"]) == (4096.0, 8192.0)
    assert "disk_bytes" not in weighed(launching(b"tare ready\n")).values
