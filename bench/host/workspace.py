"""Where a run works: the lock that keeps two runs from measuring each other, its scratch directory, its open files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tare.bench.errors import HostError, UsageError
from tare.runners.base import PREFIX

_NAME = re.compile(rf"{re.escape(PREFIX)}[0-9a-f]{{6}}(-.*)?")


def base() -> Path:
    """The directory of scratch directories: short, since unix socket paths end at 107 bytes, and gone with the boot."""
    if os.geteuid() == 0:
        return Path("/run")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")


@contextmanager
def locked() -> Iterator[None]:
    """Hold the lock by which one run at a time measures here. Raises UsageError, naming the holder, if it is taken."""
    path = base() / "tare.lock"
    try:
        fd = _open_for_all(path)
    except OSError as error:
        raise HostError(
            f"cannot lock {path}", error.strerror or str(error), "check the owner and the mode of this file"
        ) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
            raise UsageError(
                "another tare run is measuring on this host",
                f"its pid is {holder}; two runs at once would measure each other",
                "wait for it, or stop it",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _open_for_all(path: Path) -> int:
    """Open the lock, or make it: in /tmp it is there for all users, whoever ran tare first.

    Opened without O_CREAT first, which the kernel may refuse for a file of another user in a directory such as /tmp
    (fs.protected_regular, Documentation/admin-guide/sysctl/fs.rst).
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, flags)
    fd = os.open(path, flags | os.O_CREAT, 0o666)
    os.fchmod(fd, 0o666)  # the umask took a part of it
    return fd


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """An empty directory of mode 0700 for the run named *prefix*, removed at the end with all that is in it."""
    path = base() / prefix
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # a mount left in it is a leak, reported by the audit before this


def new_prefix() -> str:
    """A name for one stretch of measuring: all that it makes on the host begins with it."""
    return f"{PREFIX}{secrets.token_hex(3)}"


def is_ours(name: str) -> bool:
    """Whether *name* begins with a prefix that :func:`new_prefix` may have given; runners name other things too."""
    return bool(_NAME.fullmatch(name))


def leftovers() -> list[Path]:
    """Scratch directories of this user's runs that did not end. Only meaningful while :func:`locked`."""
    with contextlib.suppress(OSError):
        return sorted(path for path in base().iterdir() if is_ours(path.name) and path.is_dir() and _is_own(path))
    return []


def _is_own(path: Path) -> bool:
    return path.lstat().st_uid == os.geteuid()


def remove(path: Path) -> None:
    """Remove one of :func:`leftovers`, never following a mount: a busy or foreign file system raises HostError."""
    if path.stat().st_dev != path.parent.stat().st_dev or any(entry.is_mount() for entry in path.rglob("*")):
        raise HostError(
            f"{path} still has a filesystem mounted in it",
            "",
            f"unmount it (findmnt -R {path} shows it), then run again",
        )
    shutil.rmtree(path)


@contextmanager
def many_open_files() -> Iterator[None]:
    """Let this process, and those that it starts, have as many files open as the hard limit says.

    A ramp holds one or two descriptors of each instance, and the usual soft limit is 1024. That is there for programs
    that call select(2), which is wrong beyond 1024; tare does not call it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
