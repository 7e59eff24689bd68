"""A :class:`Bundle` becomes a tuple of steps, in order, before anything runs.

This is the order of the OCI runtime: the container gets its mounts while the host's root is still there, so that hooks
can see both, and then enters its root. Every path in the root is resolved with care (:mod:`rootfs`). The fork server's
containers do the same steps in another order: see :mod:`overlay_sequence`.
"""

from __future__ import annotations

from ..config.bundle import NAMESPACES
from ..config.process import RLIMITS
from ..light.dataclasses import record
from ..linux import capabilities
from ..linux import mount_calls as k
from . import rootfs_contents
from .steps.basic import (
    EnterRoot,
    LoopbackUp,
    NewKeyring,
    NewSession,
    SetDomainname,
    SetHostname,
    Sysctl,
    UnshareCgroups,
)
from .steps.credentials import (
    BecomeFirstMapped,
    BecomeUser,
    ChangeDirectory,
    DropBounding,
    IoPriority,
    NoNewPrivileges,
    OwnStreams,
    Schedule,
    SetCapabilities,
    SetGroups,
    SetLimit,
    SetOomScore,
    SetPersonality,
    Umask,
    Undumpable,
)
from .steps.rootfs import AttachRoot, DirectoryIn, Mask, Propagate, Readonly, SetAttributes, Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..config.bundle import Bundle
    from ..config.process import Process
    from ..linux.exec_stub.stub import Call
    from ..seccomp.filters import Filter
    from .steps import carry
    from .steps.basic import Step


_LATE = tuple(RLIMITS[name] for name in ("AS", "DATA", "FSIZE", "STACK"))
#: Descriptors that are needed to become the program.
_FEW_FILES = 64


@record(kw_only=True)
class StepSequence:
    """*clone_flags* are the namespaces that clone3 makes, before any step.

    *inherited* steps hold for every child of the process that does them: only the fork server has such steps. *own*
    are done for each container. They are three groups: *outside*, while the host's root is still there, *entering*,
    and *credentials*. After them the small program of :mod:`stub` makes the calls *last*; *last_words* describes them.
    """

    clone_flags: int
    outside: tuple[Step, ...]
    entering: tuple[Step, ...]
    credentials: tuple[Step, ...]
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    inherited: tuple[Step, ...] = ()
    last: tuple[Call, ...] = ()
    last_words: tuple[str, ...] = ()
    #: The calls before a hook of startContainer: the hook gets the same credentials as the program.
    before_hooks: tuple[Call, ...] = ()

    @property
    def own(self) -> tuple[Step, ...]:
        """All steps of one container."""
        return self.outside + self.entering + self.credentials

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps there are, in order."""
        return self.inherited + self.own


def clone_flags(bundle: Bundle) -> int:
    """The namespaces that clone3 makes. Not two of them: cgroup is made after joining, time before, by unshare(2)."""
    return sum(flag for kind, flag in NAMESPACES.items() if bundle.is_new(kind) and kind not in ("cgroup", "time"))


def make(
    bundle: Bundle,
    *,
    cgroup: str = "",
    trees: Mapping[int, int] | None = None,
    nodes: Mapping[str, int] | None = None,
    console: int = -1,
    shown: bool = False,
    new_keyring: bool = True,
    pivot: bool = True,
    last_capability: int = -1,
    filtering: Filter | None = None,
) -> StepSequence:
    """All steps of a container of *bundle*.

    All but the first, which joins the cgroups: see :class:`basic.JoinCgroup`. *cgroup* is the path of the joined one.
    *trees* are detached mounts that the parent has opened, by number of the mount (-1 is the root filesystem).
    *console* is a socket for the terminal's master; with *shown*, this runtime itself shows the terminal. With *pivot*
    false, the root is entered without pivot_root(2). For the others see :func:`becoming`.
    """
    trees = trees or {}
    outside: list[Step] = [NewSession()]
    if new_keyring:
        outside.append(NewKeyring())
    if "mount" in bundle.namespaces:
        outside.append(Propagate(k.MS_REC | k.MS_SLAVE))
    outside.append(AttachRoot(bundle.rootfs, trees.get(-1, -1)))
    if bundle.uids:
        from ..linux.idmap import root

        outside += [SetGroups(may_keep=True), BecomeUser(root(bundle.uids), root(bundle.gids))]
    elif "user" in bundle.namespaces:
        outside += [SetGroups(may_keep=True), BecomeFirstMapped()]
    outside += [Undumpable(), *namespaces(bundle), Umask(0)]
    outside += rootfs_contents.filling(bundle, cgroup, trees, nodes or {})
    outside.append(DirectoryIn(bundle.process.cwd))
    outside += [Sysctl(path, value) for path, value in bundle.sysctls]
    entering: list[Step] = [_entrance(bundle, pivot=pivot)]
    if bundle.process.terminal:
        entering.append(Terminal(console, bundle.process.console_size, bundle.process.uid, plain=shown))
    # Not earlier: hooks and the terminal may make files in it.
    entering += rootfs_contents.closed(bundle)
    entering += [Mask(path) for path in bundle.masked]
    entering += [Readonly(path) for path in bundle.readonly]
    entering += finish_root(bundle)
    last = becoming(bundle.process, bundle=bundle, last_capability=last_capability, filtering=filtering)
    return StepSequence(
        clone_flags=clone_flags(bundle),
        outside=tuple(outside),
        entering=tuple(entering),
        credentials=last.steps,
        last=last.calls,
        last_words=last.words,
        before_hooks=last.before_hooks,
        argv=bundle.process.argv,
        env=bundle.process.env,
    )


def _entrance(bundle: Bundle, *, pivot: bool) -> Step:
    """How the current directory becomes the root."""
    if pivot and "mount" in bundle.namespaces:
        return EnterRoot(".")
    from .steps.without_pivot import Chroot, MoveRoot

    return MoveRoot() if "mount" in bundle.namespaces else Chroot()


def namespaces(bundle: Bundle) -> Iterator[Step]:
    """What is set in the new namespaces, except mounts."""
    if bundle.is_new("cgroup"):
        yield UnshareCgroups()
    if bundle.hostname:
        yield SetHostname(bundle.hostname)
    if bundle.domainname:
        yield SetDomainname(bundle.domainname)
    if bundle.is_new("network"):
        yield LoopbackUp()


def finish_root(bundle: Bundle) -> Iterator[Step]:
    """What must come last in the root."""
    if bundle.readonly_root:
        yield SetAttributes("/", k.MOUNT_ATTR_RDONLY)
    if bundle.propagation:
        yield from rootfs_contents.propagated(bundle)
    if bundle.personality is not None:
        yield SetPersonality(bundle.personality)


def limits(process: Process, *, pid: int) -> tuple[Step, ...]:
    """The limits to set for process *pid* from outside (0 is the caller): in a user namespace, none could be raised.

    For a limit that is set last (:func:`_late`), only its hard value is raised here, if need be.
    """
    found: list[Step] = []
    if process.oom_score_adj is not None:
        found.append(SetOomScore(str(pid or "self"), process.oom_score_adj))
    late = _late(process)
    for each in process.rlimits:
        if each not in late:
            found.append(SetLimit(pid, *each))
            continue
        import resource

        which, _, hard = each
        own_soft, own_hard = resource.getrlimit(which)
        if own_hard != -1 and (hard == -1 or hard > own_hard):
            found.append(SetLimit(pid, which, own_soft, hard))
    return tuple(found)


def _late(process: Process) -> list[tuple[int, int, int]]:
    """The limits that come last: Python might fail under them, and this process is Python until its last execve."""
    return [
        each
        for each in process.rlimits
        if each[0] in _LATE or (each[0] == RLIMITS["NOFILE"] and 0 <= each[1] < _FEW_FILES)
    ]


@record
class Becoming:
    """How a process becomes the configured one: its own *steps*, then *calls* of :mod:`stub`; *words* describe these.

    *before_hooks* are the calls for a hook of startContainer, which is executed in the same way.
    """

    steps: tuple[Step, ...]
    calls: tuple[Call, ...]
    words: tuple[str, ...]
    before_hooks: tuple[Call, ...]


def _carried(process: Process, *, filtered: bool) -> carry.Carried | None:
    """See :func:`carry.needed`, which is not imported if the sets survive an execve as they are."""
    sets = process.capabilities
    plain = sets.bounding == sets.effective == sets.permitted and not sets.inheritable | sets.ambient
    if plain and process.uid == 0 and (process.no_new_privileges or not filtered):
        return None
    from .steps import carry

    return carry.needed(process, filtered=filtered)


def becoming(
    process: Process, *, bundle: Bundle, last_capability: int = -1, filtering: Filter | None = None
) -> Becoming:
    """What makes a process in the container the configured one: the first (of *bundle*), and each that enters later.

    *filtering* is the filter of ``bundle.seccomp``; without it, the filter is compiled now. *last_capability* is the
    kernel's; if negative, the kernel is asked. Call this on the host, before anything is entered. See :func:`limits`,
    too.
    """
    if last_capability < 0:
        last_capability = capabilities.last_capability()
    if filtering is None and bundle.seccomp is not None:
        from ..seccomp import filters

        filtering = filters.make(bundle.seccomp)
    carried = _carried(process, filtered=filtering is not None)
    plainly = SetCapabilities(process.capabilities)
    found: list[Step] = [ChangeDirectory(process.cwd)]
    if process.scheduler is not None:
        found.append(Schedule(process.scheduler))
    if process.io_priority is not None:
        found.append(IoPriority(process.io_priority))
    if not process.terminal:
        found.append(OwnStreams(process.uid, process.gid))
    if carried is not None and carried.inheritable != process.capabilities.inheritable:
        found.append(carried.inherit())
    found += [
        DropBounding(process.capabilities.bounding, last_capability),
        SetGroups(process.groups, may_keep="user" in bundle.namespaces or capabilities.confined()),
        BecomeUser(process.uid, process.gid),
        plainly if carried is None else carried.hold(process.uid),
        Umask(0o022 if process.umask is None else process.umask),
    ]
    if process.no_new_privileges:
        found.append(NoNewPrivileges())
    late = [SetLimit(0, *each) for each in _late(process)]
    calls: tuple[Call, ...] = () if carried is None else carried.calls()
    words: tuple[str, ...] = () if carried is None else (plainly.describe(),)
    # What a hook writes goes into a file in memory, to which this limit would apply, too.
    hooks = (*(each.call() for each in late if each.which != RLIMITS["FSIZE"]), *calls)
    calls, words = (*(each.call() for each in late), *calls), (*(each.describe() for each in late), *words)
    if filtering is not None:
        # The filter is the last of all: see the module stub.
        calls, words = (*calls, filtering.call()), (*words, filtering.describe())
        if not filtering.listener:  # there is only one listener, that of the program
            hooks = (*hooks, filtering.call())
    return Becoming(tuple(found), calls, words, hooks)
