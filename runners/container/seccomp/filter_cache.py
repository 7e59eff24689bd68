"""Compiled system call filters, kept from one start to the next below /run: crun does the same.

A file is used only if this user wrote it and nobody else can write it, if it was made for exactly this profile, which
it holds in full, and by the file of libseccomp that is installed now. Otherwise it counts as missing.
"""

from __future__ import annotations

import binascii
import os

_HEADER = b"tare-seccomp 3\n"


def _file(cache: str, key: str) -> str:
    return f"{cache}/{binascii.crc32(key.encode()):08x}"


def _stamp(library: str) -> bytes:
    found = os.stat(library)
    return f"{library}\0{found.st_mtime_ns} {found.st_size} {found.st_ino}".encode(errors="surrogateescape")


def load(cache: str, key: str) -> bytes:
    """The program that was stored for *key*; empty if there is none that may be used."""
    try:
        fd = os.open(_file(cache, key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        status = os.fstat(fd)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            return b""
        data = os.read(fd, status.st_size)
    finally:
        os.close(fd)
    head, _, program = data.partition(b"\n\n")
    library, _, _ = head.removeprefix(_HEADER).partition(b"\0")
    try:
        good = _head(key, os.fsdecode(library)) == head
    except (OSError, ValueError):  # the library has another path now
        return b""
    return program if good and len(program) % 8 == 0 else b""


def _head(key: str, library: str) -> bytes:
    return _HEADER + _stamp(library) + b"\n" + key.encode()


def store(cache: str, key: str, program: bytes, library: str) -> None:
    """Store *program* for *key*, made by *library*; by one rename, so a reader finds all of it or nothing."""
    scratch = f"{_file(cache, key)}.{os.getpid()}"
    try:
        os.makedirs(cache, 0o700, exist_ok=True)
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, _head(key, library) + b"\n\n" + program)
        finally:
            os.close(fd)
        os.replace(scratch, _file(cache, key))
    except OSError:
        # If /run is full or read-only, the next start takes longer, and that is all.
        try:
            os.unlink(scratch)
        except OSError:
            pass
