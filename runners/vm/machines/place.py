"""Where files are that QEMU must reach, and programs that make them."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tare.runners.base import RunnerError
from tare.runners.guest import workload
from tare.runners.vm.connection import LARGE, Hypervisor, runtime_directory

#: Debian has some where an ordinary user's PATH does not lead.
_PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


_CHUNK = 1 << 20


@contextmanager
def stage(hypervisor: Hypervisor, where: Path | None = None) -> Iterator[Path]:
    """A directory that QEMU can read: a daemon runs it as a user who may enter neither $HOME nor mkdtemp's 0700.

    It is in *where*, for a daemon in its stead in :data:`LARGE`; or, where nothing is said, where sockets go.
    """
    place = runtime_directory() if where is None else where if hypervisor.embedded is not None else LARGE
    made = workload.make_directory(place)
    try:
        if hypervisor.embedded is None:
            made.chmod(0o711)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def reachable(hypervisor: Hypervisor, file: Path, directory: Path) -> Path:
    """*file* itself, or for a daemon a copy in *directory*: libvirt gives what a domain uses to QEMU's user."""
    if hypervisor.embedded is not None:
        return file
    target = directory / file.name
    copy(file, target)
    target.chmod(0o644)
    return target


def copy(file: Path, target: Path) -> None:
    """Copy all of the data of *file* to the new file *target*; a hole stays a hole. Raises OSError.

    By write(2), since other calls may share blocks instead.
    """
    with file.open("rb") as source, target.open("xb") as made:
        size = os.fstat(source.fileno()).st_size
        at = 0
        while at < size:
            try:
                at = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # a hole to the end
                    break
                raise
            end = os.lseek(source.fileno(), at, os.SEEK_HOLE)
            source.seek(at)
            made.seek(at)
            while at < end:
                data = source.read(min(_CHUNK, end - at))
                made.write(data)
                at += len(data)
        made.truncate(size)


def run(words: Sequence[str], what: str, install: str, fix: str = "") -> None:
    """Run a program. Raises RunnerError, in which *what* failed; *install* says how to get the program.

    *fix* says what to do where the program fails.
    """
    program = shutil.which(words[0], path=_PLACES)
    if program is None:
        raise RunnerError(what, f"there is no program {words[0]}", install)
    done = subprocess.run(
        [program, *words[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-400:]
        raise RunnerError(what, f"{words[0]}: {said or f'status {done.returncode}'}", fix)
