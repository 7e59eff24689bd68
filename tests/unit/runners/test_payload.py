"""The payload as a program: what its words make it do."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from tare.runners import payload
from tare.runners.base import RunnerError
from tests.conftest import wait_until

#: How long the payload is watched. Its share is of its own accounting, so that a busy host only lowers it.
WATCHED_S = 3.0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return payload.binary(tmp_path_factory.mktemp("payload"))


@contextmanager
def ready(program: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The payload with *words*, once it said that it is ready."""
    with subprocess.Popen([program, *words], stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            assert [started.stdout.readline() for _ in range(2)] == ["tare first\n", "tare ready\n"]
            yield started
        finally:
            started.kill()


def cpu_s(pid: int) -> float:
    """Processor time of a process (proc_pid_stat(5): utime, stime)."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def readable_bytes(descriptor: int) -> int:
    """How much a read would find (ioctl_tty(2), FIONREAD, which pipe(7) has, too)."""
    return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0])


def test_only_what_is_wished_for_becomes_a_word() -> None:
    assert payload.Payload().arguments() == ("then=pause",)
    assert payload.Payload(busy_percent=20, touch_mib=3).arguments() == ("touch-mib=3", "busy-percent=20", "then=pause")


@pytest.mark.compiler
def test_it_writes_what_it_is_told_to_before_it_is_ready(program: Path) -> None:
    done = subprocess.run(
        [program, *payload.Payload(out_kib=100, err_kib=200, exit_code=0).arguments()],
        capture_output=True,
        check=True,
        timeout=10,
    )
    assert len(done.stderr) == 200 << 10
    assert done.stdout.startswith(b"tare first\nxxx")
    assert done.stdout.endswith(b"x\ntare ready\ntare exit 0\n")
    assert done.stdout.count(b"x\n") == 100 * 16


@pytest.mark.compiler
def test_it_writes_all_to_a_stream_that_does_not_block(program: Path) -> None:
    """As some engines hand them on; whoever set the flag set it for all that have the stream."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    words = payload.Payload(out_kib=300, exit_code=0).arguments()
    with subprocess.Popen([program, *words], stdout=writer) as started, open(reader, "rb") as stream:
        os.close(writer)
        wait_until(lambda: readable_bytes(reader) >= 60_000, 10, what="a full pipe")
        assert started.poll() is None
        assert len(stream.read()) == (300 << 10) + len("tare first\ntare ready\ntare exit 0\n")
    assert started.returncode == 0


@pytest.mark.compiler
def test_a_flood_goes_on_until_it_is_told_to_end(program: Path) -> None:
    with subprocess.Popen(
        [program, *payload.Payload(floods=True).arguments()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as started:
        assert started.stdout is not None
        assert len(started.stdout.read(1 << 24)) == 1 << 24
        started.terminate()
        assert started.stdout.read().endswith(b"tare exit 0\n")
        assert started.wait(timeout=10) == 0


@pytest.mark.compiler
@pytest.mark.parametrize(("percent", "low", "high"), [(20, 0.10, 0.30), (0, 0.0, 0.02)])
def test_it_uses_its_share_of_a_processor_and_ends_when_told(
    program: Path, percent: int, low: float, high: float
) -> None:
    with ready(program, *payload.Payload(busy_percent=percent).arguments()) as started:
        before, began = cpu_s(started.pid), time.monotonic()
        time.sleep(WATCHED_S)
        used, took = cpu_s(started.pid) - before, time.monotonic() - began
        started.terminate()
        rest, _ = started.communicate(timeout=10)
    assert low <= used / took <= high
    assert (started.returncode, rest) == (0, "tare exit 0\n")


@pytest.mark.compiler
@pytest.mark.parametrize("percent", [1, 100])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_busy_one_ends_by_a_signal_even_without_a_pause(program: Path, percent: int, number: signal.Signals) -> None:
    with ready(program, f"busy-percent={percent}") as started:
        started.send_signal(number)
        rest, _ = started.communicate(timeout=10)
    assert (started.returncode, rest) == (0, "tare exit 0\n")


@pytest.mark.compiler
def test_stopping_and_continuing_it_is_no_reason_to_end(program: Path) -> None:
    with ready(program, "busy-percent=1") as started:
        for number in (signal.SIGSTOP, signal.SIGCONT) * 3:
            started.send_signal(number)
            time.sleep(0.05)
        assert started.poll() is None
        started.terminate()
        assert started.wait(timeout=10) == 0


@pytest.mark.compiler
@pytest.mark.parametrize("word", ["busy-percent=101", "busy-percent=-1", "busy-percent=x", "busy-percent=", "busy=5"])
def test_a_share_that_cannot_be_meant_is_refused(program: Path, word: str) -> None:
    done = subprocess.run([program, word], capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 64
    assert f"cannot read '{word}'" in done.stderr
    assert "busy-percent=N" in done.stderr


def compiler(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "cc").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "cc").chmod(0o755)


@pytest.mark.parametrize(
    ("text", "why", "fix"),
    [
        ("echo 'cc1: No space left on device' >&2; exit 1", "No space left", "make room in "),
        ("printf 'cannot find -lc \\377' >&2; exit 1", "cannot find -lc", "install libc6-dev"),
        ("sleep 600", "timed out", "install gcc again"),
    ],
)
def test_a_compiler_that_fails_is_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str, fix: str
) -> None:
    compiler(tmp_path / "bin", text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(payload, "_COMPILER_S", 1 if "sleep" in text else 60)
    with pytest.raises(RunnerError) as caught:
        payload.binary(tmp_path / "cache")
    assert why in caught.value.why
    assert caught.value.fix.startswith(fix)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("cache", ["/proc/nope", "/dev/null", "/dev/null/below"])
def test_a_cache_that_cannot_be_is_a_reason(cache: str) -> None:
    with pytest.raises(RunnerError) as caught:
        payload.binary(Path(cache))
    assert cache in caught.value.what
    assert "TARE_CACHE" in caught.value.fix


def rollup_kib(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


@pytest.mark.compiler
@pytest.mark.parametrize(
    ("release", "resident", "lazy"), [(False, True, False), (True, False, False), ("lazily", True, True)]
)
def test_what_was_touched_stays_goes_or_is_left_to_the_kernel(
    program: Path, release: bool | Literal["lazily"], resident: bool, lazy: bool
) -> None:
    with ready(program, *payload.Payload(touch_mib=8, release=release).arguments()) as started:
        assert (rollup_kib(started.pid, "Rss") >= 8 << 10) == resident
        freed = rollup_kib(started.pid, "LazyFree")  # but for pages that wait on a processor's own list
        assert 7 << 10 <= freed <= 8 << 10 if lazy else freed == 0
