"""Other processes: who they are, how far they moved, and that tare's own are not among them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tare.bench.readings import hostload, others
from tare.bench.readings.others import Others

PAGE, TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
MIB = 1 << 20
Put = Callable[..., None]


@pytest.fixture
def put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Put:
    """Writes a process below a /proc of its own, in which processors are half busy with it."""
    ticks = iter(range(0, 100_000, 100))
    monkeypatch.setattr(hostload, "read", lambda: hostload.Totals(busy_ticks=next(ticks), idle_ticks=0, stalled_us={}))

    def write(pid: int, name: str = "hog", *, parent: int = 1, mib: int = 1, ticks: int = 0, started: int = 7) -> None:
        where = tmp_path / str(pid)
        where.mkdir(exist_ok=True)
        fields = ["S", str(parent), *["0"] * 9, str(ticks), "0", *["0"] * 6, str(started), "0", "0"]
        (where / "stat").write_bytes(f"{pid} ({name}) {' '.join(fields)}\n".encode())
        (where / "statm").write_text(f"9999 {mib * MIB // PAGE + 50} 50 1 0 1 0\n")

    (tmp_path / "meminfo").write_text("")
    return write


def test_a_name_may_hold_anything() -> None:
    stat = b"42 (a) b) (c\n) S 1 " + b" ".join(str(n).encode() for n in range(40))
    found = others.parse(stat, b"10 8 3 0 0 0 0")
    assert found is not None
    who, seen = found
    assert (who.pid, seen.name, seen.parent, seen.memory_bytes) == (42, "a) b) (c\n", 1, 5 * PAGE)
    assert others.parse(b"", b"") is None


def test_the_three_that_moved_and_ran_most_are_named(tmp_path: Path, put: Put) -> None:
    watching = Others(proc=tmp_path, own=1)
    for pid in range(10, 16):
        put(pid, f"p{pid}", parent=2, mib=100)
    watching.look()
    for pid in range(10, 16):
        put(pid, f"p{pid}", parent=2, mib=100 - 10 * (pid - 10), ticks=TICK * (pid - 10))
    watching.look()
    put(14, "p14", parent=2, mib=200, ticks=TICK * 4)
    watching.look()
    found = watching.record()
    assert found is not None
    assert [(one.name, one.memory_bytes / MIB) for one in found.grew] == [("p14", 140), ("p15", 50), ("p13", 30)]
    assert [(one.pid, one.cpu_seconds) for one in found.ran] == [(15, 5), (14, 4), (13, 3)]
    assert found.cpu_seconds == 15
    assert found.busy_seconds == 100 / TICK
    assert found.waited_ratio == 1.0  # nobody counts who waits: as long as the processors are busy
    assert found.memory_bytes == 150 * MIB  # down by 150 MiB, and up again by 140
    again = watching.record()
    assert again is not None
    assert (again.grew, again.ran) == ((), ())


def test_who_came_and_who_went_counts_with_all_that_it_had(tmp_path: Path, put: Put) -> None:
    watching = Others(proc=tmp_path, own=1)
    put(10, "goes", parent=2, mib=30)
    watching.look()
    for name in ("stat", "statm"):
        (tmp_path / "10" / name).unlink()
    put(11, "comes", parent=2, mib=20, ticks=3 * TICK)
    watching.look()
    put(11, "reborn", parent=2, mib=5, ticks=1 * TICK, started=9)
    watching.look()
    found = watching.record()
    assert found is not None
    assert [(one.name, one.memory_bytes / MIB) for one in found.grew] == [("goes", 30), ("comes", 20), ("reborn", 5)]
    assert [(one.name, one.cpu_seconds) for one in found.ran] == [("comes", 3), ("reborn", 1)]


def test_our_own_processes_are_not_others(tmp_path: Path, put: Put) -> None:
    watching = Others(proc=tmp_path, own=100)
    watching.look({300})
    put(100, "tare", mib=50)
    put(101, "helper", parent=100, mib=50)
    put(102, "of the helper", parent=101, mib=50)
    put(300, "instance", parent=1, mib=50)
    put(301, "of the instance", parent=300, mib=50)
    put(400, "another", parent=1, mib=50)
    watching.look({300})
    found = watching.record()
    assert found is not None
    assert [one.name for one in found.grew] == ["another"]


def test_of_this_host_a_child_is_ours_and_a_stranger_is_seen() -> None:
    watching = Others(own=1 << 30)  # nobody: so that this process is a stranger
    assert watching.record() is None
    watching.look()
    taken = bytearray(64 << 20)
    taken[:: 1 << 12] = b"x" * len(taken[:: 1 << 12])
    watching.look()
    found = watching.record()
    assert found is not None
    assert os.getpid() in {one.pid for one in found.grew}
    assert watching.unrecorded_s < 60
    ours = Others()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        ours.look()
        assert {os.getpid(), child.pid}.isdisjoint(who.pid for who in ours._last)
    finally:
        child.communicate(b"\n")
