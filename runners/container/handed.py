"""Descriptors that the caller hands on: sockets of a service manager (LISTEN_FDS) and those of ``--preserve-fds``.

The sockets come first, from descriptor 3 on (sd_listen_fds(3)); ``--preserve-fds`` counts from behind them, as runc and
crun have it.
"""

from __future__ import annotations

import os


def listening() -> int:
    """How many sockets a service manager has handed to this process; 0 if they are for another one."""
    count, whose = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", "")
    # Without a number of a process, it is an engine that hands them on, by an environment that it made for us.
    if not count.isdecimal() or (whose and whose != str(os.getpid())):
        return 0
    return int(count)
