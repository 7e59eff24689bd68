"""An image as a disk of a machine: one ext4 file system, without a partition table and without a journal.

A guest mounts it read-only, below a layer in its memory, so one file serves all instances.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

from tare.runners.base import RunnerError
from tare.runners.image.rootfs import walk

_BLOCK = 4096
#: The superblock, descriptors and bitmaps of a small file system, and the directory lost+found.
_LEAST_BYTES = 4 << 20
#: mke2fs's own ratio (mke2fs.conf, inode_ratio).
_BYTES_PER_INODE = 16384
#: Debian has it where an ordinary user's PATH does not lead.
PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def maker() -> str:
    """The path of mke2fs. Raises RunnerError."""
    found = shutil.which("mke2fs", path=PLACES)
    if found is None:
        raise RunnerError("an image cannot be made a disk", "there is no mke2fs", "apt-get install e2fsprogs")
    return found


def write(tree: Path, target: Path, *, spare_bytes: int = 0, journal: bool = False) -> None:
    """Write the files below *tree* to the new file *target*. Raises RunnerError.

    One that is written to has *spare_bytes* for it, and a *journal*. A file of this user, who is not root, is root's in
    it: nobody else's could be made.
    """
    entries = walk(tree)
    blocks = sum(_blocks(status) for _, status in entries)
    inodes = len(entries) + 64 + spare_bytes // _BYTES_PER_INODE
    size = _LEAST_BYTES + (blocks * _BLOCK + inodes * 256) * 21 // 20 + spare_bytes
    features = ["-O", "has_journal" if journal else "^has_journal"]
    words = [
        *_as_root(), maker(), "-q", "-F", "-t", "ext4", *features, "-m", "0", "-b", str(_BLOCK), "-N", str(inodes),
        "-E", "lazy_itable_init=0,root_owner=0:0", "-d", str(tree), str(target), f"{size >> 10}k",
    ]  # fmt: skip
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise RunnerError(f"the image {tree} cannot be made a disk", done.stderr.strip()[-400:], "see mke2fs(8)")


def _as_root() -> list[str]:
    """In a user namespace this user's files are root's, which is what mke2fs writes."""
    unshare = shutil.which("unshare")
    if os.geteuid() == 0 or unshare is None:
        return []
    words = [unshare, "--map-root-user"]
    allowed = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    return words if allowed else []


def _blocks(status: os.stat_result) -> int:
    """Blocks that an entry takes, with those of its map (ext4 keeps short links in the inode)."""
    if stat.S_ISREG(status.st_mode):
        return -(-status.st_size // _BLOCK) + status.st_size // (100 * _BLOCK)
    if stat.S_ISDIR(status.st_mode):
        return max(1, -(-status.st_size // _BLOCK))
    return 1
