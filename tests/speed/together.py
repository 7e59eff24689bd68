"""Starts, and removals, on all processors at once: against one at a time, and against one processor; floor and runtime.

    python -m tests.speed.together [--repeats 40] [--count 250] [--at-once 6] [--subjects floor container ...]

A start that is alone may use more than one processor already (a helper works while who asked it does), so there are two
figures to compare with: COUNT starts one at a time, on all processors; and one at a time with all that has a part in it
on one processor, which is what speed-up is commonly measured from. In each repeat all of them, one subject after the
other, and backwards in every second one: a rented processor's speed may change by a third within a minute. Needs root
and a quiet machine; says how busy it was.

At once are three times as many as there are processors, unless told: each start waits now and then, and with fewer, so
does a processor. The floor is a program of one thread: as many of it. A runner takes threads.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import click

from tare.bench.readings import hostload
from tests.speed import arena

#: All of them live below one cgroup, so that they die before the host is in need.
CEILING_BYTES = 8 << 30
#: Before anything is timed, each crew starts and removes so many.
WARM_UP = 20
#: Between a removal and the next start: for some 0.1 s the kernel still takes apart what was removed, at a thirtieth of
#: what the starts take of the processors. One at a time they leave it a processor for that; at once they do not.
SETTLE_S = 0.3

ONE_PROCESSOR, ONE_AT_A_TIME = "one processor", "one at a time"
HEAD = f"{'':32}{'per s':>7}{'busy':>6}{'cpu ms':>8}   times that of"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many a second, and how many processors of the host worked meanwhile."""

    per_second: float
    busy: float

    @property
    def processor_ms(self) -> float:
        """Processor time of one, in milliseconds: with several at once it shows what they cost one another."""
        return self.busy / self.per_second * 1e3


class Crew:
    """Starters of one subject, each with a thread of its own, kept to *processors*."""

    def __init__(self, starters: Sequence[arena.Contestant], processors: frozenset[int]) -> None:
        self._processors = processors
        #: Who started it removes it.
        self._members = [(starter, list[str]()) for starter in starters]

    def start(self, count: int) -> Rate:
        """Start *count*; whoever is done takes the next."""
        time.sleep(SETTLE_S)
        numbers = iter(range(count))

        def work(starter: arena.Contestant, mine: list[str]) -> None:
            for number in numbers:
                mine.append(f"t{number}")
                starter.start(mine[-1])

        return self._all(work, count)

    def stop(self) -> Rate:
        """Remove all that were started."""

        def work(starter: arena.Contestant, mine: list[str]) -> None:
            while mine:
                starter.stop(mine.pop())

        return self._all(work, sum(len(mine) for _, mine in self._members))

    def _all(self, work: Callable[[arena.Contestant, list[str]], None], count: int) -> Rate:
        def kept(starter: arena.Contestant, mine: list[str]) -> None:
            os.sched_setaffinity(0, self._processors)
            work(starter, mine)

        threads = [threading.Thread(target=kept, args=each) for each in self._members]
        before, began_ns = hostload.read(), time.monotonic_ns()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = (time.monotonic_ns() - began_ns) / 1e9
        share = hostload.difference(before, hostload.read(), seconds).get("host_busy_ratio", math.nan)
        return Rate(per_second=count / seconds, busy=share * len(os.sched_getaffinity(0)))


@contextmanager
def kept_to(processors: frozenset[int]) -> Iterator[None]:
    """The calling thread, and the processes that it starts meanwhile, run on *processors*."""
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)


def crews(place: arena.Arena, subject: str, at_once: int) -> dict[str, Crew]:
    """The three ways to start *subject*, by what the table calls them; to compare the last with the others."""
    everywhere = frozenset(os.sched_getaffinity(0))
    one = frozenset({min(everywhere)})
    with kept_to(one):
        confined = place.enter(subject)
    free = place.enter(subject)
    # The floor is a program of one thread, so each thread of ours has one of it.
    several = [free, *(place.enter(subject) for _ in range(at_once - 1))] if subject == "floor" else [free] * at_once
    return {
        ONE_PROCESSOR: Crew([confined], one),
        ONE_AT_A_TIME: Crew([free], everywhere),
        f"{at_once} at once": Crew(several, everywhere),
    }


def row(subject: str, what: str, rates: Mapping[str, Rate], label: str) -> str:
    """One line: the rate of *label*, and how many times the others' it is."""
    mine = rates[label]
    cells = f"{subject:10}{what:7}{label:15}{mine.per_second:7.0f}{mine.busy:6.2f}{mine.processor_ms:8.2f}"
    others = [f"{mine.per_second / rates[each].per_second:.2f} {each}" for each in rates if each != label]
    return cells + ("   " + ", ".join(others) if label == list(rates)[-1] else "")


def median(rates: Sequence[Mapping[str, Rate]], base: str) -> str:
    """The median over the repeats of how many times the rate of *base* the last one's is, and all of them."""
    factors = sorted([*each.values()][-1].per_second / each[base].per_second for each in rates)
    return f"{statistics.median(factors):.2f} ({factors[0]:.2f} to {factors[-1]:.2f})"


def main() -> int:
    """Run what the command line says, and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--at-once", type=int, default=3 * len(os.sched_getaffinity(0)))
    parser.add_argument("--subjects", nargs="+", default=["floor", "container"])
    wishes = parser.parse_args()
    click.echo(f"load {os.getloadavg()[0]:.2f} (quiet: below 0.5), {len(os.sched_getaffinity(0))} processors", err=True)
    found: dict[tuple[str, str], list[dict[str, Rate]]] = {}
    with arena.opened() as place:
        place.load.limit(memory_bytes=CEILING_BYTES)
        entered = {subject: crews(place, subject, wishes.at_once) for subject in wishes.subjects}
        for crew in (each for all_of_one in entered.values() for each in all_of_one.values()):
            crew.start(WARM_UP)
            crew.stop()
        click.echo(HEAD)
        for repeat in range(wishes.repeats):
            for subject, ways in entered.items():
                order = reversed(ways) if repeat % 2 else iter(ways)
                taken = {label: (ways[label].start(wishes.count), ways[label].stop()) for label in order}
                pairs = {label: taken[label] for label in ways}
                for at, what in enumerate(("start", "remove")):
                    rates = {label: pair[at] for label, pair in pairs.items()}
                    found.setdefault((subject, what), []).append(rates)
                    for label in rates:
                        click.echo(row(subject, what, rates, label))
    click.echo(f"\nmedian of {wishes.repeats} (least to most), {wishes.at_once} at once, times that of")
    for (subject, what), all_rates in found.items():
        bases = ", ".join(f"{base} {median(all_rates, base)}" for base in (ONE_PROCESSOR, ONE_AT_A_TIME))
        click.echo(f"{subject:10}{what:7}{bases}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
