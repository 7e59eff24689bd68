"""Images that are directories already: the built-in one, this host's own root, a directory of the user's."""

from __future__ import annotations

from pathlib import Path

from tare.runners.image import kept
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.image.rootfs import digest, payload_root
from tare.runners.image.sources.base import Note, Source, whole
from tare.runners.image.tree import Tree


def _payload(_rest: str, cache: Path, _note: Note) -> Tree:
    root = payload_root(cache)
    return Tree(source="payload", digest=root.name.rpartition("-")[2], directory=root, cache=kept.place(cache))


def _host(_rest: str, cache: Path, _note: Note) -> Tree:
    return Tree(source="host", digest="", directory=Path("/"), cache=kept.place(cache))


def _directory(rest: str, cache: Path, note: Note) -> Tree:
    tree = Path(rest)
    if not tree.is_dir():
        raise ImageRefused(f"cannot use the image {rest}", "there is no such directory", "correct its path")
    if tree.resolve() == Path("/"):
        raise ImageRefused(
            f"cannot use the image dir:{rest}", "this is the host's own root, with its /proc and /sys, and no end",
            "write host, whose content is not read",
        )  # fmt: skip
    note(f"reading {tree}", 0)
    try:
        found = digest(tree)
    except OSError as error:
        raise ImageRefused(
            f"cannot use the image {rest}", str(error), "give a directory that this user may read"
        ) from error
    return Tree(source=f"dir:{rest}", digest=found, directory=tree, cache=kept.place(cache))


PAYLOAD = Source(form="payload", meaning="the built-in image, which holds the payload alone", make=_payload)
HOST = Source(form="host", meaning="what this host's own programs find below /; its content is not read", make=_host)
DIRECTORY = Source(form="dir:PATH", meaning="a directory, as it is", make=_directory, path=whole)
