"""Where files are that QEMU must reach, and programs that make them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tare.runners.base import RunnerError
from tare.runners.vm.connection import Hypervisor, make_directory

#: Debian has some where an ordinary user's PATH does not lead.
_PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


@contextmanager
def stage(hypervisor: Hypervisor, where: Path | None = None) -> Iterator[Path]:
    """A directory that QEMU can read: a daemon runs it as a user who may enter neither $HOME nor mkdtemp's 0700.

    It is in *where*, or where sockets go; for a daemon always there.
    """
    made = make_directory(where if hypervisor.embedded is not None else None)
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
    copy = directory / file.name
    shutil.copyfile(file, copy)
    copy.chmod(0o644)
    return copy


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
