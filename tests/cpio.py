"""A reader of initramfs archives ("newc" cpio), independent of the writer."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """What an archive says of one file."""

    mode: int
    owner: tuple[int, int]
    mtime: int
    device: tuple[int, int]
    data: bytes


def read(archive: bytes) -> dict[str, Entry]:
    """Read after buffer-format.rst; it fails on anything that the kernel would stumble over.

    Several archives may follow one another: of a path that two have, the later one's is taken.
    """
    entries: dict[str, Entry] = {}
    at, name = 0, b""
    while at < len(archive):
        assert at % 4 == 0
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        _, mode, uid, gid, _, mtime, size, _, _, major, minor, name_bytes, check = fields
        assert check == 0
        name = archive[at + 110 : at + 110 + name_bytes]
        assert name.endswith(b"\0")
        at += (110 + name_bytes + 3) & ~3
        if name == b"TRAILER!!!\0":
            continue
        entries[os.fsdecode(name[:-1])] = Entry(mode, (uid, gid), mtime, (major, minor), archive[at : at + size])
        at += (size + 3) & ~3
    assert name == b"TRAILER!!!\0"
    return entries
