"""Copies what an image has at a path to the tmpfs that is mounted over it (the mount option tmpcopyup)."""

from __future__ import annotations

import os
import stat


def copy(source: int, target: int) -> None:
    """Copy what is in the directory *source* into the directory *target*, both descriptors, with owners and modes."""
    for name in os.listdir(source):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        elif stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            inner, made = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=target)
            try:
                copy(inner, made)
                os.fchown(made, found.st_uid, found.st_gid)
                os.fchmod(made, stat.S_IMODE(found.st_mode))
            finally:
                os.close(inner)
                os.close(made)
        elif stat.S_ISREG(found.st_mode):
            _copy_file(name, source, target, found)
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
            os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_file(name: str, source: int, target: int, found: os.stat_result) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            while os.sendfile(writer, reader, None, 1 << 20):
                pass
            os.fchown(writer, found.st_uid, found.st_gid)
            os.fchmod(writer, stat.S_IMODE(found.st_mode))
        finally:
            os.close(writer)
    finally:
        os.close(reader)
