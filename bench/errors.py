"""Everything that can go wrong, one exit code a class.

::

    TareError
    ├── UsageError        2   bad input: a scenario, a flag, a path
    ├── NothingToRunError 3   every subject was skipped
    ├── RegressionError   4   a figure got worse by more than the user allows
    ├── InvalidError      5   the measurement cannot be trusted: a leak, an impossible value
    ├── HostError         6   this host is not fit to measure on
    ├── OutputError      74   what was made could not be written: a full disk, a closed stream (EX_IOERR of sysexits.h)
    └── Interrupted     130   the user stopped it; what was measured is kept

Exit code 1, "some trials failed", is an outcome of a run and no exception. 70 (EX_SOFTWARE) is a fault of tare itself,
an exception that nobody foresaw; 141 is the reader of standard output who went away (``tare plan startup | head``).
"""

from __future__ import annotations

import errno
from pathlib import Path
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
    """The input or the command line is wrong."""

    exit_code = 2


class NothingToRunError(TareError):
    """No subject of the scenario can run on this host."""

    exit_code = 3


class RegressionError(TareError):
    """A figure got worse by more than the user allows, and not by chance."""

    exit_code = 4


class InvalidError(TareError):
    """The run ended, but its numbers cannot be trusted."""

    exit_code = 5


class HostError(TareError):
    """The host lacks something that every scenario needs."""

    exit_code = 6


class OutputError(TareError):
    """Output cannot be written: the disk is full or broken, or the reader of stdout has gone."""

    exit_code = 74


class Interrupted(TareError):  # noqa: N818 - not an error: the user asked for it
    """SIGINT, SIGTERM or SIGHUP arrived. *run* is the directory of the run, if there is one already."""

    exit_code = 130

    def __init__(self, what: str, why: str = "", fix: str = "", *, run: Path | None = None) -> None:
        super().__init__(what, why, fix)
        self.run = run


#: A device that is full or broken, not a path that was chosen badly.
_DEVICE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}


def unwritten(what: str, error: OSError, fix: str) -> TareError:
    """The error for output that cannot be written: OutputError if the disk is full or broken, else UsageError.

    *fix* is for a path that was chosen badly.
    """
    why = error.strerror or str(error)
    if error.errno in _DEVICE:
        return OutputError(what, why, "make room there or choose another place, then run again")
    return UsageError(what, why, fix)
