"""Samepage merging (KSM) as a condition of a ramp: on from before its ground until all are removed, and settled.

The kernel's thread looks only at memory that a program offers (madvise(2), MADV_MERGEABLE): QEMU does so with a guest's
unless it is told not to; processes and containers do not. Source: Documentation/admin-guide/mm/ksm.rst.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tare.bench.errors import HostError
from tare.bench.host.interrupts import Interrupts

DIRECTORY = Path("/sys/kernel/mm/ksm")
#: While it is awaited, the thread looks at so many pages each time it wakes: that changes when it is done, and no more.
HURRIED_PAGES = 20_000
#: A page is merged at the second full scan that finds it unchanged, and the first one seen to end began before ours.
LEAST_SCANS = 4
#: The number of merged pages stands still when it changes by no more than this from one full scan to the next.
STILL_SHARE, STILL_PAGES = 0.01, 16
#: So many looks without any page to look at: there is nothing to merge, and the thread sleeps.
IDLE_LOOKS = 20
LOOK_S = 0.05
CAP_S = 60.0
_GRACE_S = 60.0


def require(directory: Path = DIRECTORY) -> None:
    """Raise HostError if samepage merging cannot be turned on here."""
    run = directory / "run"
    try:
        if not run.exists():
            raise HostError("ksm = true is not possible here", f"there is no {run}", "use a kernel with CONFIG_KSM")
        _write(run, run.read_text(encoding="ascii").strip())
    except OSError as error:
        why = f"{run} is not writable: {error.strerror}"
        raise HostError("ksm = true is not possible here", why, "run as root, or with ksm = false") from None


@contextmanager
def merging(directory: Path = DIRECTORY) -> Iterator[None]:
    """Samepage merging is on inside the block, and afterwards what it was."""
    run = directory / "run"
    before = run.read_text(encoding="ascii").strip()
    _write(run, "1")
    try:
        yield
    finally:
        _write(run, before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the kernel says at one moment. *known* pages were looked at, *sharing* of them are saved by merging."""

    full_scans: int
    sharing: int
    known: int


@dataclass(slots=True)
class Stillness:
    """The rule by which merging has settled, fed look by look; no clock in it."""

    first: int = -1
    ends: list[int] = field(default_factory=list)
    seen: int = 0
    idle: int = 0

    def reached(self, now: Look) -> bool:
        """Whether merging stands still at *now*, the latest look."""
        if self.first < 0:
            self.first = self.seen = now.full_scans
        self.idle = 0 if now.known or now.full_scans != self.seen else self.idle + 1
        if now.full_scans != self.seen:
            self.seen = now.full_scans
            self.ends.append(now.sharing)
        if self.idle >= IDLE_LOOKS:
            return True
        if self.seen - self.first < LEAST_SCANS or len(self.ends) < 2:
            return False
        return abs(self.ends[-1] - self.ends[-2]) <= max(STILL_PAGES, STILL_SHARE * self.ends[-1])


def settle(interrupts: Interrupts, directory: Path = DIRECTORY) -> bool:
    """Return once merging stands still; False if the cap came first. Untimed. Raises Interrupted."""
    rule, deadline = Stillness(), time.monotonic() + CAP_S
    with _hurried(directory), interrupts.allowed(timeout_s=CAP_S + _GRACE_S):
        while not rule.reached(look(directory)):
            if time.monotonic() > deadline:
                return False
            time.sleep(LOOK_S)
    return True


def look(directory: Path = DIRECTORY) -> Look:
    """Read the counters."""
    values = {name: _number(directory / name) for name in ("full_scans", "pages_sharing")}
    known = sum(_number(directory / f"pages_{name}") for name in ("shared", "sharing", "unshared", "volatile"))
    return Look(full_scans=values["full_scans"], sharing=values["pages_sharing"], known=known)


@contextmanager
def _hurried(directory: Path) -> Iterator[None]:
    """The thread in a hurry; not while the host is watched, since its processor time is a cost of merging."""
    file = directory / "pages_to_scan"
    before = file.read_text(encoding="ascii").strip()
    with suppress(OSError):  # an advisor sets the pace (since 6.8)
        _write(file, str(HURRIED_PAGES))
    try:
        yield
    finally:
        with suppress(OSError):
            _write(file, before)


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="ascii")
