"""The network of a guest."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from tare.bench.readiness import prober
from tare.runners.container.linux import syscalls
from tare.runners.guest import network
from tests.conftest import require


def test_a_tap_is_in_a_namespace_of_its_own_and_goes_with_it() -> None:
    require("root", os.geteuid() == 0, "a network namespace is made by root")
    before = sorted(os.listdir("/sys/class/net"))
    said = network.with_tap(lambda: Path("/proc/thread-self/net/dev").read_text())
    assert "tare-tap:" in said
    assert network.trouble() == ""
    assert sorted(os.listdir("/sys/class/net")) == before


def test_attempts_begin_with_the_first_frame_of_a_guest() -> None:
    require("root", os.geteuid() == 0, "a packet socket is opened by root")
    over = threading.Event()
    told: list[bool] = []

    def listen(where: int | None = None) -> None:
        if where is not None:
            syscalls.setns(where, syscalls.CLONE_NEWNET)
        told.append(prober.heard("tare-tap", over.is_set))

    def play() -> None:
        """The guest is whoever has the tap open."""
        tap = network.opened()
        try:
            address = f"/proc/self/task/{threading.get_native_id()}/ns/net"
            where = os.open(address, os.O_RDONLY)
            waiter = threading.Thread(target=listen, args=(where,))
            waiter.start()
            waiter.join(0.3)
            assert told == []
            os.write(tap, bytes(10) + b"\xff" * 6 + b"\x52\x54\x00\x00\x00\x01\x08\x06" + bytes(46))
            waiter.join(10)
            assert told == [True]
            listen()  # it was heard before
            assert told == [True, True]
            os.close(where)
        finally:
            os.close(tap)

    network.with_tap(play)


def test_a_wait_for_a_frame_ends_when_it_is_told() -> None:
    require("root", os.geteuid() == 0, "a packet socket is opened by root")
    assert network.with_tap(lambda: prober.heard("tare-tap", lambda: True)) is False
