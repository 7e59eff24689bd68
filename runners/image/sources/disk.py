"""A disk of the user's that holds a whole system, such as a distribution's cloud image: qcow2 or raw."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import ImageConfig
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.image.cache import keep
from tare.runners.image.sources.base import Note, Source, a_file, hash_of, whole

_CONFIG = ImageConfig(machine=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeDisk:
    """See :class:`runners.base.Image`: there are no files in it that anybody but its own system sees."""

    source: str
    digest: str
    directory: Path
    file: Path
    config: ImageConfig = _CONFIG

    def shape(self, name: str) -> Path:
        """The file itself, as the disk of a ``machine``. Raises ImageRefused for another shape."""
        if name != "machine":
            why = "it is a disk, which a virtual machine starts by itself"
            raise ImageRefused(f"the image {self.source} has no shape '{name}'", why, 'runner = "vm", boot = "cloud"')
        return self.file


def _make(rest: str, cache: Path, note: Note) -> WholeDisk:
    file = a_file(Path(rest))
    empty = keep(cache, "nothing", Path.mkdir)
    return WholeDisk(source=f"disk:{rest}", digest=hash_of(file, note), directory=empty, file=file.absolute())


SOURCE = Source(
    form="disk:FILE",
    meaning="a disk with a whole system (qcow2 or raw), for the runner vm alone",
    make=_make,
    path=whole,
)
