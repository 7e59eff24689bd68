"""What runners of containers share: the names of the walls, what surrounds a start, and the trial of a probe.

A runner defines how one instance is started (a :data:`Start`); :func:`launcher` makes a launch of it.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Literal, Protocol

from tare.runners import payload
from tare.runners.base import (
    PREFIX,
    Address,
    Image,
    Instance,
    Launch,
    Mark,
    Options,
    Prepared,
    RunnerError,
    Scratch,
    Spec,
)
from tare.runners.container.cgroup import cgroups
from tare.runners.container.config.defaults import default_config
from tare.runners.container.warm import smallest_container
from tare.runners.image.tree import plain
from tare.runners.launch import drain

NAMESPACES = (
    "mount namespace",
    "pid namespace",
    "uts namespace",
    "ipc namespace",
    "network namespace",
    "cgroup namespace",
)
PRIVILEGES = ("14 capabilities", "no new privileges", "system call filter")
#: What our configuration (:func:`runners.container.config.defaults.default_config`) asks for on every host.
WALLS = (*NAMESPACES, "private root (overlay)", *PRIVILEGES, "masked /proc and /sys", "own session keyring")
DEVICE_RULES = "device rules"
#: The parts of the grant that a cgroup enforces.
LIMITS = ("memory", "cpus", "pids")

#: Where the ports of such a container are.
LOOPBACK = "loopback of its own network namespace"

_TRIAL_BYTES = 1 << 26
_TAIL_CHARACTERS = 2000


class Startable(Instance, Protocol):
    """An instance that can be stopped."""

    def stop(self) -> None:
        """Kill it, and return when no process of it runs any more. Raises RunnerError."""


#: Starts the instance of that name, and puts on the stack the removal of all that the start made.
Start = Callable[[str, ExitStack], Startable]


def launcher(start: Start) -> Launch:
    """The launch (:data:`runners.base.Launch`) of a runner that starts an instance with *start*."""

    @contextmanager
    def launch(name: str, mark: Mark) -> Iterator[Instance]:
        with ExitStack() as stack:
            instance = start(name, stack)
            try:
                mark("created")
                yield instance
            finally:
                instance.stop()
                mark("stopped")

    return launch


def pipe(*, ours: ExitStack, theirs: ExitStack, we: Literal["read", "write"]) -> tuple[int, int]:
    """A pipe: *ours* closes one end, *theirs* the other. Reading this process's end does not block.

    It may be handed to :func:`runners.launch.drain.take`.
    """
    reader, writer = os.pipe()
    ours.callback(drain.close if we == "read" else os.close, reader if we == "read" else writer)
    theirs.callback(os.close, writer if we == "read" else reader)
    if we == "read":
        os.set_blocking(reader, False)
    return reader, writer


def config(
    spec: Spec, *, rootfs: str, cgroup: str | None, count_swap: bool = True, deny_devices: bool = True
) -> dict[str, object]:
    """The configuration of an OCI runtime for *spec*; see :func:`runners.container.config.defaults.default_config`."""
    return default_config(
        argv=spec.argv,
        env=spec.env,
        rootfs=rootfs,
        cgroup=cgroup,
        memory_bytes=spec.memory_bytes,
        cpus=spec.cpus,
        count_swap=count_swap,
        deny_devices=deny_devices,
        cwd=spec.cwd,
        uid=spec.user.uid,
        gid=spec.user.gid,
        groups=spec.user.groups,
    )


def runs_payload(spec: Spec) -> bool:
    """Whether an instance runs the built-in payload, and no workload of a user's."""
    return spec.argv[0] == payload.PATH


def program(asked: str, fix: str, *, path: str | None = None) -> str:
    """The program *asked*, a path or a name to be found on *path*, by default PATH. Raises RunnerError with *fix*."""
    found = shutil.which(asked, path=path)
    if found is None:
        if "/" in asked and Path(asked).is_file():
            raise RunnerError(f"cannot use {asked}", "it is not executable", f"chmod +x {shlex.quote(asked)}")
        raise RunnerError(f"cannot use {asked}", f"there is no executable file {asked} on PATH", fix)
    return found


def parent(scratch: Scratch) -> cgroups.Cgroup | None:
    """The run's cgroup, which exists afterwards; None if instances get none. Raises RunnerError."""
    if scratch.cgroup is None:
        return None
    try:
        group = cgroups.at(scratch.cgroup)
        group.create()
    except OSError as error:
        raise RunnerError(f"cannot make the cgroup {scratch.cgroup}", str(error), "see `tare doctor`") from error
    return group


def prove(
    prepare: Callable[[Spec, Options, Scratch], AbstractContextManager[Prepared]],
    options: Options,
    cache: Path,
    *,
    label: str,
    grouped: bool,
    fix: Callable[[str], str],
    image: Image | None = None,
    memory_bytes: int = _TRIAL_BYTES,
) -> None:
    """Start one instance of the payload, and remove it. Raises RunnerError with *fix* of the error's text.

    *grouped* says whether it gets a cgroup; *label* stands in the names of all that is made. *image* is the payload's,
    for whoever takes it in another shape than a directory. It gets *memory_bytes*.
    """
    try:
        name = f"{PREFIX}probe-{label}-{os.getpid()}"
        said = _try(prepare, options, cache, name, image, memory_bytes, grouped=grouped)
    except OSError as error:
        said = str(error)
    if said is not None:
        raise RunnerError(f"a trial start failed: {said}", "", fix(said))


def _try(
    prepare: Callable[[Spec, Options, Scratch], AbstractContextManager[Prepared]],
    options: Options,
    cache: Path,
    name: str,
    image: Image | None,
    memory_bytes: int,
    *,
    grouped: bool,
) -> str | None:
    """None if it started, else the error's text."""
    with smallest_container.directory(os.fspath(payload.binary(cache)), payload.PATH) as place, ExitStack() as stack:
        if grouped:
            stack.callback(cgroups.at(name).remove)
        argv = payload.Payload().argv
        spec = Spec(argv=argv, image=image or plain(Path(place, "rootfs")), memory_bytes=memory_bytes, cpus=1)
        directory = Path(place, "0")
        directory.mkdir()
        scratch = Scratch(directory=directory, cache=cache, cgroup=name if grouped else None, prefix=name)
        prepared = stack.enter_context(prepare(spec, options, scratch))
        # gVisor and systemd-nspawn have names of their own for the whole host: another tare may prove one now.
        instance = stack.enter_context(prepared.launch(f"trial-{os.getpid()}", lambda _: None))
        said = bytearray()
        if smallest_container.await_word(instance.console, b"tare ready", said):
            return None
        return ": ".join(
            filter(None, (instance.explain(), said.decode("utf-8", "replace").strip()[-_TAIL_CHARACTERS:]))
        )


def reclaim(group: cgroups.Cgroup | None, name: str, size_bytes: int) -> None:
    """See :meth:`runners.base.Instance.reclaim`: of the instance *name*, whose cgroup is *group*."""
    if group is None:
        raise RunnerError(f"{name} cannot be asked for memory", "it has no cgroup", need_root())
    try:
        group.reclaim(size_bytes)
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
        raise RunnerError(f"{name} cannot be asked for memory", why, "see `tare doctor`") from error


def loopback(pid: int) -> Address:
    """The address of a container with a network namespace of its own, in which process *pid* is."""
    return Address(how=LOOPBACK, pid=pid)


def need_root() -> str:
    """The advice for a call that is refused only to users other than root."""
    return "" if os.geteuid() == 0 else "run as root: sudo tare ..."
