"""What a source of images is."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tare.runners.base import Image, RunnerError
from tare.runners.image.archives.stream import ImageRefused

#: Is told what is done now, and how many bytes of it are done.
Note = Callable[[str, int], object]

_PIECE = 1 << 20
_TAIL = 3
_PATIENCE_S = 30


class Make(Protocol):
    """Makes the image that the text after the colon names, below the cache. Raises RunnerError."""

    def __call__(self, rest: str, cache: Path, note: Note, /) -> Image:
        """See the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source: how it is written, what it means, and what makes the image.

    ``path`` splits the text after the colon into the path in it, taken from a directory, and what follows that; None
    where there is no path in it.
    """

    form: str
    meaning: str
    make: Make
    path: Callable[[str, Path], tuple[Path, str]] | None = None


def silent(_what: str, _bytes: int) -> None:
    """Tell nobody."""


def whole(rest: str, beside: Path) -> tuple[Path, str]:
    """All of *rest* is a path."""
    return beside / rest, ""


def tagged(rest: str, beside: Path) -> tuple[Path, str]:
    """``PATH`` or ``PATH:TAG``: the longest path that exists, since there may be colons in it and in the tag."""
    path, tag = rest, ""
    while not (beside / path).exists() and ":" in path:
        path, _, last = path.rpartition(":")
        tag = f":{last}{tag}"
    return (beside / path, tag) if (beside / path).exists() else (beside / rest, "")


def a_file(path: Path) -> Path:
    """*path*, if it is a file that can be read. Raises ImageRefused."""
    if not path.is_file():
        raise ImageRefused(f"cannot use the image {path}", "there is no such file", "correct the path")
    return path


def hash_of(path: Path, note: Note) -> str:
    """Sixteen hexadecimal digits over the content of a file. Raises ImageRefused."""
    total, done = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while data := file.read(_PIECE):
                total.update(data)
                done += len(data)
                note(f"reading {path.name}", done)
    except OSError as error:
        why = error.strerror or str(error)
        raise ImageRefused(f"cannot use the image {path}", why, "give a file that this user may read") from error
    return total.hexdigest()[:16]


def run(argv: Sequence[str], what: str, install: str, timeout_s: float = 1800) -> str:
    """What the program *argv* prints. Raises RunnerError, in which *what* failed and *install* says how to get it."""
    try:
        child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
        )
    except FileNotFoundError:
        raise RunnerError(what, f"there is no program {argv[0]}", install) from None
    except OSError as error:
        raise RunnerError(what, str(error), install) from error
    with child:
        try:
            out, err = child.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            _end(child)
            raise RunnerError(what, str(error), "run the command by hand to see more") from error
        except BaseException:  # a signal: what it mounted, it alone can unmount
            _end(child)
            raise
    if child.returncode:
        lines = [line.strip() for line in err.splitlines() if line.strip()]
        said = [line for line in lines if line.startswith(("E: ", "Error"))][:1] or lines[-_TAIL:]  # the first is why
        why = f"`{' '.join(argv[:3])} ...` ended with {child.returncode}: {'; '.join(said) or 'it said nothing'}"
        raise ImageRefused(what, why, "correct the name, or run the command by hand to see more")
    return out


def _end(child: subprocess.Popen[str]) -> None:
    """End *child* so that it can clean up, as mmdebstrap must; in the end by force."""
    child.terminate()
    try:
        child.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
