"""Open files: a ramp holds one or two descriptors of each instance, and the usual soft limit is 1024.

The soft limit is there for programs that call select(2), which is wrong beyond 1024; we do not.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def all_allowed() -> Iterator[None]:
    """Inside, this process and those that it starts may have as many files open as the hard limit says."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
