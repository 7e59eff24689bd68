"""One place in which the floor and the runners start the same payload by one contract, for speed tests to share.

A contestant has the two halves of a start: ``start(name)`` returns when the payload has said that it is ready, and
``stop(name)`` when all that the start made is gone.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from bench import bringup, pan, workspace
from bench.scenario import Subject
from runners import payload
from runners.base import Launch, Spec
from runners.image.cache import cache_dir
from runners.image.rootfs import payload_root
from tests.floor import floor

MEMORY_BYTES = 128 << 20
DEADLINE_MS = 60_000


class Contestant(Protocol):
    """Who can start and stop the payload."""

    #: Processes that stay between starts.
    resident: frozenset[int]

    def start(self, name: str, /) -> object:
        """Start *name* and return when it is ready."""

    def stop(self, name: str, /) -> object:
        """Stop and remove *name*."""


class Floor:
    """The kernel's floor as a contestant."""

    def __init__(self, opened: floor.Floor) -> None:
        self.start, self.stop = opened.start, opened.stop
        self.resident = frozenset({opened.pid})


class Runner:
    """A runner's launch as a contestant."""

    def __init__(self, launch: Launch, resident: frozenset[int]) -> None:
        self._launch = launch
        self._alive: dict[str, ExitStack] = {}
        self.resident = resident

    def start(self, name: str) -> None:
        """See :class:`Contestant`."""
        with ExitStack() as stack:
            instance = stack.enter_context(self._launch(name, lambda phase: None))
            text = b""
            poll = select.poll()
            poll.register(instance.console, select.POLLIN)
            while b"tare ready\n" not in text:
                if not poll.poll(DEADLINE_MS):
                    raise TimeoutError(f"{name}: silence after {text!r}: {instance.explain()}")
                data = os.read(instance.console, 4096)
                if not data:
                    raise ChildProcessError(f"{name} ended after {text!r}: {instance.explain()}")
                text += data
            self._alive[name] = stack.pop_all()

    def stop(self, name: str) -> None:
        """See :class:`Contestant`."""
        self._alive.pop(name).close()


class Arena:
    """A scratch directory and a cgroup; contestants enter it one by one."""

    def __init__(self, stack: ExitStack, place: bringup.Place) -> None:
        self._stack = stack
        self._place = place
        self._count = 0
        self.prefix = place.prefix

    def enter(self, runner: str) -> Contestant:
        """The contestant called *runner*: "floor" or a name of the registry. Raises LookupError where it cannot run."""
        self._count += 1
        argv = (payload.PATH, *payload.arguments())
        if runner == "floor":
            directory = self._place.scratch / f"f{self._count}"
            directory.mkdir()
            spec = Spec(argv=argv, rootfs=payload_root(self._place.cache), memory_bytes=MEMORY_BYTES, cpus=1)
            assert self._place.cgroup is not None
            group = f"{self._place.cgroup}/{directory.name}"
            opened = floor.opened(spec, cgroup=group, place=directory, cache=self._place.cache)
            return Floor(self._stack.enter_context(opened))
        subject = Subject(label=runner, runner=runner, options={}, argv=argv, memory_bytes=MEMORY_BYTES, cpus=1)
        brought = bringup.bring_up(subject, None, self._place, self._count, self._stack)
        if brought.prepared is None:
            raise LookupError(brought.record.skipped)
        return Runner(brought.prepared.launch, brought.prepared.resident_pids)


@contextmanager
def opened(cache: Path | None = None) -> Iterator[Arena]:
    """An arena of this process, which needs the right to make cgroups; all that was in it is gone at the end."""
    prefix = workspace.new_prefix()
    with ExitStack() as stack:
        scratch = stack.enter_context(workspace.scratch(prefix))
        opened = stack.enter_context(pan.opened(prefix))
        if opened is None:
            raise LookupError("this user may not make cgroups")
        place = bringup.Place(scratch=scratch, cache=cache or cache_dir(), cgroup=opened.relative, prefix=prefix)
        yield Arena(stack, place)
