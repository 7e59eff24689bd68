"""Everything that can go wrong, one exit code a class.

::

    TareError
    ├── UsageError        2   bad input: a scenario, a flag, a path
    ├── NothingToRunError 3   every subject was skipped
    ├── RegressionError   4   a gate says that something became worse
    ├── InvalidError      5   the measurement cannot be trusted: a leak, an impossible value
    ├── HostError         6   this host is not fit to measure on
    └── Interrupted     130   the user stopped it; what was measured is kept

Exit code 1, "some trials failed", is an outcome of a run and no exception.
"""

from __future__ import annotations

from typing import ClassVar


class TareError(Exception):
    """``what`` happened, ``why``, and the ``fix``: the last lines that a user reads."""

    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return ": ".join(part for part in (self.what, self.why) if part)


class UsageError(TareError):
    """The user asked for something that cannot be meant."""

    exit_code = 2


class NothingToRunError(TareError):
    """No subject of the scenario can run on this host."""

    exit_code = 3


class RegressionError(TareError):
    """A metric became worse by more than its threshold."""

    exit_code = 4


class InvalidError(TareError):
    """The run ended, but its numbers cannot be trusted."""

    exit_code = 5


class HostError(TareError):
    """The host lacks something that no scenario can do without."""

    exit_code = 6


class Interrupted(TareError):  # noqa: N818 - not an error: the user's will
    """SIGINT or SIGTERM arrived."""

    exit_code = 130
