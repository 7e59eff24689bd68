"""Samepage merging as a condition: the rule that calls it settled, and a host that is given back as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tare.bench.errors import HostError, Interrupted
from tare.bench.host import ksm
from tare.bench.host.interrupts import Interrupts
from tare.bench.host.ksm import IDLE_LOOKS, LEAST_SCANS, Look, Stillness

FILES = {"run": "0", "pages_to_scan": "100", "full_scans": "0"} | {
    f"pages_{name}": "0" for name in ("shared", "sharing", "unshared", "volatile")
}


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """A sysfs directory in which nothing moves by itself."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(f"{text}\n")
    return tmp_path


def texts(kernel: Path) -> tuple[str, str]:
    return tuple((kernel / name).read_text().strip() for name in ("run", "pages_to_scan"))  # type: ignore[return-value]


def looks(*sharing: int, first: int = 5) -> list[bool]:
    """The rule's answers when each look finds one more full scan, and so many pages merged."""
    rule = Stillness()
    return [rule.reached(Look(full_scans=first + i, sharing=n, known=9)) for i, n in enumerate(sharing)]


def test_it_stands_still_when_two_scans_in_a_row_merged_the_same() -> None:
    assert looks(0, 0, 0, 50_000, 80_000, 80_100) == [False] * 5 + [True]


def test_nothing_merged_in_the_first_scans_is_not_the_end() -> None:
    """The second full scan merges first: before it, the number does not move either."""
    assert LEAST_SCANS == 4
    assert looks(0, 0, 0, 0) == [False] * 4


def test_many_looks_within_one_scan_are_one() -> None:
    rule = Stillness()
    assert not any(rule.reached(Look(full_scans=3, sharing=7, known=9)) for _ in range(500))


def test_where_nothing_is_offered_nothing_is_waited_for() -> None:
    rule, empty = Stillness(), Look(full_scans=8, sharing=0, known=0)
    assert [rule.reached(empty) for _ in range(IDLE_LOOKS)] == [False] * (IDLE_LOOKS - 1) + [True]


def test_it_is_on_inside_and_afterwards_what_it_was(kernel: Path) -> None:
    with ksm.merging(kernel):
        assert texts(kernel) == ("1", "100")
    assert texts(kernel) == ("0", "100")
    (kernel / "run").write_text("2\n")
    with pytest.raises(KeyError), ksm.merging(kernel):
        raise KeyError
    assert texts(kernel) == ("2", "100")


def test_the_thread_is_hurried_only_while_it_is_awaited(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paces: list[str] = []

    def sleeps(_: float) -> None:
        paces.append(texts(kernel)[1])
        (kernel / "full_scans").write_text(str(len(paces)))

    monkeypatch.setattr("tare.bench.host.ksm.time.sleep", sleeps)
    with Interrupts() as interrupts:
        assert ksm.settle(interrupts, kernel)
    assert set(paces) == {str(ksm.HURRIED_PAGES)}
    assert texts(kernel) == ("0", "100")


def test_what_never_stands_still_is_given_up_and_said(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (kernel / "pages_volatile").write_text("7")
    monkeypatch.setattr(ksm, "CAP_S", 0.0)
    with Interrupts() as interrupts:
        assert not ksm.settle(interrupts, kernel)
    assert texts(kernel) == ("0", "100")


def test_a_signal_ends_the_wait_and_the_pace_is_given_back(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tare.bench.host.ksm.time.sleep", lambda _: os.kill(os.getpid(), 15))
    with Interrupts() as interrupts, pytest.raises(Interrupted):
        ksm.settle(interrupts, kernel)
    assert texts(kernel) == ("0", "100")


def test_a_host_where_it_cannot_be_had_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="is not possible here") as caught:
        ksm.require(tmp_path)
    assert "CONFIG_KSM" in caught.value.fix
    (tmp_path / "run").mkdir()
    with pytest.raises(HostError) as caught:
        ksm.require(tmp_path)
    assert "not writable" in caught.value.why
    assert "ksm = false" in caught.value.fix
