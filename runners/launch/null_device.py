"""The host's /dev/null keeps its owner, whatever a runtime does with it.

A runtime gives the standard streams of a container to the container's user. Where one of them is /dev/null, crun before
1.24 gives away the host's own device (github.com/containers/crun, pull request 1847), and so did runc 1.1.3 and 1.1.4
(github.com/opencontainers/runc, issue 3674). An engine between us and the runtime opens that stream itself, so another
stream of ours does not help.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def kept() -> Iterator[None]:
    """Whoever owns the device at the beginning owns it at the end."""
    device = Path(os.devnull)
    before = device.stat()
    try:
        yield
    finally:
        now = device.stat()
        if (now.st_uid, now.st_gid) != (before.st_uid, before.st_gid):
            # One who may not do this could not run what gives it away.
            with suppress(PermissionError):
                os.chown(device, before.st_uid, before.st_gid)
