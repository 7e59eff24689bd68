"""The null baseline: an instance that is ready at once and has no process. It measures the instrument itself."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import Address, Layers, Mark, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.launch import drain

LAYERS: Layers = ()
TYPICAL_S = 0.001
OPTIONS: Mapping[str, Option] = {}


@dataclass(frozen=True, slots=True)
class _Nothing:
    console: int
    cgroup: Path | None = None

    def pids(self) -> frozenset[int]:
        return frozenset()

    def explain(self) -> str:
        return ""

    def address(self) -> Address:
        raise RunnerError("the null runner has no port", "it starts nothing")

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        raise RunnerError("nothing can be run in the null runner", f"it starts nothing: {' '.join(argv)}")

    def status(self) -> int | None:
        return None

    def reclaim(self, size_bytes: int) -> None:
        raise RunnerError("the null runner has no memory to give back", f"{size_bytes} bytes were asked for")


def probe(options: Options, cache: Path) -> Support:
    """Always possible."""
    return Support(ok=True, version="1", unlimited=("memory", "cpus"))


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """Nothing to prepare."""
    yield Prepared(launch=_launch, manifest={"argv.txt": "(starts nothing: both marks are written at once)\n"})


def sweep() -> Sequence[str]:
    """Nothing can be left."""
    return ()


@contextmanager
def _launch(name: str, mark: Mark) -> Iterator[_Nothing]:
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mark("created")
        os.write(writer, b"tare first\ntare ready\n")
        yield _Nothing(reader)
        mark("stopped")
    finally:
        drain.close(reader)
        os.close(writer)
