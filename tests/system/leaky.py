"""A runner that leaves things behind at each start, as a broken one would: a process, a cgroup, a mount, a file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tare.runners import null
from tare.runners.base import Instance, Layers, Mark, Option, Options, Prepared, Scratch, Spec, Support
from tare.runners.container.cgroup import cgroups

LAYERS: Layers = ()
TYPICAL_S = 0.01
OPTIONS: Mapping[str, Option] = {}


def probe(options: Options, cache: Path) -> Support:
    return Support(ok=True, version="leaky")


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    with null.prepare(spec, options, scratch) as prepared:

        @contextmanager
        def launch(name: str, mark: Mark) -> Iterator[Instance]:
            with prepared.launch(name, mark) as instance:
                yield instance
            os.posix_spawn("/bin/sleep", [f"sleep-{name}", "60"], {})
            cgroups.at(f"{scratch.cgroup}/{name}").create()
            place = scratch.directory / name
            place.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)

        yield Prepared(launch=launch)


def sweep() -> Sequence[str]:
    return ()
