"""An image as runners take it: its files in a directory, and what it says of its workload."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tare.runners.base import ImageConfig
from tare.runners.image import shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """See :class:`runners.base.Image`; *cache* is where its other shapes are kept."""

    source: str
    digest: str
    directory: Path
    cache: Path
    config: ImageConfig = field(default_factory=ImageConfig)

    def shape(self, name: str) -> Path:
        """See :meth:`runners.base.Image.shape`."""
        return shapes.make(self, name, self.cache)


def plain(directory: Path) -> Tree:
    """The files of *directory* as an image of no other shape, without reading them."""
    return Tree(source=f"dir:{directory}", digest="", directory=directory, cache=directory)
