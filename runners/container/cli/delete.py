"""The verbs kill and delete."""

from __future__ import annotations

import os

from ..errors import OciError
from ..lifecycle import claim_cgroup, destroy, state
from ..lifecycle.checkpoint import checkpoint

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal

    from ..lifecycle.state import State, Store
    from .main import Call
else:
    import _signal as signal  # the module itself imports enum: 3 ms

_DIGITS = 10
#: signal(7); glibc keeps the first two for itself.
_RTMIN, _RTMAX = signal.SIGRTMIN, signal.SIGRTMAX


def number_of(text: str) -> int:
    """The signal called *text*: TERM, SIGTERM, 15, RTMIN+3; 0 only checks the process (kill(2)). Raises OciError."""
    word = text.upper().removeprefix("SIG")
    if _is_number(word) and int(word) < signal.NSIG:
        return int(word)
    base, sign, offset = word.partition("+") if "+" in word else word.partition("-")
    if sign and _is_number(offset) and base in ("RTMIN", "RTMAX"):
        number = _RTMIN + int(offset) if sign == "+" else _RTMAX - int(offset)
        if _RTMIN <= number <= _RTMAX and (base == "RTMIN") == (sign == "+"):
            return number
    named = getattr(signal, f"SIG{word}", None)
    if isinstance(named, int) and word.isalnum():  # SIG_BLOCK is none
        return named
    raise OciError(f"no such signal: {text}", "", "give its name (TERM) or its number (15)")


def _is_number(text: str) -> bool:
    """Whether *text* can be the number of a signal: Python refuses to convert thousands of digits."""
    return text.isascii() and text.isdecimal() and len(text) < _DIGITS


def kill(call: Call) -> int:
    """Send a signal."""
    name = call.name(more=True)
    if len(call.options.words) > 2:
        raise OciError(f"unexpected argument {call.options.words[2]!r}")
    number = number_of(call.options.words[1] if len(call.options.words) > 1 else "TERM")
    known = call.store.read(name)
    if call.options.on("all"):
        return _kill_all(call.store, known, number)
    pidfd = state.open_process(known)
    try:
        if pidfd is None or not destroy.send_signal(pidfd, number):
            # containerd and podman look for these words.
            raise OciError(f"cannot kill {name}", "container not running")
    finally:
        if pidfd is not None:
            os.close(pidfd)
    if number == signal.SIGKILL:
        _thaw(known)
    return 0


def _thaw(known: State) -> None:
    """A frozen process of cgroup v1 dies only when it is thawed."""
    group = claim_cgroup.group_of(known)
    if group is not None and group.frozen():
        group.thaw_if_there()  # the runtime in the foreground has removed it meanwhile


def _kill_all(store: Store, known: State, number: int) -> int:
    """Send the signal to every process of the container. A stopped one without a pid namespace may still have some."""
    group = claim_cgroup.group_of(known)
    if group is None:
        raise OciError(f"cannot signal all processes of {known.name}", "it has no cgroup to find them in")
    if claim_cgroup.shared(store, known):
        from ..lifecycle import shared_cgroup

        if store.status(known) != "stopped":
            shared_cgroup.send(group, known.pid, number)
        return 0
    if number == signal.SIGKILL:
        group.kill()
        return 0
    for pid in group.pids():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass
    return 0


def delete(call: Call) -> int:
    """Remove a container."""
    name, force = call.name(), call.options.on("force")
    try:
        lock = call.store.lock(name)
    except OciError:
        call.store.directory(name)  # a text that cannot be a name is an error all the same
        if force and not os.path.exists(call.store.directory(name)):
            return 0
        raise
    try:
        return _delete(call, name, force=force)
    finally:
        os.close(lock)


def _delete(call: Call, name: str, *, force: bool) -> int:
    try:
        known = call.store.read(name)
    except OciError:
        if not force:
            raise
        if not os.path.lexists(call.store.file(name, state.STATE)):
            call.store.remove(name)  # its creation was killed before it had made anything else
            return 0
        from ..lifecycle import salvage

        known = salvage.salvaged(call.store, name)
    checkpoint("delete:begin")
    status = call.store.status(known)
    # A created container has not run its program yet; runc and crun delete it, too.
    if status not in ("stopped", "created") and not force:
        why = f"it is {status}"
        raise OciError(f"cannot delete container {name} that is not stopped", why, f"delete --force {name}")
    destroy.destroy(call.store, call.log, known)
    return 0
