"""Files in which a program tells that it has got so far: a runtime's pid-file, an engine's file with a container's id.

They are in one directory, which inotify(7) watches: so a launch waits for an event, and looks at no clock.
"""

from __future__ import annotations

import os
import select
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tare.runners.base import RunnerError
from tare.runners.container.linux import rare_calls
from tare.runners.launch import monitored

#: How long such a program may take, where nothing else is said.
START_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldFiles:
    """The files in *directory*, each named as its instance."""

    directory: Path
    #: An inotify descriptor. One for all launches: to close one waits for a grace period of the kernel
    #: (fsnotify_destroy_group, synchronize_srcu), some 10 ms, which is not part of a start.
    watch: int
    #: Only one launch at a time waits for its events, since it would get those of another.
    waiting: threading.Lock = field(default_factory=threading.Lock)

    def path(self, name: str) -> Path:
        """The file of the instance *name*."""
        return self.directory / name

    def await_text(
        self,
        name: str,
        writer: subprocess.Popen[bytes],
        console: int,
        fix: Callable[[str], str],
        *,
        limit_ms: int = START_MS,
    ) -> str:
        """What the file of *name* holds, as soon as that is something. Raises RunnerError if *writer* ends before.

        *fix* gives the advice for what *writer* said on *console*, which is read up to there.
        """
        with self.waiting:
            ended = self._wait(name, writer, limit_ms)
        if isinstance(ended, str):
            return ended
        command = monitored.command(writer)
        if ended:
            monitored.await_end(writer)
            said = monitored.explain(writer, console)
            raise RunnerError(f"{command} made no container", said, fix(said))
        raise RunnerError(
            f"{command} made no container",
            f"it did not write {self.path(name)} within {limit_ms // 1000} s",
            "check whether the host is overloaded",
        )

    def _wait(self, name: str, writer: subprocess.Popen[bytes], limit_ms: int) -> str | bool:
        """The text; else whether *writer* ended (True), or too much time went by."""
        poll = select.poll()
        poll.register(self.watch, select.POLLIN)
        pidfd = os.pidfd_open(writer.pid)
        poll.register(pidfd, select.POLLIN)
        try:
            while True:
                # Read it even before an event: another launch may have read that. Programs write it by one write, or
                # rename it into place: so a text in it is complete.
                with suppress(FileNotFoundError):
                    if text := self.path(name).read_text().strip():
                        return text
                ready = dict(poll.poll(limit_ms))
                if self.watch in ready:
                    with suppress(BlockingIOError):
                        os.read(self.watch, 4096)
                elif not ready or pidfd in ready:
                    return bool(ready)
        finally:
            os.close(pidfd)


@contextmanager
def opened(directory: Path) -> Iterator[ToldFiles]:
    """Make *directory* and watch it, as long as the block goes on. Raises OSError."""
    directory.mkdir()
    try:
        watch = rare_calls.inotify(os.fspath(directory), rare_calls.IN_CLOSE_WRITE | rare_calls.IN_MOVED_TO)
        try:
            yield ToldFiles(directory=directory, watch=watch)
        finally:
            os.close(watch)
    finally:
        directory.rmdir()
