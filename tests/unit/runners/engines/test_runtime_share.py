"""The share of an OCI runtime in a start: of recorded events of the kernel, and of real processes."""

from __future__ import annotations

import os
import struct
import subprocess
import time

import pytest

from tare.runners.engines.common import runtime_share
from tare.runners.engines.common.runtime_share import Event, seconds
from tests.conftest import wait_until

FORK, EXEC, EXIT = 0x1, 0x2, 0x80000000
MS = 1_000_000


def fork(at_ms: int, parent: int, child: int) -> Event:
    return Event(FORK, at_ms * MS, child, parent)


def life(begin_ms: int, end_ms: int, parent: int, child: int) -> list[Event]:
    return [
        fork(begin_ms, parent, child),
        Event(EXEC, (begin_ms + 1) * MS, child),
        Event(EXIT, end_ms * MS, child),
    ]


def test_what_the_monitor_executed_counts_from_its_exec_to_its_end() -> None:
    events = [*life(10, 31, 7, 100), *life(40, 46, 7, 101)]
    assert seconds(events, frozenset({7}), frozenset(), 1000 * MS) == pytest.approx(0.025)


def test_podmans_own_start_of_conmon_is_no_runtime() -> None:
    """podman (5) executes conmon (50), which forks the monitor (51), which executes the runtime (52)."""
    events = [
        *life(0, 9, 5, 50),
        fork(5, 50, 51),
        *life(10, 21, 51, 52),
        *life(30, 34, 5, 53),  # crun start
        *life(0, 90, 1, 54),  # somebody else's
    ]
    assert seconds(events, frozenset({5, 51}), frozenset({51}), 1000 * MS) == pytest.approx(0.013)


def test_one_that_runs_on_counts_until_ready_and_none_counts_after() -> None:
    events = [fork(0, 7, 100), Event(EXEC, 10 * MS, 100), *life(60, 70, 7, 101)]
    assert seconds(events, frozenset({7}), frozenset(), 50 * MS) == pytest.approx(0.040)


def test_times_that_overlap_count_once() -> None:
    events = [*life(9, 30, 7, 100), *life(19, 40, 7, 101), *life(21, 25, 7, 102)]
    assert seconds(events, frozenset({7}), frozenset(), 1000 * MS) == pytest.approx(0.030)


def test_without_a_runtime_there_is_no_figure() -> None:
    assert seconds([fork(1, 7, 100)], frozenset({7}), frozenset(), 1000 * MS) is None


def test_a_thread_is_no_process() -> None:
    head = bytes(16 + 20)
    forked = head + struct.pack("=IIQ", FORK, 0, 5) + struct.pack("=IIII", 7, 7, 101, 100)
    assert runtime_share.parse(forked) is None
    forked = head + struct.pack("=IIQ", FORK, 0, 5) + struct.pack("=IIII", 8, 7, 101, 101)
    assert runtime_share.parse(forked) == Event(FORK, 5, 101, 7)
    assert runtime_share.parse(head) is None


def test_a_host_that_does_not_tell_gives_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(runtime_share, "_listen", refuse)
    with runtime_share.watched() as share:
        assert share([1], [], 10**18) is None


def test_real_processes_of_a_monitor_are_told() -> None:
    try:
        runtime_share._listen().close()
    except OSError as error:
        pytest.skip(f"the kernel does not tell this user: {error}")
    with runtime_share.watched() as share:
        began = time.monotonic_ns()
        script = "sleep 0.1; echo; read line"
        with subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as monitor:
            assert monitor.stdout is not None
            monitor.stdout.readline()
            found = share([monitor.pid], [], time.monotonic_ns())
            assert found is not None
            assert 0.1 <= found <= (time.monotonic_ns() - began) / 1e9
            monitor.kill()


def test_a_process_that_is_gone_has_used_no_processor_time() -> None:
    from tare.bench.readings import processes

    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as busy:
        wait_until(lambda: processes.cpu_ns([busy.pid]) > 20 * MS, 30)
        both = processes.cpu_ns([busy.pid, os.getpid()])
        assert both > 20 * MS
        busy.kill()
    assert processes.cpu_ns([busy.pid]) == 0
