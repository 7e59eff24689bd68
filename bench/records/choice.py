"""Which run is meant: a path, a name or the beginning of one, a place in the list of runs, or a packed file.

In this order: ``latest`` and ``-1`` (the last in the list that ``tare list --runs`` prints), ``-2`` (the one before);
a path that exists; the name of a run; the beginning of one name alone. Whoever means a path that is called ``latest``
writes ``./latest``.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.bench.errors import UsageError
from tare.bench.records import packed, store

LATEST = "latest"
#: What a user types for a place counted from the end. A command line takes it for an option unless it is told not to.
PLACE = re.compile(r"-[1-9]\d{0,5}")
#: So many candidates are named.
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Chosen:
    """The directory of a run, and the packed file that it is unpacked from, if it is."""

    path: Path
    file: Path | None = None

    def beside(self, name: str) -> Path:
        """Where *name*, made of this run, belongs: into its directory, or beside its packed file as ``RUN-name``."""
        return self.path / name if self.file is None else self.file.with_name(f"{self.path.name}-{name}")


@contextmanager
def opened(text: str, results: Path) -> Iterator[Chosen]:
    """The run that *text* means; the directory of a packed one is there until the block ends.

    Raises UsageError, which names the candidates, where no run or more than one is meant, and for a packed file that is
    none.
    """
    path = _named(text, results)
    file = packed.within(path)
    if file is None:
        yield Chosen(path)
        return
    with packed.unpacked(file, str(path.relative_to(file))) as folder:
        yield Chosen(folder, file)


def directory(text: str, results: Path) -> Path:
    """As :func:`opened`, but of a directory alone: of a packed run, nothing can be changed."""
    path = _named(text, results)
    if file := packed.within(path):
        raise UsageError(f"{file} is a packed run", "a run goes on in a directory", "unpack it, and give its directory")
    return path


def _named(text: str, results: Path) -> Path:
    if text == LATEST or PLACE.fullmatch(text):
        return _at(text, results)
    path = Path(text)
    if _is_there(path) or packed.within(path) is not None:
        return _whole(path)
    names = [] if "/" in text else [run.name for run in store.runs(results)]
    begun = [text] if text in names else [name for name in names if name.startswith(text)]
    if len(begun) == 1:
        return results / begun[0]
    if begun:
        raise UsageError(f"more than one run begins with {text!r}", "", f"give more of its name: {_listed(begun)}")
    if "/" in text or not names:
        return path  # whoever reads it says what is wrong with it
    close = difflib.get_close_matches(text, {name[: len(text)] for name in names}, n=1)
    close = [name for name in names if name.startswith(tuple(close))]
    known = f"the nearest are {_listed(close)}" if close else f"the last are {_listed(names[-_MOST_NAMED:])}"
    raise UsageError(
        f"{text!r} is not a run",
        f"there is no such file, and no run in {results} begins so",
        f"give another name: {known}",
    )


def _at(text: str, results: Path) -> Path:
    """The run at a place counted from the end of the list; ``latest`` is the last."""
    runs = store.runs(results)
    place = 1 if text == LATEST else -int(text)
    if place <= len(runs):
        return runs[-place]
    if not runs:
        raise UsageError(
            f"there is no run in {results}", f"{text!r} is one of the runs there", "`tare run quick` makes one"
        )
    raise UsageError(
        f"there is no run {text} in {results}",
        f"it holds {len(runs)}",
        f"give -1 to -{len(runs)}; -{len(runs)} is {runs[0].name}",
    )


def _whole(path: Path) -> Path:
    """*path*, if it is no directory of several runs."""
    # By os.path: a directory that may not be entered is no error here; whoever reads the run says so.
    if path.name == store.HEADER and os.path.isfile(path):  # noqa: PTH113
        return path.parent
    readable = os.access(path, os.R_OK | os.X_OK)
    if readable and path.is_dir() and not (path / store.HEADER).exists() and (runs := store.runs(path)):
        raise UsageError(
            f"{path} is a directory of runs", "", f"give one of them: {_listed([str(run) for run in runs])}"
        )
    return path


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    """The last of *names*, which are the newest, and how many others there are."""
    shown = ", ".join(names[-_MOST_NAMED:])
    return f"{shown} and {len(names) - _MOST_NAMED} older" if len(names) > _MOST_NAMED else shown
