"""Capabilities that are kept until the last execve, which checks by them whether the program may be executed.

The process executes twice: the small program of :mod:`stub`, and by that the container's. Each execve makes the
capabilities anew (capabilities(7), "Transformation of capabilities during execve"): root gets what is in the bounding
or the inheritable set, everybody else the ambient set alone. So the capabilities that the small program needs are kept
over the first execve in these sets, and it sets the configured ones itself before the second. Two things are kept:

- The configured effective set: a user with CAP_DAC_OVERRIDE may execute a file that others may not.
- CAP_SYS_ADMIN, where a filter is to be installed without no_new_privs (seccomp(2)). The second execve takes it away:
  it depends on neither the permitted nor the effective set.
"""

# The methods of all steps do what :class:`basic.Step` says.
# ruff: noqa: D102

from __future__ import annotations

from ...light.dataclasses import record
from ...linux import syscalls as k
from ...linux.exec_stub import stub
from .basic import Strict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...config.process import Process
    from ...linux.capabilities import Capabilities
    from ..kernel import Sys
    from .basic import Step

_SYS_ADMIN = 1 << 21


@record
class Carried:
    """*mask* is what the small program must hold; *inheritable* is the set by which it gets that."""

    mask: int
    inheritable: int
    sets: Capabilities
    extra: int

    def inherit(self) -> Step:
        """The step before the bounding set is limited."""
        return Inherit(self.mask)

    def hold(self, uid: int) -> Step:
        """The step of user *uid* before the first execve."""
        return Carry(self, uid)

    def calls(self) -> tuple[stub.Call, ...]:
        """What the small program does: the configured sets, and *extra* as long as it runs."""
        sets, extra = self.sets, self.extra
        header, data = k.capability_sets(sets.effective | extra, sets.permitted | extra, sets.inheritable)
        raised = [_prctl(k.PR_CAP_AMBIENT_RAISE, number) for number in _numbers(sets.ambient)]
        return (
            _prctl(k.PR_CAP_AMBIENT_CLEAR_ALL, 0),
            stub.Call(stub.CAPABILITIES, "capset", (header, data)),
            *raised,
        )


def needed(process: Process, *, filtered: bool) -> Carried | None:
    """What must be kept for *process*; None if the configured sets survive the first execve as they are."""
    sets = process.capabilities
    extra = _SYS_ADMIN if filtered and not process.no_new_privileges else 0
    survives = sets.ambient
    if process.uid == 0:
        survives = sets.bounding | sets.inheritable
        if process.no_new_privileges:
            survives &= sets.permitted
    if survives == sets.effective and not extra:
        return None
    mask = sets.effective | sets.permitted | extra
    over = process.uid == 0 and not mask & ~(sets.bounding | sets.inheritable)
    return Carried(mask, sets.inheritable if over else sets.inheritable | mask, sets, extra)


@record
class Inherit(Strict):
    """Add to the inheritable set, while the bounding set still allows that."""

    mask: int

    def describe(self) -> str:
        return "make capabilities inheritable for the small program that executes the container's"

    def apply(self, sys: Sys) -> None:
        sys.inherit(self.mask)


@record
class Carry(Strict):
    """Set what is kept, in the sets that the next execve goes by."""

    carried: Carried
    uid: int

    def describe(self) -> str:
        return "carry capabilities to the small program that executes the container's"

    def apply(self, sys: Sys) -> None:
        mask = self.carried.mask
        sys.prctl(k.PR_CAP_AMBIENT, k.PR_CAP_AMBIENT_CLEAR_ALL)
        sys.capset(mask, mask, self.carried.inheritable)
        if self.uid:
            for number in _numbers(mask):
                sys.prctl(k.PR_CAP_AMBIENT, k.PR_CAP_AMBIENT_RAISE, number)


def _prctl(what: int, number: int) -> stub.Call:
    return stub.Call(stub.CAPABILITIES, "prctl", (k.PR_CAP_AMBIENT, what, number, 0, 0))


def _numbers(mask: int) -> list[int]:
    return [number for number in range(mask.bit_length()) if mask >> number & 1]
