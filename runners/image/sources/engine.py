"""Images in the store of an engine on this host, by their name there: the engine saves them, and tare unpacks that."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tare.runners.image import kept
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.image.kept import Filled
from tare.runners.image.sources import oci
from tare.runners.image.sources.base import Note, Source, run
from tare.runners.image.tree import Tree

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,255}")


@dataclass(frozen=True, slots=True)
class _Engine:
    program: str
    save: tuple[str, ...]
    package: str

    def make(self, rest: str, cache: Path, note: Note, /) -> Tree:
        """See :class:`runners.image.sources.base.Make`."""
        source = f"{self.program}:{rest}"
        what = f"cannot use the image {source}"
        if not _NAME.fullmatch(rest):
            raise ImageRefused(what, "this is no name of an image", f"`{self.program} images` lists them")
        inspect = (self.program, "image", "inspect", "--format", "{{.Id}}", rest)
        identity = run(inspect, what, f"apt-get install {self.package}", 60).strip().rpartition(":")[2]

        def fill(root: Path, scratch: Path) -> Filled:
            note(f"{self.program} saves {rest}", 0)
            file = scratch / "image.tar"
            run((self.program, "save", *self.save, "--output", str(file), rest), what, "")
            return oci.filled(oci.either(oci.opened(file, scratch, note)), root, source, note)

        return kept.make(cache, f"{self.program}-{identity[:16]}", source, fill)


_PODMAN = _Engine("podman", ("--format", "docker-archive"), "podman")
_DOCKER = _Engine("docker", (), "docker.io")
PODMAN = Source(form="podman:NAME", meaning="an image in podman's store, by its name there", make=_PODMAN.make)
DOCKER = Source(form="docker:NAME", meaning="an image in docker's store, by its name there", make=_DOCKER.make)
