"""Running the hooks of a container, with its state on their standard input.

Source: the OCI runtime specification, config.md, "POSIX-platform Hooks", and runtime.md, "Lifecycle".
"""

from __future__ import annotations

import errno
import fcntl
import os
import select

from ..errors import reason
from ..light import json
from ..linux import syscalls
from ..linux.exec_stub import stub

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Mapping

    from ..config.bundle import Bundle
    from ..config.hooks import Hook
    from .state import State
else:
    import _signal as signal  # the module itself imports enum: 3 ms

_SAID_BYTES = 2000
_SIGPIPE, _SIGXFSZ, _SIGSYS = 13, 25, 31
#: poll(2) takes its time as a C int of milliseconds; a longer wait is done in parts.
LONGEST_MS = 24 * 3600 * 1000
#: linux/fcntl.h
_F_ADD_SEALS, _F_SEAL_GROW = 1033, 4
#: linux/memfd.h: vm.memfd_noexec=2 allows nothing else; before Linux 6.3 the flag is unknown.
_MFD_NOEXEC_SEAL = 8


def run_kind(
    config: Bundle,
    kind: str,
    known: State,
    status: str,
    excuse: Callable[[str], object] | None = None,
    program: int = -1,
) -> None:
    """Run the hooks of *kind*; see :func:`run` for *excuse* and *program*. Raises OSError."""
    if not config.hooks.get(kind):
        return
    text = json.dumps(known.report(status))
    if kind in ("createContainer", "startContainer"):
        run(config.hooks[kind], text, kind=kind, env=dict(config.process.env), excuse=excuse, program=program)
        return
    try:
        os.chdir(known.bundle)  # where runc and crun run them
    except OSError:
        pass  # the bundle may have been removed by then
    run(config.hooks[kind], text, kind=kind, excuse=excuse)


def run(
    hooks: Iterable[Hook],
    state: str,
    *,
    kind: str,
    env: Mapping[str, str] = os.environ,
    excuse: Callable[[str], object] | None = None,
    program: int = -1,
) -> None:
    """Run *hooks* of *kind* in order, *state* (JSON) on their stdin. Raises OSError for the first that fails.

    *env* is for hooks without an environment of their own. If *excuse* is given, it is called with what failed, and the
    next hook is run. *program* is a stub (:mod:`stub`) that executes them, if not negative.
    """
    for hook in hooks:
        try:
            _run(hook, state.encode(), kind, env if hook.env is None else _environment(hook.env), program)
        except OSError as error:
            if excuse is None:
                raise
            excuse(str(error))


def _spawn(hook: Hook, env: Mapping[str, str], given: int, said: int, program: int) -> int:
    """Start a hook, by the stub *program* if that is not negative; its process number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)  # a group of its own: what it starts is killed with it when its time is over
        for number in (_SIGPIPE, _SIGXFSZ):  # Python ignores both, and a program inherits that
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for stream, fd in enumerate((given, said, said)):
            os.dup2(fd, stream)
        # also what the caller had open, which is not for hooks
        syscalls.close_range(3, 0xFFFFFFFF, syscalls.CLOSE_RANGE_CLOEXEC)
        argv = hook.args or (hook.path,)
        if program < 0 and not argv[0]:
            program = stub.make()  # Python executes nothing with an empty first word
        if program < 0:
            os.execve(hook.path, list(argv), env)
        report = os.dup(said)
        os.set_inheritable(report, True)  # the stub closes it
        os.execve(program, stub.words(report, hook.path, argv), env)
    except BaseException as error:  # noqa: BLE001 - a copy of the runtime must not go on anywhere else
        os.write(said, f"cannot be run: {getattr(error, 'strerror', None) or error}".encode())
    finally:
        os._exit(127)


def _run(hook: Hook, state: bytes, kind: str, env: Mapping[str, str], program: int) -> None:
    # Files in memory, not pipes: so a hook that reads nothing, or writes much, cannot make this process wait.
    failed = f"error running hook {kind} {hook.path}: it"
    given, said = _memory("tare-hook-state"), _memory("tare-hook-output")
    try:
        os.write(given, state)
        os.lseek(given, 0, os.SEEK_SET)
        pid = _spawn(hook, env, given, said, program)
        status = _wait(pid, hook.timeout_s)
        if status is None:
            raise TimeoutError(f"{failed} ran longer than {hook.timeout_s} s and was killed")
        if status:
            text = stub.said(os.pread(said, _SAID_BYTES, 0), hook.path)
            how = f"exited with {status}" if status > 0 else f"died of signal {-status}"
            if -status == _SIGSYS:
                how += " (bad system call: the filter does not allow what it does)"
            raise ChildProcessError(f"{failed} {how}{': ' if text else ''}{text}")
    except OSError as error:
        if error.errno is None:  # this program's own message, of those above
            raise
        raise OSError(f"{failed} cannot be run: {reason(error)}") from None
    finally:
        _close_for_good(said)
        os.close(given)
        os.close(said)


def _memory(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        return os.memfd_create(name, flags | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)


def _close_for_good(said: int) -> None:
    """Nobody reads it any more: a process that a hook has left must not fill memory with what it writes."""
    fcntl.fcntl(said, _F_ADD_SEALS, _F_SEAL_GROW)
    os.ftruncate(said, 0)


def _environment(pairs: Iterable[str]) -> Mapping[str, str]:
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _wait(pid: int, timeout_s: int | None) -> int | None:
    """The exit status of our child *pid*, negative for a signal; None if it was killed because its time was over."""
    if timeout_s is not None:
        pidfd = os.pidfd_open(pid)
        try:
            ended = select.poll()
            ended.register(pidfd, select.POLLIN)
            left_ms = timeout_s * 1000
            while not (in_time := ended.poll(min(left_ms, LONGEST_MS))) and left_ms > LONGEST_MS:
                left_ms -= LONGEST_MS
        finally:
            os.close(pidfd)
        if not in_time:
            os.killpg(pid, 9)  # led by our child, which is not reaped yet: the number is still its own
            os.waitpid(pid, 0)
            return None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
