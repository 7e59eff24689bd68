"""Where expensive things are kept between runs, and how they get there whole.

Every entry's name holds a digest of what it was made from. An entry appears by one rename, so a reader sees all of it
or nothing, and two runs that make the same entry at once do no harm.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runners.base import RunnerError


def cache_dir() -> Path:
    """``$TARE_CACHE``, else ``$XDG_CACHE_HOME/tare``, else ``~/.cache/tare``. Not created here.

    A relative ``XDG_CACHE_HOME`` is ignored, as the XDG Base Directory Specification demands.
    """
    if chosen := os.environ.get("TARE_CACHE"):
        return Path(chosen).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "tare"


@contextmanager
def workspace(cache: Path) -> Iterator[Path]:
    """A directory below *cache* to build in: a rename from it to the cache never crosses a file system."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix="building-", dir=cache)
    except OSError as error:
        raise RunnerError(
            f"the cache {cache} cannot be written", str(error), "set TARE_CACHE to a directory that you own"
        ) from error
    try:
        yield Path(made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def publish(built: Path, target: Path) -> None:
    """Move *built* (on the same file system) to *target*, unless another run was faster with the same content."""
    try:
        os.replace(built, target)
    except OSError:
        # rename(2) onto a filled directory fails (ENOTEMPTY, EEXIST); names hold digests, so what is there is as good.
        if not target.exists():
            raise


def keep(cache: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Return ``cache/name``, a file or directory; when missing, ``build(path)`` makes it and it is moved there."""
    target = cache / name
    if not target.exists():
        with workspace(cache) as scratch:
            build(scratch / name)
            publish(scratch / name, target)
    return target
