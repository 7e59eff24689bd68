"""Programs of the configuration's author that run at fixed moments of a container's life, with the state on stdin.

Source: the OCI runtime specification, config.md, "POSIX-platform Hooks", and runtime.md, "Lifecycle".
"""

from __future__ import annotations

import errno
import os
import select

from .failure import reason
from .reader import SEE, BundleError, Reader
from .record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: In the order of a container's life.
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")
_SAID_BYTES = 2000
#: linux/memfd.h: all that vm.memfd_noexec=2 lets through; before Linux 6.3 it is unknown.
_MFD_NOEXEC_SEAL = 8


@record(kw_only=True)
class Hook:
    """One program. *args* is its argv, with the name; empty means *path* alone. *timeout_s* None is no limit.

    *env* None is the environment of where it runs: the caller's on the host, the configured one inside.
    """

    path: str
    args: tuple[str, ...]
    env: tuple[str, ...] | None
    timeout_s: int | None


def parse(section: Reader) -> dict[str, tuple[Hook, ...]]:
    """The ``hooks`` object of a configuration, by kind; those without any are left out. Raises BundleError."""
    found = {}
    for kind in KINDS:
        if entries := section.each(kind):
            found[kind] = tuple(map(_hook, entries))
    section.done()
    return found


def _hook(entry: Reader) -> Hook:
    path = entry.take("path", str)
    if not path.startswith("/"):
        raise BundleError(entry.at("path"), "must be an absolute path", SEE)
    env = None if entry.lacks("env") else entry.texts("env")
    args, timeout = entry.texts("args"), entry.take("timeout", int, 0)
    if timeout < 0:
        raise BundleError(entry.at("timeout"), "must be positive", SEE)
    entry.done()
    return Hook(path=path, args=args, env=env, timeout_s=timeout or None)


def run(
    hooks: Iterable[Hook],
    state: str,
    *,
    kind: str,
    env: Mapping[str, str] = os.environ,
    excuse: Callable[[str], object] | None = None,
) -> None:
    """Run *hooks* of *kind* in order, *state* (JSON) on their stdin. Raises OSError for the first that fails.

    *env* is for those that have none of their own. With *excuse*, it is called with what failed, and the next is run.
    """
    for hook in hooks:
        try:
            _run(hook, state.encode(), kind, env if hook.env is None else _environment(hook.env))
        except OSError as error:
            if excuse is None:
                raise
            excuse(str(error))


def _run(hook: Hook, state: bytes, kind: str, env: Mapping[str, str]) -> None:
    # Files in memory, not pipes: neither a hook that reads nothing nor one that says much can make us wait.
    given, said = _memory("tare-hook-state"), _memory("tare-hook-output")
    try:
        os.write(given, state)
        os.lseek(given, 0, os.SEEK_SET)
        pid = os.posix_spawn(
            hook.path,
            list(hook.args or (hook.path,)),
            env,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, given, 0),
                (os.POSIX_SPAWN_DUP2, said, 1),
                (os.POSIX_SPAWN_DUP2, said, 2),
            ],
            setpgroup=0,  # a group of its own: what it starts ends with it when its time is over
            setsigmask=(),
            setsigdef=(13, 25),  # Python ignores SIGPIPE and SIGXFSZ, and exec hands that on
        )
        status = _wait(pid, hook.timeout_s)
        if status is None:
            raise TimeoutError(f"hook {kind} {hook.path} ran longer than {hook.timeout_s} s and was killed")
        if status:
            text = os.pread(said, _SAID_BYTES, 0).decode(errors="replace").strip()
            how = f"exited with {status}" if status > 0 else f"died of signal {-status}"
            raise ChildProcessError(f"hook {kind} {hook.path} {how}{': ' if text else ''}{text}")
    except OSError as error:
        if error.errno is None:  # our own words, of those above
            raise
        raise OSError(f"hook {kind} {hook.path} cannot be run: {reason(error)}") from None
    finally:
        os.close(given)
        os.close(said)


def _memory(name: str) -> int:
    try:
        return os.memfd_create(name, os.MFD_CLOEXEC | _MFD_NOEXEC_SEAL)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name)


def _environment(pairs: Iterable[str]) -> Mapping[str, str]:
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _wait(pid: int, timeout_s: int | None) -> int | None:
    """The exit status of our child *pid*, negative for a signal; None if it had to be killed for its time."""
    if timeout_s is not None:
        pidfd = os.pidfd_open(pid)
        try:
            ended = select.poll()
            ended.register(pidfd, select.POLLIN)
            in_time = ended.poll(timeout_s * 1000)
        finally:
            os.close(pidfd)
        if not in_time:
            os.killpg(pid, 9)  # led by our child, not yet waited for: the number is still its own
            os.waitpid(pid, 0)
            return None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
