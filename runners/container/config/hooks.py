"""The object ``hooks`` of a configuration: programs that run at fixed moments of a container's life.

:mod:`lifecycle.hooks` runs them.

Source: the OCI runtime specification, config.md, "POSIX-platform Hooks".
"""

from __future__ import annotations

from ..light.dataclasses import record
from ..reader import SEE, BundleError, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    #: Runs the hooks of a kind for a process number; the third argument is the stub that executes them, or negative.
    RunHooks = Callable[[str, int, int], None]

#: In the order of a container's life.
KINDS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@record(kw_only=True)
class Hook:
    """One program. *args* is its argv, with the name; empty means *path* alone. *timeout_s* None is no limit.

    If *env* is None, it gets the caller's environment on the host, and the configured one in the container.
    """

    path: str
    args: tuple[str, ...]
    env: tuple[str, ...] | None
    timeout_s: int | None


def parse(section: Reader) -> dict[str, tuple[Hook, ...]]:
    """The ``hooks`` object of a configuration, by kind; kinds without hooks are left out. Raises BundleError."""
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
    if env is not None and not all(pair.partition("=")[0] for pair in env):
        entry.warn("env", "holds a value without a name, which is left out")
        env = tuple(pair for pair in env if pair.partition("=")[0])
    args, timeout = entry.texts("args"), entry.take("timeout", int, 0)
    if timeout < 0:
        raise BundleError(entry.at("timeout"), "must be positive", SEE)
    entry.done()
    return Hook(path=path, args=args, env=env, timeout_s=timeout or None)
