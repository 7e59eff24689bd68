"""Which machine takes a container, and when a machine ends; the machines here are no more than a pipe and an event."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from tare.runners.base import Instance, Mark, RunnerError
from tare.runners.nested.machine import Machines

ASKER = Path("/ask")


@dataclass
class Guest:
    """As much of a guest as a machine looks at: ``emulator`` can be read once it has ended."""

    console: int
    emulator: int
    emulator_status: tuple[int, ...] = (0,)

    def explain(self) -> str:
        return "guest kernel: the last line"

    def die(self) -> None:
        os.eventfd_write(self.emulator, 1)


@dataclass
class Host:
    """Starts guests that say what they are told to say, once they may."""

    says: bytes | None = b"tare ready\n"
    begun: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    guests: dict[str, Guest] = field(default_factory=dict)
    may: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def launch(self, name: str, _mark: Mark) -> Iterator[Instance]:
        self.begun.append(name)
        self.may.wait()
        reader, writer = os.pipe2(os.O_NONBLOCK)
        if self.says:
            os.write(writer, self.says)
        else:
            os.close(writer)
        guest = self.guests[name] = Guest(reader, os.eventfd(0))
        try:
            yield cast(Instance, guest)
        finally:
            self.ended.append(name)


@pytest.fixture
def host() -> Host:
    host = Host()
    host.may.set()
    return host


def test_a_machine_is_filled_before_the_next_one_boots(host: Host) -> None:
    machines = Machines(host.launch, 2, ASKER, keep=False)
    places = [machines.take(name) for name in ("a", "b", "c")]
    assert host.begun == ["a", "c"], "each is called after the container that it boots for"
    assert [(place.machine.name, place.number) for place in places] == [("a", 1), ("a", 2), ("c", 1)]


def test_a_place_that_is_free_again_is_taken_first(host: Host) -> None:
    machines = Machines(host.launch, 2, ASKER, keep=False)
    first, _ = machines.take("a"), machines.take("b")
    assert not machines.ends_with(first)
    machines.give_back(first)
    assert machines.take("c") == first
    assert host.begun == ["a"]


def test_a_machine_ends_with_the_last_that_begins_to_stop(host: Host) -> None:
    machines = Machines(host.launch, 2, ASKER, keep=False)
    first, second = machines.take("a"), machines.take("b")
    assert not machines.ends_with(first)
    assert machines.ends_with(second), "the first is on its way, and nobody else is there"
    second.machine.end()
    machines.give_back(first)
    machines.give_back(second)
    assert host.ended == ["a"]
    assert machines.take("c").machine.name == "c"


def test_a_machine_whose_only_container_was_never_started_ends_with_its_place(host: Host) -> None:
    machines = Machines(host.launch, 2, ASKER, keep=False)
    machines.give_back(machines.take("a"))
    assert host.ended == ["a"]


def test_a_machine_that_is_kept_stays_to_the_end_of_the_run(host: Host) -> None:
    machines = Machines(host.launch, 1, ASKER, keep=True)
    machines.booted("before")
    place = machines.take("a")
    assert place.machine.name == "before"
    assert not machines.ends_with(place)
    machines.give_back(place)
    assert host.ended == []
    machines.end()
    assert host.ended == ["before"]


@pytest.mark.parametrize("keep", [False, True])
def test_a_machine_that_died_takes_no_container_and_ends_with_its_last(host: Host, *, keep: bool) -> None:
    machines = Machines(host.launch, 3, ASKER, keep=keep)
    first, second = machines.take("a"), machines.take("b")
    host.guests["a"].die()
    assert machines.take("c").machine.name == "c"
    assert not machines.ends_with(first)
    assert machines.ends_with(second)


def test_a_machine_that_ends_while_it_boots_is_a_reason_for_all_that_wait_for_it(host: Host) -> None:
    host.says = None
    host.may.clear()
    machines = Machines(host.launch, 2, ASKER, keep=False)
    whys: list[str] = []

    def take(name: str) -> None:
        with pytest.raises(RunnerError) as caught:
            machines.take(name)
        whys.append(str(caught.value))

    threads = [threading.Thread(target=take, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    host.may.set()
    for thread in threads:
        thread.join()
    assert len(whys) == 2
    assert all("the last line" in why for why in whys)
    assert host.ended == host.begun, "nothing of it is left"


def test_several_that_start_at_once_wait_for_the_one_machine(host: Host) -> None:
    host.may.clear()
    machines = Machines(host.launch, 3, ASKER, keep=False)
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda name=name: names.append(machines.take(name).machine.name)) for name in "abc"
    ]
    for thread in threads:
        thread.start()
    host.may.set()
    for thread in threads:
        thread.join()
    assert len(host.begun) == 1
    assert names == host.begun * 3
