"""A cache for what takes long to make, kept between runs.

Every entry's name holds a digest of what it was made from. An entry appears by one rename, so a reader sees all of it
or nothing, and two runs that make the same entry at once do no harm.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tare.runners.base import RunnerError

_OWN = "set TARE_CACHE to a directory that you own"


def cache_dir() -> Path:
    """``$TARE_CACHE``, else ``$XDG_CACHE_HOME/tare``, else ``~/.cache/tare``. Not created here.

    A relative ``XDG_CACHE_HOME`` is ignored, as the XDG Base Directory Specification demands. Raises RunnerError for a
    user who has no home.
    """
    if chosen := os.environ.get("TARE_CACHE"):
        return Path(chosen).absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base / "tare"
    try:
        return Path.home() / ".cache" / "tare"
    except RuntimeError as error:  # HOME is not set, and the user is not in passwd(5)
        raise RunnerError("there is no directory for the cache", str(error), _OWN) from error


@contextmanager
def workspace(cache: Path) -> Iterator[Path]:
    """A directory below *cache* to build in: a rename from it to the cache never crosses a file system."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        made = tempfile.mkdtemp(prefix="building-", dir=cache)
    except OSError as error:
        raise _unusable(cache, error) from error
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
    """Return ``cache/name``, a file or directory; when missing, ``build(path)`` makes it and it is moved there.

    Raises RunnerError when the cache cannot be used, and what *build* raises, where that is no OSError.
    """
    target = cache / name
    try:
        if not target.exists():
            with workspace(cache) as scratch:
                build(scratch / name)
                publish(scratch / name, target)
    except OSError as error:
        raise _unusable(cache, error) from error
    return target


def _unusable(cache: Path, error: OSError) -> RunnerError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = f"the cache {cache} cannot be used: {error}"
    return RunnerError(what, fix="make room there" if full else _OWN)
