"""Descriptors that the caller passes on: sockets of a service manager (LISTEN_FDS) and those of ``--preserve-fds``.

The sockets come first, from descriptor 3 on (sd_listen_fds(3)). ``--preserve-fds`` counts the descriptors after them,
as in runc and crun.
"""

from __future__ import annotations

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def listening(warn: Callable[[str], object]) -> int:
    """How many sockets a service manager has passed to this process; 0 if they are for another process.

    If LISTEN_PID is not set, an engine passes them on, with an environment that it made for this process. Or the
    variable was inherited from a process that passed them to another one: then the descriptors are not open, and *warn*
    is called.
    """
    text, whose = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", "")
    if not text.isdecimal() or len(text) > 9 or (whose and whose != str(os.getpid())):
        return 0
    count = int(text)
    if not whose:
        try:
            check(count)
        except OSError as error:
            warn(f"LISTEN_FDS={text} is ignored: {error.strerror}, and no LISTEN_PID says that they are for us")
            return 0
    return count


def check(count: int) -> None:
    """Raise OSError unless *count* descriptors from 3 on are open, and not close-on-exec, as this runtime's own are."""
    for fd in range(3, 3 + count):
        try:
            given = os.get_inheritable(fd)
        except OSError:
            given = False
        if not given:
            raise OSError(errno.EBADF, f"--preserve-fds, LISTEN_FDS: descriptor {fd} is not open")
