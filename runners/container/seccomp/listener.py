"""The agent of SCMP_ACT_NOTIFY: it gets the listener of the container's filter, with the container's state.

The process installs the filter by itself, in the small program of :mod:`stub`, and from then on each of its calls may
be one that the agent has to answer. So it makes none: it writes the listener's number into its memory, and waits for
another word of its memory to change. The runtime reads that number, copies the descriptor (pidfd_getfd(2)), sends it to
the agent, and writes the word, so that the process goes on.

Sources: the OCI runtime specification (config-linux.md, "The Container Process State"), seccomp_unotify(2).
"""

from __future__ import annotations

import os
import time

from ..errors import OciError, reason
from ..light import json
from ..linux import pty, rare_calls
from ..linux.exec_stub import stub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .filters import Profile

_NAME = "seccompFd"
_READY_S = 10.0
_LOOK_S = 0.0002


def connect(profile: Profile | None) -> int:
    """A descriptor connected to the agent of *profile*; -1 if it has none. Raises OciError."""
    if profile is None or not profile.listener:
        return -1
    try:
        return pty.open_socket(profile.listener)
    except OSError as error:
        why = f"{profile.listener}: {error.strerror}"
        raise OciError("failed to connect with seccomp agent", why, "start it first, or correct listenerPath") from None


def hand_on(carrier: int, profile: Profile, pid: int, state: dict[str, object]) -> None:
    """Send the agent, over *carrier*, the listener of process *pid*, which has announced its filter, and let it go on.

    *state* is that of the container (runtime.md, "State"). Raises OciError.
    """
    said = {"ociVersion": state["ociVersion"], "fds": [_NAME], "pid": pid, "metadata": profile.metadata, "state": state}
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            listener = _copy(pid, _number(memory))
            try:
                pty.send(carrier, listener, json.dumps(said))
            finally:
                os.close(listener)
            os.pwrite(memory, b"\1\0\0\0", stub.GO_AT)
        finally:
            os.close(memory)
    except OSError as error:
        raise OciError("cannot hand the listener of system calls to the seccomp agent", reason(error)) from None


def _number(memory: int) -> int:
    """The listener's number, as soon as it is in the process's memory."""
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        found = int.from_bytes(os.pread(memory, 4, stub.LISTENER_AT), "little")
        if found:
            return found - 1
        # There is no event for it: to send one, the process would have to make a system call under the filter.
        time.sleep(_LOOK_S)
    raise TimeoutError(f"the process has not installed its filter within {_READY_S:g} s")


def _copy(pid: int, number: int) -> int:
    pidfd = os.pidfd_open(pid)
    try:
        return rare_calls.pidfd_getfd(pidfd, number)
    finally:
        os.close(pidfd)
