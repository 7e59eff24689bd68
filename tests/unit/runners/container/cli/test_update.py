"""The flags of update, as limits: sizes as runc takes them, numbers, and what is neither."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.runners.container.cli import main, update
from tare.runners.container.errors import OciError
from tare.runners.container.light import argparse


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("-1", -1),
        ("0", 0),
        ("512", 512),
        ("512b", 512),
        ("32k", 32 << 10),
        ("32K", 32 << 10),
        ("50M", 50 << 20),
        ("50mb", 50 << 20),
        ("50MiB", 50 << 20),
        ("1 GB", 1 << 30),
        ("1.5g", 3 << 29),
        ("0.25t", 1 << 38),
        ("1p", 1 << 50),
        ("104857600", 100 << 20),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert update.size_of(text) == size


@pytest.mark.parametrize(
    "text", ["", "-2", "m", "1x", "1.m", ".5m", "1..5m", "1 2m", "1mm", "0x10", "1e3", "٣k", "1ib2"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        update.size_of(text)


@given(st.text(max_size=6))
def test_any_text_is_a_size_or_none(text: str) -> None:
    try:
        assert update.size_of(text) >= -1
    except ValueError:
        pass


@pytest.mark.parametrize("text", ["", "-", "--1", "1.5", "1k", " 1", "٣", "1_0"])
def test_no_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number"):
        update.number_of(text)


def given_flags(*words: str) -> dict[str, dict[str, object]]:
    return update.asked(argparse.parse(words, main.VERBS["update"].options, what="update"))


def test_the_flags_of_both_peers() -> None:
    assert given_flags("--memory", "1k", "--memory-swap=-1", "--memory-reservation", "2k") == {
        "memory": {"limit": 1024, "swap": -1, "reservation": 2048}
    }
    assert given_flags("--kernel-memory", "1", "--kernel-memory-tcp", "2") == {"memory": {"kernel": 1, "kernelTCP": 2}}
    cpu = "--cpu-period 1 --cpu-quota -1 --cpu-burst 0 --cpu-share 5 --cpu-idle 1 --cpu-rt-period 2 --cpu-rt-runtime 3"
    assert given_flags(*cpu.split(), "--cpuset-cpus", "0-1", "--cpuset-mems", "0") == {
        "cpu": {"period": 1, "quota": -1, "burst": 0, "shares": 5, "idle": 1}
        | {"realtimePeriod": 2, "realtimeRuntime": 3, "cpus": "0-1", "mems": "0"}
    }
    assert given_flags("--cpu-shares", "7", "--pids-limit", "-1", "--blkio-weight", "10") == {
        "cpu": {"shares": 7},
        "pids": {"limit": -1},
        "blockIO": {"weight": 10},
    }


def test_nothing_and_empty_texts_ask_for_nothing() -> None:
    assert given_flags() == given_flags("--memory", "", "--cpuset-cpus", "") == {}


def test_every_flag_is_an_option_and_every_option_a_flag() -> None:
    others = {"resources", "l3-cache-schema", "mem-bw-schema"}
    assert {option.name for option in main.VERBS["update"].options} == set(update.FLAGS) | others


@pytest.mark.parametrize(("flag", "text"), [("--memory", "x"), ("--pids-limit", "many"), ("--cpu-idle", "no")])
def test_a_bad_value_is_told_as_the_flag_s(flag: str, text: str) -> None:
    with pytest.raises(OciError, match=f"{flag}: '{text}' is no"):
        given_flags(flag, text)
