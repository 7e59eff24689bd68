"""The host's own root below an overlay: what it cannot show is said before anything starts."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from tare.runners.base import HOST, RunnerError, Scratch, Spec
from tare.runners.container.cgroup.mountinfo import entries
from tare.runners.launch import private_root


def check(spec: Spec, scratch: Scratch) -> None:
    """Raise RunnerError where *spec* wants the host's root, and cannot have it below an overlay.

    An overlay shows one file system: what is mounted elsewhere on the host is not in it.
    """
    if spec.image.source != HOST:
        return
    points = [mount.point for mount in entries(Path("/proc/self/mountinfo").read_text())]
    for path in (spec.argv[0], spec.cwd):
        point = mount_point(os.path.realpath(path), points)
        if point != "/":
            raise RunnerError(
                f"a container of the host's root would not have {path}",
                f"{point} is a file system of its own, and the overlay below the container shows that of / alone",
                "put it below / itself, or give the workload the directory that holds it as its image",
            )
    if os.geteuid() == 0:
        _try(spec, scratch)


def mount_point(path: str, points: list[str]) -> str:
    """The longest of *points* that *path* is below."""
    return max((one for one in points if path == one or path.startswith(f"{one.rstrip('/')}/")), key=len, default="/")


def _try(spec: Spec, scratch: Scratch) -> None:
    try:
        with ExitStack() as stack:
            stack.enter_context(private_root.opened(scratch.directory, spec.rootfs)).make("trial", stack)
    except OSError as error:
        raise RunnerError(
            "the root of this host cannot lie below a container",
            f"an overlay of / is refused: {error.strerror} (overlays can be stacked twice, and / may be one itself)",
            'give the workload an image instead: a directory, or image = "debian:bookworm+PACKAGE"',
        ) from error
