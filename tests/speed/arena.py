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

from tare import runners
from tare.bench.host import run_cgroup, workspace
from tare.runners import payload
from tare.runners.base import Launch, Scratch, Spec
from tare.runners.container.cgroup import cgroups
from tare.runners.image.cache import cache_dir
from tare.runners.image.rootfs import payload_root
from tare.runners.image.tree import plain
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
    """A scratch directory and cgroups: *whole* of all, *load* of the containers. Contestants enter it one by one."""

    def __init__(self, stack: ExitStack, scratch: Path, *, whole: cgroups.Cgroup, load: cgroups.Cgroup) -> None:
        self._stack = stack
        self._scratch = scratch
        self._count = 0
        self.whole, self.load = whole, load

    def enter(self, runner: str) -> Contestant:
        """The contestant called *runner*: "floor" or a name of the registry. Raises LookupError where it cannot run."""
        self._count += 1
        cache, directory = cache_dir(), self._scratch / str(self._count)
        directory.mkdir()
        argv = payload.Payload().argv
        spec = Spec(argv=argv, image=plain(payload_root(cache)), memory_bytes=MEMORY_BYTES, cpus=1)
        group = f"{self.load.relative}/{self._count}"
        if runner == "floor":
            return Floor(self._stack.enter_context(floor.opened(spec, cgroup=group, place=directory, cache=cache)))
        module = runners.load(runner)
        support = module.probe({}, cache)
        if not support.ok:
            raise LookupError(f"{runner}: {support.why}")
        where = Scratch(directory=directory, cache=cache, cgroup=group, prefix=self.whole.relative)
        prepared = self._stack.enter_context(module.prepare(spec, {}, where))
        return Runner(prepared.launch, prepared.resident_pids)


@contextmanager
def opened() -> Iterator[Arena]:
    """An arena of this process; all that was in it is gone at the end. Raises LookupError without cgroups.

    The process is in it too, so what the kernel charges to whoever starts a container is read with :attr:`whole`.
    """
    prefix = workspace.new_prefix()
    with ExitStack() as outer:
        scratch = outer.enter_context(workspace.scratch(prefix))
        held = outer.enter_context(run_cgroup.opened(prefix))
        if held is None:
            raise LookupError(cgroups.usable())
        with ExitStack() as stack:
            yield Arena(stack, scratch, whole=cgroups.at(prefix), load=cgroups.at(held.load))
