"""Making a container: the parent's part.

The first process is a copy of this one, made by :func:`clone.clone` in its namespaces. It sets itself up step by step
(:mod:`child`), and asks the parent for what only a process outside can do: the ids of a user namespace, hooks, resource
limits. When :func:`create` returns, it waits for ``start`` at the exec fifo.
"""

from __future__ import annotations

import errno
import os
import select

from ..config.process import RLIMITS
from ..light.dataclasses import replace
from ..linux.exec_stub import stub
from . import child, mount_trees, sequence
from .clone import Created, clone
from .steps.basic import JoinCgroup
from .steps.credentials import SetLimit, SetOomScore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from ..cgroup.cgroups import Cgroup
    from ..config.bundle import Bundle
    from ..config.hooks import RunHooks
    from ..seccomp.filters import Filter
    from .sequence import StepSequence
    from .steps.basic import Step

__all__ = ["Created", "check_release", "create", "filtering"]

_SIGKILL = 9
_MESSAGE_BYTES = 1 << 16
#: So long because a mount may wait for a server on the network, and a cgroup until it is thawed.
_SET_UP_MS = 120_000
_DEATH_MS = 10_000


def create(
    bundle: Bundle,
    *,
    name: str,
    fifo: str,
    cgroup: Cgroup | None,
    console_socket: int,
    shown: bool = False,
    preserve_fds: int,
    run_hooks: RunHooks,
    listen_fds: int = 0,
    new_keyring: bool = True,
    pivot: bool = True,
    record_root: Callable[[str], object] = lambda _: None,
    filters: str = "",
) -> Created:
    """Make the container's first process, set up to the point where ``start`` lets it execute its program.

    *fifo* is the path of an existing FIFO; *cgroup* exists, and its limits are in force. *console_socket* is a
    connected unix socket for the terminal's master, or negative; with *shown*, this process has its other end and shows
    the terminal. *preserve_fds* descriptors from 3 on are passed on; the first *listen_fds* of them are a service
    manager's sockets. *run_hooks* is called with a kind and the first process' number: always for "prestart" and
    "createRuntime", here; for "createContainer" and "startContainer" in the first process, with the number that it has
    there. It raises OSError. *filters* is a directory for compiled system call filters. *record_root* is called in the
    caller's mount namespace: see :func:`shared_mounts.attach`. Raises OSError and BundleError; then nothing is left but
    what *record_root* recorded.
    """
    if preserve_fds:
        from . import preserved_fds

        preserved_fds.check(preserve_fds)
    if bundle.process.terminal:
        from ..linux import pty  # noqa: F401 - now: where the first process needs it, there is no Python to import from
    trees = mount_trees.Trees()
    opened: list[int] = []
    try:
        found = mount_trees.open_all(bundle, trees)
        if "mount" not in bundle.namespaces:
            from . import shared_mounts

            found[-1] = shared_mounts.attach(bundle.rootfs, trees.add, record_root)
        nodes = mount_trees.devices(bundle, trees)
        planned = sequence.make(
            bundle,
            cgroup=cgroup.relative if cgroup is not None else "",
            trees=found,
            nodes=nodes,
            console=console_socket,
            shown=shown,
            new_keyring=new_keyring,
            pivot=pivot,
            filtering=filtering(bundle, filters),
        )
        if trees.limits is not None:
            own = SetLimit(0, RLIMITS["NOFILE"], *trees.limits)
            planned = replace(planned, outside=(*planned.outside, own))
        return _make(bundle, planned, cgroup, fifo, trees, opened, (preserve_fds, listen_fds), run_hooks)
    finally:
        trees.close()
        for fd in opened:
            os.close(fd)


def filtering(bundle: Bundle, cache: str) -> Filter | None:
    """The filter of system calls, if any; *cache* is a directory for compiled filters. Raises BundleError."""
    if bundle.seccomp is None:
        return None
    from ..seccomp import filters

    return filters.make(bundle.seccomp, cache=cache)


def _make(
    bundle: Bundle,
    planned: StepSequence,
    cgroup: Cgroup | None,
    fifo: str,
    trees: mount_trees.Trees,
    opened: list[int],
    fds: tuple[int, int],
    run_hooks: RunHooks,
) -> Created:
    """Clone the first process, and answer it until it is set up. *opened* gets the descriptors that stay until then."""
    up, up_in = os.pipe()
    down_out, down = os.pipe()
    opened += [up, down]
    for_child = [up_in, down_out]  # closed here once the child has its copies
    try:
        ends = _ends(bundle, planned, fifo, up_in, down_out, for_child)
        first, born = _entrance(cgroup)
        if born >= 0:
            for_child.append(born)
        changed = child.changed_signals()

        def become() -> NoReturn:
            os.close(up)
            os.close(down)
            child.become_first(
                planned,
                bundle.process,
                first,
                ends,
                preserve_fds=fds[0],
                listen_fds=fds[1],
                run_hooks=run_hooks,
                changed=changed,
            )

        made = clone(bundle, planned.clone_flags, born, become)
    finally:
        for fd in for_child:
            os.close(fd)
        trees.close()
    try:
        warnings = _attend(bundle, made, cgroup, up, down, run_hooks, ends.awaited)
    except BaseException:
        _kill(made, cgroup)
        raise
    return replace(made, warnings=warnings) if warnings else made


def _ends(bundle: Bundle, planned: StepSequence, fifo: str, up: int, down: int, opened: list[int]) -> child.Ends:
    """What the first process gets; *opened* gets each descriptor that is opened here. Raises OSError."""
    above, name = os.path.split(fifo)
    # The first process opens the fifo as the container's user. Only the caller may list the directory above.
    os.chmod(fifo, 0o622)
    os.chmod(above, 0o711)
    directory = os.open(above or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.append(directory)
    program = stub.make(planned.last, announce=True)
    opened.append(program)
    hook_stub = -1
    if bundle.hooks.get("startContainer"):
        hook_stub = stub.make(planned.before_hooks)
        opened.append(hook_stub)
    return child.Ends(
        up=up,
        down=down,
        fifo_directory=directory,
        fifo=name,
        stub=program,
        awaited=_awaited(bundle),
        hook_stub=hook_stub,
    )


def _entrance(cgroup: Cgroup | None) -> tuple[Step | None, int]:
    """How the first process enters its cgroups: a step of its own, and a descriptor of one to be born in, or -1."""
    if cgroup is None:
        return None, -1
    *files, last = cgroup.entrances()
    born = -1
    if last.endswith("/cgroup.procs"):
        # A v2 cgroup, alone or beside v1: to enter by this file takes some 15 ms, since the kernel stops all forks of
        # the host.
        born = os.open(os.path.dirname(last), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        files.append(last)
    return (JoinCgroup(tuple(files)) if files else None), born


def _awaited(bundle: Bundle) -> bytes:
    """The messages after which the first process waits: the parent must do something before it may go on."""
    kinds = child.READY
    limits = sequence.limits(bundle.process, pid=0)
    scored = any(isinstance(step, SetOomScore) for step in limits)
    # An ordinary user may not write the file of the OOM score after the process has made itself undumpable.
    if bundle.uids or (scored and os.geteuid()):
        kinds += child.CREATED
    if bundle.hooks.get("prestart") or bundle.hooks.get("createRuntime"):
        kinds += child.HOOKS
    # Not together with the OOM score: with a small RLIMIT_NOFILE the mounts would fail.
    if len(limits) > scored:
        kinds += child.LIMITS
    return kinds


def _attend(
    bundle: Bundle, made: Created, cgroup: Cgroup | None, up: int, down: int, run_hooks: RunHooks, awaited: bytes
) -> tuple[str, ...]:
    """Do the parent's part and answer what is *awaited* until the first process is ready; return its warnings.

    Raises OSError with what failed in it.
    """
    for kind in (child.CREATED, child.HOOKS):
        if kind not in awaited:
            _act(kind, bundle, made.pid, run_hooks)
    poll = select.poll()
    poll.register(up, select.POLLIN)
    while True:
        if not poll.poll(_SET_UP_MS):
            frozen = cgroup.frozen_by() if cgroup is not None else ""
            if bundle.hooks.get("createContainer") and not frozen:
                continue  # hooks have time limits of their own, or none
            what = f"its cgroup {frozen} is frozen" if frozen else "see what it waits for"
            why = f"the first process of the container is not set up within {_SET_UP_MS // 1000} s: {what}"
            raise TimeoutError(errno.ETIMEDOUT, why, f"/proc/{made.pid}/stack")
        message = os.read(up, _MESSAGE_BYTES)
        kind, text = message[:1], message[1:].decode(errors="surrogateescape")
        if not kind or kind not in awaited:
            if not text:
                from ..cgroup import counters

                text = counters.ended("the first process of the container ended while it was set up", cgroup)
            raise OSError(errno.EIO, text)
        _act(kind, bundle, made.pid, run_hooks)
        os.write(down, b"g")
        if kind == child.READY:
            return tuple(text.split("\n")) if text else ()


def _act(kind: bytes, bundle: Bundle, pid: int, run_hooks: RunHooks) -> None:
    """What the parent does for the message *kind* of the first process *pid*. Raises OSError."""
    if kind == child.CREATED:
        if bundle.uids:
            from ..linux import idmap

            idmap.write(pid, bundle.uids, bundle.gids)
        child.run([step for step in sequence.limits(bundle.process, pid=pid) if isinstance(step, SetOomScore)])
    elif kind == child.HOOKS:
        run_hooks("prestart", pid, -1)
        run_hooks("createRuntime", pid, -1)
    elif kind == child.LIMITS:
        child.run([step for step in sequence.limits(bundle.process, pid=pid) if not isinstance(step, SetOomScore)])


def _kill(made: Created, cgroup: Cgroup | None) -> None:
    import _signal  # type: ignore[import-not-found]

    try:
        _signal.pidfd_send_signal(made.pidfd, _SIGKILL)
        if cgroup is not None and cgroup.frozen():
            cgroup.thaw_if_there()  # a frozen process of cgroup v1 dies only when it is thawed
    except ProcessLookupError:
        pass
    ended = select.poll()
    ended.register(made.pidfd, select.POLLIN)
    if ended.poll(_DEATH_MS):  # else the removal of the container says what it waits for
        os.waitpid(made.pid, 0)
    os.close(made.pidfd)


def check_release(data: bytes, path: str = "the program") -> None:
    """Check all that came out of the exec fifo: only "0" means that the program was started. Raises OSError."""
    if data == b"0":
        return
    if not data:
        raise OSError(errno.ESRCH, "its first process has ended")
    raise OSError(errno.ENOEXEC, stub.said(data.removeprefix(b"0"), path))
