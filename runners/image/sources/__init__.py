"""Where images come from: a text that a scenario holds, such as ``host`` or ``tar:FILE``, becomes an image.

One module each, and one line in :data:`SOURCES`.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from tare.runners.base import DISK, HOST, Image
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.image.sources import archive, busybox, debian, disk, engine, imported, oci, plain
from tare.runners.image.sources.base import Note, Source, silent

__all__ = ["DIRECTORY", "HOST", "PAYLOAD", "SOURCES", "Note", "Source", "absolute", "find", "silent", "split"]

PAYLOAD, DIRECTORY = "payload", "dir"
#: What to do where a subject needs an image, and was given the host's own root.
MAKE_ONE = "make an image with one command, and name it: tare image build debian:bookworm+python3"

#: Word before the colon -> what makes an image of what comes after it.
SOURCES: dict[str, Source] = {
    PAYLOAD: plain.PAYLOAD,
    HOST: plain.HOST,
    DIRECTORY: plain.DIRECTORY,
    "tar": archive.SOURCE,
    "oci": oci.LAYOUT,
    "docker-archive": oci.DOCKER_ARCHIVE,
    "podman": engine.PODMAN,
    "docker": engine.DOCKER,
    "debian": debian.SOURCE,
    "os": debian.SYSTEM,
    "busybox": busybox.SOURCE,
    "image": imported.SOURCE,
    DISK: disk.SOURCE,
}


def find(source: str, cache: Path, note: Note = silent) -> Image:
    """The image that *source* names, made where it was never made before; *note* is told how that goes on.

    A text without a colon that is none of the words is the path of a directory. Raises RunnerError; of it ImageRefused
    where *source* is at fault.
    """
    word, rest = split(source)
    return SOURCES[word].make(rest, cache, note)


def split(source: str) -> tuple[str, str]:
    """The word of *source*, and what comes after it. Raises ImageRefused for a word that is none, or lacks a rest."""
    word, colon, rest = source.partition(":")
    if word not in SOURCES and (not colon or "/" in word):
        word, rest = DIRECTORY, source
    elif word not in SOURCES:
        close = difflib.get_close_matches(word, SOURCES, n=1)
        question = f"did you mean '{close[0]}'? " if close else ""
        why = f"there is no source of images '{word}'"
        raise ImageRefused(f"cannot use the image {source}", why, f"{question}known: {', '.join(sorted(SOURCES))}")
    said = SOURCES[word]
    if bool(rest) != (":" in said.form):
        why = "it needs more than this word" if not rest else "it takes nothing after the colon"
        raise ImageRefused(f"cannot use the image {source}", why, f"write {said.form}: {said.meaning}")
    return word, rest


def absolute(source: str, beside: Path) -> str:
    """*source* as all can use it: a relative path in it is one from the directory *beside*. Raises ImageRefused."""
    word, rest = split(source)
    said = SOURCES[word]
    if said.path is None:
        return source
    path, further = said.path(rest, beside)
    if not path.exists():
        kind = "directory" if word == DIRECTORY else "file or directory"
        raise ImageRefused(f"cannot use the image {source}", f"there is no {kind} {path}", "correct the path")
    return f"{word}:{path.resolve()}{further}"
