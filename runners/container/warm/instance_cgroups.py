"""The cgroups of instances, which differ only by name: everything but the name is worked out, and opened, once.

To make them is most of what the caller of the fork server does in a start. In a single start that takes no time of its
own, since the fork server is in clone3 meanwhile. Of many starts at once, which keep all processors busy, it is a
sixth.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from ..light.dataclasses import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..cgroup.devices import RulesV1, RulesV2
    from ..cgroup.v1 import V1
    from ..cgroup.v2 import V2


@record(kw_only=True)
class Limits:
    """What each may use; None where there is no limit."""

    memory_bytes: int | None
    pids: int | None
    cpus: float | None


class InstanceCgroupsV1:
    """In v1: below one cgroup, and below the cgroup of the device rules. A context manager."""

    def __init__(self, parent: V1, rules: RulesV1 | None, limits: Limits) -> None:
        """Both exist, until this is left."""
        self._parent = parent
        self._parents = (parent,) if rules is None else (parent, rules.group)
        self._limits = [
            (*os.path.split(path), text.encode())
            for path, text in parent.limits(memory_bytes=limits.memory_bytes, pids=limits.pids, cpus=limits.cpus)
        ]
        #: Directory -> its descriptor: paths below it are not walked from the root each time.
        self._open: dict[str, int] = {}

    def __enter__(self) -> InstanceCgroupsV1:
        try:
            for parent in self._parents:
                for directory in parent.directories():
                    self._open[directory] = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def of(self, name: str) -> V1:
        """The cgroup of instance *name*, by which it is read."""
        return self._parent.child(name)

    def entrances(self, name: str) -> list[str]:
        """See :meth:`V1.entrances`."""
        return [f"{directory}/{name}/tasks" for directory in self._open]

    def create(self, name: str) -> None:
        """Make those of *name*, which do not exist, with their limits. Raises OSError with the path."""
        path = name
        try:
            for directory, fd in self._open.items():
                path = f"{directory}/{name}"
                os.mkdir(name, dir_fd=fd)
            for directory, file, text in self._limits:
                path = f"{directory}/{name}/{file}"
                fd = os.open(f"{name}/{file}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._open[directory])
                try:
                    os.write(fd, text)
                finally:
                    os.close(fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None

    def remove(self, name: str) -> None:
        """See :meth:`V1.remove`."""
        with ExitStack() as stack:
            for parent in self._parents:
                stack.callback(parent.child(name).remove)


class InstanceCgroupsV2:
    """In v2: one cgroup each, with the device rules attached."""

    def __init__(self, parent: V2, rules: RulesV2, limits: Limits) -> None:
        """Both exist, until this is left."""
        self._parent = parent
        self._rules = rules
        self._limits = limits

    def of(self, name: str) -> V2:
        """The cgroup of instance *name*."""
        return self._parent.child(name)

    def create(self, name: str) -> None:
        """Make that of *name*, with its limits. Raises OSError with the path."""
        group = self.of(name)
        group.create()
        self._rules.attach(group)
        limits = self._limits
        group.limit(memory_bytes=limits.memory_bytes, pids=limits.pids, cpus=limits.cpus)

    def open(self, name: str) -> int:
        """A descriptor of the directory of *name*, for a process to be born there (CLONE_INTO_CGROUP)."""
        return os.open(self.of(name).directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def remove(self, name: str) -> None:
        """See :meth:`V2.remove`."""
        self.of(name).remove()
