"""The last stage of a container's life: its processes are ended, and all that was made for it is removed.

The verbs delete and run call this, and so does a creation that failed.
"""

from __future__ import annotations

import errno
import os
import select

from ..cgroup import hierarchies
from ..errors import OciError, reason
from . import claim_cgroup, hooks, log, state, stored_config
from .checkpoint import checkpoint
from .state import State, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..cgroup.cgroups import Cgroup
    from ..config.bundle import Bundle

_DEATH_MS = 10_000
SIGKILL = 9


def destroy(
    store: Store, messages: log.Log, known: State, *, config: Bundle | None = None, checkpoints: bool = True
) -> None:
    """Kill the container's processes, remove its cgroup and its state, run its poststop hooks. Raises OciError.

    If *config* is None, the stored one is read. The caller holds the lock.
    """
    passed = checkpoint if checkpoints else _pass
    try:
        group = claim_cgroup.group_of(known)
        _kill(store, known, group)
        passed("delete:killed")
        if known.shared_root:
            from ..setup import shared_mounts

            shared_mounts.detach(known, messages.warning)
        if known.lease:
            from ..network import bridge

            bridge.teardown(known.lease)
        if group is not None and not (claim_cgroup.shared(store, known) and group.pids()):
            group.remove()
        passed("delete:cgroup")
        if config is None:
            try:
                config = stored_config.stored(store, known)
            except OciError as error:  # for a creation that was killed at its start
                messages.warning(f"no poststop hooks run: {error}")
        store.remove(known.name)
    except OSError as error:
        raise OciError(f"cannot remove the container {known.name}", reason(error), "try again") from None
    passed("delete:state")
    if config is not None:
        hooks.run_kind(config, "poststop", known, "stopped", messages.warning)  # as with poststart


def _pass(_name: str) -> None:
    """Not a place at which a test may kill: a creation that failed is being undone."""


def _kill(store: Store, known: State, group: Cgroup | None) -> None:
    """Send SIGKILL to every process of the container, and wait for their ends."""
    pidfd = state.open_process(known)
    try:
        # Mostly no process is left: then the directories can be removed at once, and need not be read.
        if pidfd is None and group is not None and hierarchies.removed(group.directories()):
            return
        tenant = claim_cgroup.tenant(store, known, group) if group is not None else ""
        if tenant:
            why = f"the container {tenant} is in a cgroup below its own (/{known.cgroup}), and would end with it"
            raise OciError(f"cannot remove the container {known.name}", why, f"delete {tenant} first")
        shared = group is not None and claim_cgroup.shared(store, known)
        if group is not None and shared and pidfd is not None:
            from . import shared_cgroup

            shared_cgroup.end(group, known.pid)
        if pidfd is not None:
            send_signal(pidfd, SIGKILL)  # in a pid namespace of its own: the kernel kills all others with it
        if group is not None and not shared:
            group.kill()  # thaws a frozen one, too: a frozen process cannot die
        if pidfd is not None:
            ended = select.poll()
            ended.register(pidfd, select.POLLIN)
            if not ended.poll(_DEATH_MS):
                raise OSError(errno.EBUSY, "the first process survives SIGKILL", f"/proc/{known.pid}")
    finally:
        if pidfd is not None:
            os.close(pidfd)


def send_signal(pidfd: int, number: int) -> bool:
    """Signal a process; False if it has ended."""
    from _signal import pidfd_send_signal  # type: ignore[import-not-found]

    try:
        pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True
