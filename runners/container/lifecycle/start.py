"""The second stage of a container's life: it is released, and runs its program. The verbs start and run call this."""

from __future__ import annotations

import os
import select

from ..errors import OciError
from . import claim_cgroup, hooks, log, state
from .checkpoint import checkpoint
from .state import FIFO, State, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..config.bundle import Bundle
    from .notify import Relay

_EXECUTE_MS = 60_000
#: How long a start waits before it checks whether the container can answer at all.
_LOOK_MS = 1000


def relay(store: Store, known: State) -> Relay | None:
    """The socket by which the container tells a service manager that it is ready; None if there is no manager."""
    if not os.environ.get("NOTIFY_SOCKET") or not os.path.isdir(store.file(known.name, "notify")):
        return None
    from . import notify

    return notify.Relay(store.file(known.name, notify.DIRECTORY)) if notify.manager() else None


def start(store: Store, messages: log.Log, known: State, config: Bundle) -> None:
    """Let the created container *known* run its program. The caller holds the lock. Raises OciError."""
    checkpoint("start:begin")
    status = store.status(known)
    if status != "created":
        raise OciError(f"cannot start the container {known.name}", f"it is {status}, not created")
    if not config.process.argv:
        raise OciError(f"cannot start the container {known.name}", "its configuration has no process", "add one")
    fifo = store.file(known.name, FIFO)
    _release(fifo, known, config)
    checkpoint("start:released")
    messages.debug(f"started {known.name}: process {known.pid} runs {config.process.argv[0]}")
    os.unlink(fifo)
    # runtime.md, "Lifecycle": a poststart hook that fails is a warning, and the others run nevertheless.
    hooks.run_kind(config, "poststart", known, "running", messages.warning)
    checkpoint("start:end")


def _release(fifo: str, known: State, config: Bundle) -> None:
    """Open the fifo, at which the first process waits, and read how its start goes. Raises OciError.

    It writes "0" before it executes the program, which closes its end; a text after (or without) "0" is why it failed.
    """
    failed = f"cannot start the container {known.name}"
    pidfd = state.open_process(known)
    if pidfd is None:
        raise OciError(failed, _ended(known))
    agent = -1
    try:
        if config.seccomp is not None and config.seccomp.listener:
            from ..seccomp import listener

            # Before it is released: without an agent, nothing may run.
            agent = listener.connect(config.seccomp)
        said = _follow(fifo, pidfd, known, config, agent)
    finally:
        os.close(pidfd)
        if agent >= 0:
            os.close(agent)
    if said != b"0":
        from ..linux.exec_stub import stub

        program = config.process.argv[0]
        raise OciError(failed, stub.said(said.removeprefix(b"0"), program) if said else _ended(known))


def _ended(known: State) -> str:
    """Why the first process may have ended without a message."""
    from ..cgroup import counters

    return counters.ended("its first process has ended", claim_cgroup.group_of(known))


def _check_running(known: State, config: Bundle, *, executed: bool) -> None:
    """Raise OciError, with the reason, if a started container will never answer."""
    failed = f"cannot start the container {known.name}"
    group = claim_cgroup.group_of(known)
    if group is not None and group.frozen():
        raise OciError(
            failed, f"its cgroup is frozen: {group.frozen_by()}", "thaw it first (tare-oci resume, if it was paused)"
        )
    if executed:
        why = f"{config.process.argv[0]} is not executed within {_EXECUTE_MS // 1000} s"
        raise OciError(failed, why, "see what its execve waits for")


def _follow(fifo: str, pidfd: int, known: State, config: Bundle, agent: int) -> bytes:
    """All that the first process writes, from its release to its program's start. Raises OciError."""
    end = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    said = b""
    try:
        poll = select.poll()
        poll.register(end, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while True:
            # Before "0" its hooks run, which have time limits of their own.
            ready = dict(poll.poll(_EXECUTE_MS if said else _LOOK_MS))
            if not ready:
                _check_running(known, config, executed=bool(said))
                continue
            try:
                part = os.read(end, 4096)
            except BlockingIOError:
                continue
            if part[:1] == b"0" and not said and agent >= 0 and config.seccomp is not None:
                from ..seccomp import listener

                listener.hand_on(agent, config.seccomp, known.pid, known.report("created"))
            said += part
            # There is nothing to read before it has opened its end, or after it has closed it, or has died.
            if not part and (said or pidfd in ready or ready.get(end, 0) & select.POLLHUP):
                return said
    finally:
        os.close(end)
