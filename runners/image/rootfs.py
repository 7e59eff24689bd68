"""The built-in root filesystem: only the payload, and the directories that runners mount on."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

from tare.runners.base import RunnerError
from tare.runners.image.cache import keep
from tare.runners.payload import PATH, binary

_DIRECTORIES = {"dev": 0o755, "etc": 0o755, "proc": 0o755, "run": 0o755, "sys": 0o755, "tmp": 0o1777}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hostname": "tare\n",
}


def payload_root(cache: Path) -> Path:
    """The built-in root filesystem: a directory below *cache*, named by a digest of all that is in it.

    It is never written to: runners put a layer above it, or copy it. Raises RunnerError when the payload cannot be
    built.
    """
    program = binary(cache)
    recipe = repr((sorted(_DIRECTORIES.items()), sorted(_FILES.items()), program.name, PATH))
    name = f"rootfs-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"

    def build(root: Path) -> None:
        root.mkdir()
        for directory, mode in _DIRECTORIES.items():
            (root / directory).mkdir()
            (root / directory).chmod(mode)  # not by mkdir: the umask would clear bits
        for path, text in _FILES.items():
            (root / path).write_text(text)
            (root / path).chmod(0o644)
        init = root / PATH.lstrip("/")
        shutil.copyfile(program, init)
        init.chmod(0o755)
        root.chmod(0o755)

    return keep(cache, name, build)


def walk(tree: Path) -> list[tuple[str, os.stat_result]]:
    """Every path below *tree*, relative, parents first and sorted, with its ``lstat``; the root itself is left out."""
    found: list[tuple[str, os.stat_result]] = []

    def descend(directory: Path, inside: str) -> None:
        with os.scandir(directory) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
        for entry in ordered:
            relative = f"{inside}{entry.name}"
            found.append((relative, entry.stat(follow_symlinks=False)))
            if entry.is_dir(follow_symlinks=False):
                descend(Path(entry.path), f"{relative}/")

    try:
        descend(tree, "")
    except OSError as error:
        raise RunnerError(
            f"the root filesystem {tree} cannot be read", str(error), "give a directory that this user may read"
        ) from error
    return found


def digest(tree: Path) -> str:
    """Sixteen hexadecimal digits over paths, modes, link targets, device numbers and contents of *tree*.

    Owners and times do not count: a root filesystem is the same when it is unpacked again.
    """
    total = hashlib.sha256()
    for relative, status in walk(tree):
        path = tree / relative
        total.update(os.fsencode(relative) + f"\0{status.st_mode:o}\0".encode())
        if stat.S_ISREG(status.st_mode):
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        elif stat.S_ISLNK(status.st_mode):
            total.update(os.fsencode(os.readlink(path)) + b"\0")  # noqa: PTH115 - Path would tidy the text
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            total.update(f"{status.st_rdev}\0".encode())
    return total.hexdigest()[:16]
