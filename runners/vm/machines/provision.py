"""A disk of its own for each instance, made from one that all share: what clouds call provisioning."""

from __future__ import annotations

import errno
import fcntl
import shutil
from pathlib import Path

from tare.runners.base import RunnerError
from tare.runners.vm.domain import Disk, Format
from tare.runners.vm.machines import place
from tare.runners.vm.options import Provision

#: linux/fs.h: a file becomes a copy that shares all blocks with another one.
_FICLONE = 0x40049409
QEMU_IMG = "apt-get install qemu-utils"
_MAGIC = b"QFI\xfb"  # qcow2.txt of QEMU's documentation


def format_of(file: Path) -> Format:
    """``qcow2`` or ``raw``, by the first bytes. Raises OSError."""
    with file.open("rb") as stream:
        return "qcow2" if stream.read(4) == _MAGIC else "raw"


def provide(how: Provision, base: Disk, target: Path) -> Disk:
    """Make *target* from the file of *base*, which is not written to; the disk that it is. Raises RunnerError.

    What was made so far is removed where it fails.
    """
    what = f"the disk {target.name} cannot be made from {base.path}"
    made = Disk(path=target, format="qcow2" if how == "overlay" else base.format, bus=base.bus, cache=base.cache)
    try:
        if how == "overlay":
            words = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", base.format, "-b", str(base.path), str(target)]
            place.run(words, what, QEMU_IMG)
        elif how == "copy":
            place.copy(base.path, target)
        else:
            _reflink(base.path, target, what)
    except OSError as error:
        target.unlink(missing_ok=True)
        raise RunnerError(
            what, _why(error, target), "make room there, or set TARE_CACHE to another directory"
        ) from error
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return made


def allocated_bytes(file: Path) -> int:
    """What *file* takes of the disk; blocks that it shares with another file count."""
    return 512 * file.stat().st_blocks


def _why(error: OSError, target: Path) -> str:
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why += f"; {shutil.disk_usage(target.parent).free >> 20} MiB are free in {target.parent}"
    return why


def _reflink(base: Path, target: Path, what: str) -> None:
    with base.open("rb") as source, target.open("xb") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV):
                raise
            why = f"{target.parent} is on a file system that shares no blocks between files: {error.strerror}"
            raise RunnerError(
                what, why, 'provision = "overlay", or set TARE_CACHE to a directory on XFS or Btrfs'
            ) from error
