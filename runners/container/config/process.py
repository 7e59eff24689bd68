"""The object ``process`` of a configuration: the program and its credentials."""

from __future__ import annotations

from ..light.dataclasses import record
from ..linux import capabilities
from ..linux.capabilities import Capabilities
from ..reader import SEE, BundleError, Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    from .scheduling import Scheduler

    class _Shares(TypedDict):
        io_priority: int | None
        scheduler: Scheduler | None
        affinity: NotRequired[tuple[frozenset[int], frozenset[int]]]


#: asm-generic/resource.h; the few architectures that number them otherwise are not supported.
RLIMITS = {
    name: number
    for number, name in enumerate(
        "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO RTTIME".split()
    )
}
_INFINITY = (1 << 64) - 1
NO_SELINUX = "cannot be in force: this runtime sets no SELinux labels"
HIGHEST_ID = (1 << 32) - 2


@record(kw_only=True)
class Process:
    """One program in a container, as configured. *umask* None means 022; *oom_score_adj* None leaves it unchanged.

    *rlimits* are (number, soft, hard), -1 is no limit. *io_priority* is a value of ioprio_set(2). *affinity* are the
    processors for a program of ``exec``, before and after it joins the cgroup; empty leaves them unchanged.

    Without *argv*, there is nothing to start: :data:`NOTHING`.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cwd: str
    terminal: bool
    console_size: tuple[int, int] | None
    uid: int
    gid: int
    groups: tuple[int, ...]
    umask: int | None
    capabilities: Capabilities
    no_new_privileges: bool
    oom_score_adj: int | None
    rlimits: tuple[tuple[int, int, int], ...]
    io_priority: int | None
    scheduler: Scheduler | None
    affinity: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())


#: For a configuration without ``process``: the container can be created and deleted, and not started.
NOTHING = Process(
    argv=(),
    env=(),
    cwd="/",
    terminal=False,
    console_size=None,
    uid=0,
    gid=0,
    groups=(),
    umask=None,
    capabilities=Capabilities(),
    no_new_privileges=False,
    oom_score_adj=None,
    rlimits=(),
    io_priority=None,
    scheduler=None,
)


def parse(process: Reader) -> Process:
    """The :class:`Process` of the object ``process``. Raises :class:`BundleError`."""
    argv = process.texts("args")
    if not argv or not argv[0]:
        raise BundleError(process.at("args"), "must name a program", SEE)
    cwd = process.take("cwd", str)
    if not cwd.startswith("/"):
        raise BundleError(process.at("cwd"), "must be an absolute path", SEE)
    uid, gid, groups, umask = _user(process.below("user", {}))
    terminal = process.take("terminal", bool, False)
    if process.take("apparmorProfile", str, "") not in ("", "unconfined"):
        why = "cannot be in force: this runtime sets no AppArmor profiles"
        raise BundleError(process.at("apparmorProfile"), why, 'remove it, or write "unconfined"')
    if process.take("selinuxLabel", str, ""):
        raise BundleError(process.at("selinuxLabel"), NO_SELINUX, "remove it")
    if not terminal:
        process.ignore("consoleSize")
    process.ignore("commandLine")  # for Windows
    made = Process(
        argv=argv,
        env=_environment(process),
        cwd=cwd,
        terminal=terminal,
        console_size=_size(process),
        uid=uid,
        gid=gid,
        groups=groups,
        umask=umask,
        capabilities=capabilities.parse(process.below("capabilities", {})),
        no_new_privileges=process.take("noNewPrivileges", bool, False),
        oom_score_adj=_oom_score(process),
        rlimits=_rlimits(process),
        **_shares(process),
    )
    process.done()
    return made


def _environment(process: Reader) -> tuple[tuple[str, str], ...]:
    pairs = [text.partition("=") for text in process.texts("env")]
    if not all(name and equals for name, equals, _ in pairs):
        raise BundleError(process.at("env"), "must hold NAME=VALUE", SEE)
    return tuple((name, value) for name, _, value in pairs)


def number(reader: Reader, key: str, default: int | None = None, *, low: int = 0, high: int = HIGHEST_ID) -> int:
    """The integer at *key*, from *low* to *high*; *default* need not be in this range."""
    value = reader.take(key, int, default)
    if not low <= value <= high and value != default:
        raise BundleError(reader.at(key), f"must be from {low} to {high}", SEE)
    return value


def _user(user: Reader) -> tuple[int, int, tuple[int, ...], int | None]:
    uid, gid = number(user, "uid", 0), number(user, "gid", 0)
    groups: list[object] = user.take("additionalGids", list, [])
    for group in groups:
        if not isinstance(group, int) or isinstance(group, bool) or not 0 <= group <= HIGHEST_ID:
            raise BundleError(user.at("additionalGids"), "must be a list of group ids", SEE)
    umask = number(user, "umask", -1, high=0o777)
    user.done()
    return uid, gid, tuple(groups), None if umask < 0 else umask  # type: ignore[arg-type]  # checked one by one


def _size(process: Reader) -> tuple[int, int] | None:
    """(rows, columns) of the terminal."""
    size = process.below("consoleSize", {})
    rows, columns = number(size, "height", 0, high=0xFFFF), number(size, "width", 0, high=0xFFFF)
    size.done()
    return (rows, columns) if rows and columns else None


def _oom_score(process: Reader) -> int | None:
    # 0 is a value of its own: it resets what the caller has
    value = number(process, "oomScoreAdj", 2000, low=-1000, high=1000)
    return None if value == 2000 else value


def _rlimits(process: Reader) -> tuple[tuple[int, int, int], ...]:
    found: dict[int, tuple[int, int, int]] = {}
    for item in process.each("rlimits"):
        name = item.take("type", str)
        which = RLIMITS.get(name.removeprefix("RLIMIT_"))
        if which is None or not name.startswith("RLIMIT_"):
            raise BundleError(item.at("type"), f"unknown limit {name!r}", "see getrlimit(2)")
        if which in found:
            raise BundleError(item.at("type"), f"{name} stands twice", "leave one")
        soft, hard = (number(item, key, high=_INFINITY) for key in ("soft", "hard"))
        item.done()
        soft, hard = (-1 if limit == _INFINITY else limit for limit in (soft, hard))
        if hard != -1 and (soft == -1 or soft > hard):
            raise BundleError(item.at("soft"), "is above hard", "see getrlimit(2)")
        found[which] = (which, soft, hard)
    return tuple(found.values())


def _shares(process: Reader) -> _Shares:
    """Read the objects that most configurations do not have."""
    if all(map(process.lacks, ("ioPriority", "scheduler", "execCPUAffinity"))):
        return {"io_priority": None, "scheduler": None}
    from . import scheduling

    return {
        "io_priority": None if process.lacks("ioPriority") else scheduling.io_priority(process.below("ioPriority")),
        "scheduler": None if process.lacks("scheduler") else scheduling.scheduler(process.below("scheduler")),
        "affinity": scheduling.affinity(process.below("execCPUAffinity", {})),
    }
