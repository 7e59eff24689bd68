"""An ordinary user of this host, made for the tests that need one, and removed with all that is theirs."""

from __future__ import annotations

import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

#: The directories that every user may write to.
SHARED = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), Path("/run/lock"), Path("/run/user"))


@contextmanager
def made(name: str) -> Iterator[pwd.struct_passwd]:
    """The entry of the new user *name*, who has a home and further ids, as useradd(8) makes one.

    A file of an earlier user with the same number would look like this one's, so it is removed first.
    """
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", name], check=True)
    entry = pwd.getpwnam(name)
    try:
        remove_files(entry.pw_uid)
        yield entry
    finally:
        # podman keeps a process for the user, which waits; userdel(8) refuses a user who has one.
        end(entry.pw_uid)
        subprocess.run(["userdel", "--remove", name], check=True, capture_output=True)
        remove_files(entry.pw_uid)


def processes(uid: int) -> list[psutil.Process]:
    """The processes of the user *uid*."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            if one.uids().real == uid:
                found.append(one)
    return found


def files(uid: int) -> list[Path]:
    """What the user *uid* has in the directories that all may write to."""
    entries = (entry for place in SHARED if place.is_dir() for entry in place.iterdir())
    return [entry for entry in entries if entry.lstat().st_uid == uid]


def end(uid: int) -> None:
    """Kill the processes of the user *uid*, and wait for their end."""
    found = processes(uid)
    for one in found:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(found, timeout=10)


def remove_files(uid: int) -> None:
    """Remove what the user *uid* has where all may write."""
    for entry in files(uid):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
