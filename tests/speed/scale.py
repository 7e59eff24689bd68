"""How the warm runtime behaves in numbers: many alive at once; against the floor.

    python -m tests.speed.scale [--count 1000] [--repeats 2] [--subjects floor container ...]

For each subject in turn, and again in the next repeat: COUNT containers one after another, each paused once it is
ready; the host's memory that they take; their removal in the same order. Needs root and a quiet machine; says how busy
it was.

The memory of one is told beside that of its cgroups alone, empty: a memory cgroup has a word for each file system that
this kernel ever had mounted at once (shrinker_info, mm/shrinker.c), so it is some 40 KiB on a host that just started,
and 0.7 MiB after a ramp to 5000 containers. It is read when the memory that nobody uses has stopped rising: the
kernel goes on freeing what was removed; pages on processors' own lists, which MemAvailable leaves out for a minute,
count as unused.

It stops adding containers while less than 4 GiB of memory are available, and all of them live below one cgroup with a
limit of its own, so that a subject that takes too much is killed before the host is in need.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import click

from tare.bench.readings import hostmem
from tare.runners.container.cgroup import cgroups
from tests.speed import arena

FLOOR_BYTES = 4 << 30
CEILING_BYTES = 8 << 30
#: Starts at each end of a series that are compared.
END = 50
#: Cgroups that are made to tell what one takes.
EMPTY = 200
#: Memory has settled when no more than this becomes unused in a second.
STILL_BYTES, SETTLE_S = 1 << 20, 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """COUNT containers started and removed one after another."""

    starts_ns: tuple[int, ...]
    stops_ns: tuple[int, ...]
    #: What the host has less, and what the kernel has charged to the cgroup of all: nobody else is in the latter.
    host_bytes: float
    charged_bytes: int

    def line(self) -> str:
        """As a row of the table."""
        count = len(self.starts_ns)
        first, last = (statistics.median(part) for part in (self.starts_ns[:END], self.starts_ns[-END:]))
        seconds = [sum(part) / 1e9 for part in (self.starts_ns, self.stops_ns)]
        mib = [part / count / (1 << 20) for part in (self.host_bytes, self.charged_bytes)]
        return (
            f"{count:6d} {seconds[0]:9.2f} {seconds[1]:9.2f} {mib[0]:10.3f} {mib[1]:10.3f}"
            f" {first / 1e6:9.2f} {last / 1e6:9.2f} {last / first - 1:+8.0%}"
        )


HEAD = f"{'count':>6} {'start s':>9} {'remove s':>9} {'host MiB':>10} {'charged':>10} {'first ms':>9} {'last ms':>9}"


def settled_bytes() -> float:
    """What nobody uses of the host's memory, when it has stopped rising; after :data:`SETTLE_S` seconds as it is."""
    now = hostmem.unused_bytes(hostmem.read())
    for _ in range(SETTLE_S):
        time.sleep(1)
        before, now = now, hostmem.unused_bytes(hostmem.read())
        if now - before < STILL_BYTES:
            break
    return now


def empty_bytes(parent: cgroups.Cgroup) -> float:
    """What the cgroups of one instance below *parent* take of the host, without an instance."""
    before = settled_bytes()
    groups = [parent.child(f"empty-{number}") for number in range(EMPTY)]
    try:
        for group in groups:
            group.create()
        return (before - settled_bytes()) / EMPTY
    finally:
        for group in groups:
            group.remove()


def charged_bytes(group: cgroups.Cgroup) -> int:
    """What is charged to *group* and those below it."""
    files = [path / name for path in group.paths() for name in ("memory.usage_in_bytes", "memory.current")]
    return next(int(file.read_text(encoding="ascii")) for file in files if file.exists())


def timed(action: Callable[[str], object], name: str) -> int:
    """Nanoseconds that *action* of *name* takes."""
    began_ns = time.monotonic_ns()
    action(name)
    return time.monotonic_ns() - began_ns


def many(contestant: arena.Contestant, count: int, whole: cgroups.Cgroup) -> Series:
    """*count* at once, or as many as memory allows."""
    contestant.start("warm-up")
    contestant.stop("warm-up")
    before, charged, starts, names = settled_bytes(), charged_bytes(whole), list[int](), list[str]()
    while len(names) < count and hostmem.glance()["host_available_bytes"] > FLOOR_BYTES:
        names.append(f"s{len(names)}")
        starts.append(timed(contestant.start, names[-1]))
    host, charged = before - settled_bytes(), charged_bytes(whole) - charged
    stops = [timed(contestant.stop, name) for name in names]
    return Series(starts_ns=tuple(starts), stops_ns=tuple(stops), host_bytes=host, charged_bytes=charged)


def main() -> int:
    """Run what the command line says, and print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--subjects", nargs="+", default=["floor", "container"])
    wishes = parser.parse_args()
    click.echo(f"load {os.getloadavg()[0]:.2f} (quiet: below 0.5)", err=True)
    with arena.opened() as place:
        place.load.limit(memory_bytes=CEILING_BYTES)
        entered = {name: place.enter(name) for name in wishes.subjects}
        click.echo(f"the cgroups of one, empty: {empty_bytes(place.load) / (1 << 20):.3f} MiB of the host")
        click.echo(f"{'':12}{HEAD}")
        for _ in range(wishes.repeats):
            for name, contestant in entered.items():
                click.echo(f"{name:12}{many(contestant, wishes.count, place.whole).line()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
