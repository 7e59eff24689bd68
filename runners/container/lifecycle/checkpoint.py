"""Where a test may kill the runtime, to prove that whatever is left can be removed."""

from __future__ import annotations

import os

#: The stage boundaries, in the order in which a container's life passes them.
NAMES = (
    "create:start",  # nothing is made
    "create:state",  # the state directory and its first state are there
    "create:cgroup",  # the cgroup is there, nobody is in it
    "create:pid",  # the first process exists and its number is recorded
    "create:hooks",  # the hooks prestart and createRuntime have run
    "create:ready",  # the container waits for start
    "create:pid-file",  # the pid-file is written
    "start:begin",  # start has found the container
    "start:released",  # the program runs, its exec fifo still exists
    "start:end",  # the fifo is gone
    "delete:begin",  # delete has found the container
    "delete:killed",  # no process is left
    "delete:cgroup",  # the cgroup is gone
    "delete:state",  # the state directory is gone, poststop hooks have not run
)


def checkpoint(name: str) -> None:
    """Die of SIGKILL here if the environment asks for it: TARE_OCI_TEST=1 and TARE_OCI_CRASH=*name*."""
    if os.environ.get("TARE_OCI_TEST") == "1" and os.environ.get("TARE_OCI_CRASH") == name:
        os.kill(os.getpid(), 9)
