"""Directories as an initramfs: a cpio archive in the "newc" format, written without any privilege.

Format: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source. The archive is left
uncompressed: the host only copies it into the guest's memory, while the guest would have to decompress it during the
start that is being timed, and under software emulation that costs about a hundred times what it does natively.

Device nodes that the first process needs are entries of the archive only, so nobody has to be root to make it. All
times are 0 and all owners root: the same directory gives the same bytes.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from tare.runners.base import RunnerError
from tare.runners.image.cache import keep
from tare.runners.image.rootfs import digest, walk

#: path -> (mode, major, minor). Numbers from Documentation/admin-guide/devices.txt.
DEVICES: dict[str, tuple[int, int, int]] = {
    "dev/console": (stat.S_IFCHR | 0o600, 5, 1),
    "dev/null": (stat.S_IFCHR | 0o666, 1, 3),
    "dev/ttyS0": (stat.S_IFCHR | 0o600, 4, 64),
    "dev/ttyS1": (stat.S_IFCHR | 0o600, 4, 65),
}

#: Part of the cache key: raise it whenever the same directory would give other bytes.
_FORMAT = 1
_TRAILER = "TRAILER!!!"
_FIELD_MAX = 0xFFFFFFFF


class _Writer:
    """Appends entries to a stream; knows the padding rules of the format and nothing about file systems."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inode = 0

    def header(
        self,
        path: str,
        mode: int,
        *,
        size_bytes: int = 0,
        major: int = 0,
        minor: int = 0,
        owner: tuple[int, int] = (0, 0),
    ) -> None:
        """Write one entry's header and name; *size_bytes* of content must follow, then :meth:`pad`."""
        if size_bytes > _FIELD_MAX:
            raise RunnerError(
                f"{path} does not fit into an initramfs", f"{size_bytes} bytes; the format allows up to 4 GiB"
            )
        name = os.fsencode(path) + b"\0"
        # Hard links are told by equal inode numbers: every entry gets its own, and a linked file is stored twice.
        self._inode += 1
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self._inode, mode, *owner, links, 0, size_bytes, 0, 0, major, minor, len(name), 0)
        self._stream.write(b"070701" + "".join(f"{field:08X}" for field in fields).encode() + name)
        self.pad(110 + len(name))

    def data(self, content: bytes) -> None:
        self._stream.write(content)
        self.pad(len(content))

    def pad(self, written_bytes: int) -> None:
        self._stream.write(b"\0" * (-written_bytes % 4))

    def finish(self) -> None:
        self.header(_TRAILER, 0)


def write(stream: BinaryIO, *trees: Path, owned: bool = False) -> None:
    """Write *trees* and :data:`DEVICES` to *stream*; of a path that two trees have, the later one's is taken.

    Sockets are left out; no link is followed, and no tree is changed. With *owned* each file keeps its owner, but what
    belongs to this user becomes root's: an ordinary user can give files to nobody else.
    """
    entries: dict[str, tuple[Path, os.stat_result] | None] = {"dev": None, **dict.fromkeys(DEVICES)}
    for tree in trees:
        entries.update((path, (tree / path, status)) for path, status in walk(tree) if path not in DEVICES)
    writer = _Writer(stream)
    # Sorted by components, so that a directory comes before its entries even if a name sorts before "/".
    for path in sorted(entries, key=lambda path: path.split("/")):
        entry = entries[path]
        if path in DEVICES:
            mode, major, minor = DEVICES[path]
            writer.header(path, mode, major=major, minor=minor)
        elif entry is None:
            writer.header(path, stat.S_IFDIR | 0o755)
        else:
            _add(writer, stream, entry[0], path, entry[1], _owner(entry[1]) if owned else (0, 0))
    writer.finish()


def _owner(status: os.stat_result) -> tuple[int, int]:
    if status.st_uid == os.geteuid():
        return 0, 0 if status.st_gid == os.getegid() else status.st_gid
    return status.st_uid, status.st_gid


def _add(
    writer: _Writer, stream: BinaryIO, source: Path, path: str, status: os.stat_result, owner: tuple[int, int]
) -> None:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        with source.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            writer.header(path, mode, size_bytes=size_bytes, owner=owner)
            start = stream.tell()
            shutil.copyfileobj(file, stream, 1 << 20)
        if stream.tell() - start != size_bytes:
            raise RunnerError(
                f"{source} changed while it was read", "the initramfs would hold parts of two versions", "run again"
            )
        writer.pad(size_bytes)
    elif stat.S_ISLNK(mode):
        target = os.fsencode(os.readlink(source))  # noqa: PTH115 - Path would tidy the text
        writer.header(path, mode, size_bytes=len(target), owner=owner)
        writer.data(target)
    elif stat.S_ISDIR(mode) or stat.S_ISFIFO(mode):
        writer.header(path, mode, owner=owner)
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        writer.header(path, mode, major=os.major(status.st_rdev), minor=os.minor(status.st_rdev), owner=owner)


def initramfs(cache: Path, *trees: Path) -> Path:
    """The initramfs of *trees* (:func:`write`), made once below *cache* for each digest of them. Raises RunnerError."""
    for tree in trees:
        if not tree.is_dir():
            raise RunnerError(
                f"the root filesystem {tree} is not a directory", fix="give the directory of a root filesystem"
            )

    def build(path: Path) -> None:
        try:
            with path.open("wb") as stream:
                write(stream, *trees)
        except OSError as error:
            names = " and ".join(map(str, trees))
            raise RunnerError(f"the initramfs of {names} could not be written", str(error)) from error

    return keep(cache, f"initramfs-{'-'.join(map(digest, trees))}-{_FORMAT}.cpio", build)
