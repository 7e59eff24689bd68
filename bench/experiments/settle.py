"""Settling: wait until the host's memory stands still, by a rule and not by a fixed sleep (docs/explanation/method.md).

The more was started or removed, the longer the kernel goes on freeing, with pauses: after grace periods, by workers one
network namespace after another, and what kfree_rcu() was given up to 5 s later (mm/slab_common.c, KFREE_DRAIN_JIFFIES).
So both the wait and its cap grow with that number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from tare.bench.readings import hostmem

LOOK_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Still means: from one look to the next free memory moves by less than ``still_bytes``, ``looks`` times in a row.

    ``cap_s`` is when to give up.
    """

    still_bytes: int
    looks: int
    cap_s: float


def patience(moved: int, pause_s: float = 0.0) -> Patience:
    """How to wait after *moved* instances were started or removed.

    Three looks for a few, 6 s for 3000 or more; 256 bytes an instance are no movement, below a thousandth of what one
    takes. What changes again of itself after *pause_s* must be still for half a second longer than that.
    """
    looks = min(3 + moved // 25, 120)
    if pause_s:
        looks = max(looks, round((pause_s + 0.5) / LOOK_S))
    return Patience(still_bytes=max(128 << 10, 256 * moved), looks=looks, cap_s=3.0 + 0.01 * moved + 6 * pause_s)


def settle(moved: int = 0, check: Callable[[], None] | None = None, *, pause_s: float = 0.0) -> bool:
    """Return once free memory stands still; False if the cap came first. Untimed. See :func:`patience`.

    *check* is called at each look, and may raise what ends the wait.
    """
    rule = patience(moved, pause_s)
    deadline = time.monotonic() + rule.cap_s
    still, before = 0, _free_now()
    while still < rule.looks:
        if time.monotonic() > deadline:
            return False
        if check is not None:
            check()
        time.sleep(LOOK_S)
        now = _free_now()
        still = still + 1 if abs(now - before) < rule.still_bytes else 0
        before = now
    return True


def _free_now() -> float:
    """As the account means it: what goes from a processor's own list to all is no movement."""
    return hostmem.unused_now_bytes()
