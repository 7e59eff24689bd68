"""The live view: what is too long for it loses a part of a name, never of a number."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tare.bench.records.rows import Outcome, Trial
from tare.reports.terminal.progress import Watcher, _shortened

LONGEST = "container-with-the-longest-label-there-is"[:40]


def trial(label: str, number: int) -> Trial:
    return Trial(id=f"r{number}-x", subject=label, round=number, order=1, kind="measured")


def outcome(label: str) -> Outcome:
    return Outcome(trial="r1-x", subject=label, kind="measured", round=1, order=1, status="ok", reason="")


class Screen:
    """A watcher, and what stands in its terminal now."""

    def __init__(self, columns: int = 80) -> None:
        self.console = Console(file=io.StringIO(), force_terminal=True, width=columns)
        self.watcher = Watcher(self.console)

    def line(self) -> str:
        assert isinstance(self.console.file, io.StringIO)
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.console.file.getvalue())
        return [line for line in re.split("[\r\n]", plain) if line.strip()][-1]


@pytest.mark.parametrize("columns", [48, 64, 75, 76, 80, 200])
@pytest.mark.parametrize("label", ["vm", "container-lazy-asked", LONGEST])
@pytest.mark.parametrize(("number", "n"), [(1, 5), (10, 1200), (10_000, 100_000)])
def test_every_number_is_whole(columns: int, label: str, number: int, n: int) -> None:
    screen = Screen(columns)
    with screen.watcher as watcher:
        watcher.preparing(label)
        assert label[:3] in screen.line()
        watcher.starting(trial(label, number), 1235, 40_000)
        assert screen.line().startswith(f"round {number}: {label[:2]}")
        assert " 1234/40000" in screen.line()
        watcher.alive(n)
        shown = screen.line()
        assert shown.startswith(f"round {number}: {label[:2]}")
        assert f"{label[-2:]}, {n} alive " in shown
        watcher.ended(outcome(label), {"ready_seconds": 0.123})
        assert f"{label[-2:]}: 123 ms " in screen.line()
        watcher.finishing()
        assert "looking for leaks " in screen.line()


def test_a_name_is_whole_where_there_is_room() -> None:
    screen = Screen()
    with screen.watcher as watcher:
        watcher.starting(trial("container-lazy-asked", 1), 1, 5)
        assert "round 1: container-lazy-asked " in screen.line()


@pytest.mark.parametrize("room", range(-3, 50))
def test_a_shortened_name_has_both_its_ends(room: int) -> None:
    short = _shortened(LONGEST, room)
    assert len(short) <= max(3, room)
    assert (short[0], short[-1]) == (LONGEST[0], LONGEST[-1])
    assert (short == LONGEST) == (room >= len(LONGEST))
