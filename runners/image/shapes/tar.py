"""An image as one tar file: what ``docker import`` and ``podman import`` take, and the layer of an OCI image.

It has owners (as numbers), modes, times, hard links and file capabilities. Left out are sockets and devices: every
runner makes a /dev of its own, and an engine of an ordinary user refuses an archive that has a device.
"""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

from tare.runners.image.rootfs import walk

_CAPABILITY = "security.capability"


def write(tree: Path, target: Path) -> None:
    """Write the files below *tree* to the new file *target*: the same tree gives the same bytes. Raises OSError."""
    # PAX: names of any length and bytes, and capabilities. Its times are whole seconds here, as an image's are.
    with tarfile.open(target, "x", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape") as archive:
        for path, status in walk(tree):
            if stat.S_ISSOCK(status.st_mode) or stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                continue
            member = archive.gettarinfo(tree / path, path)  # knows a further name of a file by its inode
            member.mtime = int(status.st_mtime)
            member.uname = member.gname = ""  # names of this host's passwd(5), which are not the image's
            if held := capability(tree / path, status):
                member.pax_headers = {f"SCHILY.xattr.{_CAPABILITY}": held.decode("utf-8", "surrogateescape")}
            if member.isreg():
                with (tree / path).open("rb") as content:
                    archive.addfile(member, content)
            else:
                archive.addfile(member)


def capability(path: Path, status: os.stat_result) -> bytes:
    """The file capabilities of *path* as the kernel keeps them (capabilities(7)); empty for none."""
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
        return b""
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    except OSError:  # it has none, or its file system has none
        return b""
