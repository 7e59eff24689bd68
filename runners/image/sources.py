"""Where images come from: a text that a scenario holds, such as ``host`` or ``/srv/image``, becomes an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tare.runners.base import Image, RunnerError
from tare.runners.image.rootfs import digest, payload_root
from tare.runners.image.tree import Tree

PAYLOAD, HOST, DIRECTORY = "payload", "host", "dir"


def payload(_: str, cache: Path) -> Tree:
    """The built-in one, which holds only the payload."""
    root = payload_root(cache)
    return Tree(source=PAYLOAD, digest=root.name.rpartition("-")[2], directory=root, cache=cache)


def host(_: str, cache: Path) -> Tree:
    """What this host's own programs find below ``/``. Its content is not read, so it has no digest."""
    return Tree(source=HOST, digest="", directory=Path("/"), cache=cache)


def directory(place: str, cache: Path) -> Tree:
    """A directory of the user's."""
    tree = Path(place)
    if not tree.is_dir():
        raise RunnerError(f"cannot use the image {place}", "there is no such directory", "correct its path")
    return Tree(source=f"{DIRECTORY}:{place}", digest=digest(tree), directory=tree, cache=cache)


#: Word before the colon -> what makes an image of what comes after it.
SOURCES: dict[str, Callable[[str, Path], Image]] = {PAYLOAD: payload, HOST: host, DIRECTORY: directory}


def find(source: str, cache: Path) -> Image:
    """The image that *source* names, made where it was never made before. Raises RunnerError.

    A text without a colon that is none of the words is the path of a directory.
    """
    word, colon, rest = source.partition(":")
    if word in SOURCES:
        return SOURCES[word](rest, cache)
    if colon and "/" not in word:
        known = ", ".join(sorted(SOURCES))
        raise RunnerError(f"cannot use the image {source}", f"there is no source of images '{word}'", f"known: {known}")
    return directory(source, cache)
