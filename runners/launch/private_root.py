"""A root of its own for each instance: an overlay of the image, with a writable layer in memory.

The layers of one subject share a tmpfs, so that what instances write costs memory, and nothing of it is on a disk. The
image itself is never written to. The source of each mount names this process: a later ``tare clean`` finds the mounts
of one that was killed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import RunnerError
from tare.runners.container.linux import mount_calls
from tare.runners.container.warm import leftovers
from tare.runners.container.warm.root_layer import overlay_options
from tare.runners.launch import frame


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateRoots:
    """Makes roots of *image* below *directory*. *extra* are directories that each has besides, such as ``usr``."""

    directory: Path
    image: Path
    extra: Sequence[str] = ()

    def make(self, name: str, stack: ExitStack) -> Path:
        """The directory of the instance *name*, in which ``rootfs`` is its root; *stack* removes it. Raises OSError."""
        own, layer = self.directory / name, self.directory / "layers" / name
        rootfs, upper, work = own / "rootfs", layer / "u", layer / "w"
        for directory in (own, rootfs, layer, upper, work, *(upper / name for name in self.extra)):
            directory.mkdir()
        upper.chmod(0o755)  # whatever the umask: users other than root must get through
        stack.callback(shutil.rmtree, layer)
        stack.callback(shutil.rmtree, own)
        data = overlay_options(os.fspath(self.image), os.fspath(upper), os.fspath(work))
        mount_calls.mount(leftovers.mine(), os.fspath(rootfs), "overlay", 0, data)
        stack.callback(mount_calls.umount2, os.fspath(rootfs), 0)
        return own


@contextmanager
def opened(directory: Path, image: Path, extra: Sequence[str] = ()) -> Iterator[PrivateRoots]:
    """What makes roots, as long as the block goes on: their writable layers are in a tmpfs. Raises RunnerError."""
    layers = directory / "layers"
    layers.mkdir()
    try:
        try:
            mount_calls.mount(leftovers.mine(), os.fspath(layers), "tmpfs", 0, "mode=700")
        except OSError as error:
            what = "cannot mount a tmpfs for the writable layers"
            raise RunnerError(what, str(error), frame.need_root()) from error
        try:
            yield PrivateRoots(directory=directory, image=image.resolve(), extra=extra)
        finally:
            mount_calls.umount2(os.fspath(layers), 0)
    finally:
        layers.rmdir()
