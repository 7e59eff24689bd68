"""Steps for the program's credentials and limits: user and group ids, capabilities, rlimits. The last before exec.

Order matters: each step needs what a later one takes away. See :func:`sequence.becoming`.
"""

# The methods of all steps do what :class:`basic.Step` says.
# ruff: noqa: D102

from __future__ import annotations

import errno

from ...light.dataclasses import record
from ...linux import capabilities
from ...linux import syscalls as k
from .basic import Strict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...config.scheduling import Scheduler
    from ...linux.capabilities import Capabilities
    from ...linux.exec_stub.stub import Call
    from ..kernel import Sys


@record
class ChangeDirectory(Strict):
    """The directory that the program starts in. A link through /proc to a directory of the host's is refused."""

    path: str

    def describe(self) -> str:
        return f"change to the directory {self.path}"

    def apply(self, sys: Sys) -> None:
        sys.chdir_in(self.path)


@record
class Umask(Strict):
    """Set the mask of new files: 0 while devices are made, 022 for the program, as crun and runc do."""

    mask: int

    def describe(self) -> str:
        return f"set the umask to {self.mask:03o}"

    def apply(self, sys: Sys) -> None:
        sys.umask(self.mask)


@record
class Undumpable(Strict):
    """As long as this process is the runtime's program, the container's others may not read it (ptrace(2), /proc/PID).

    exec of a program makes it dumpable again.
    """

    def describe(self) -> str:
        return "forbid others to look into this process"

    def apply(self, sys: Sys) -> None:
        sys.prctl(k.PR_SET_DUMPABLE, 0)


@record
class DropBounding(Strict):
    """Take capabilities out of the bounding set, so that exec as root cannot bring them back (capabilities(7))."""

    keep: int
    last: int

    def describe(self) -> str:
        return f"bound the capabilities to {_names(self.keep)}"

    def apply(self, sys: Sys) -> None:
        for number in range(self.last + 1):
            if not self.keep >> number & 1:
                sys.prctl(k.PR_CAPBSET_DROP, number)


def _names(mask: int) -> str:
    return " ".join(capabilities.names(mask)) or "none"


@record
class SetGroups(Strict):
    """The supplementary groups, instead of the caller's.

    *may_keep*: in a user namespace of an unprivileged user they can neither be read nor dropped (user_namespaces(7));
    they give no rights there.
    """

    groups: tuple[int, ...] = ()
    may_keep: bool = False

    @property
    def tolerated(self) -> tuple[int, ...]:  # type: ignore[override]
        return (errno.EPERM,) if self.may_keep and not self.groups else ()

    def describe(self) -> str:
        if not self.groups:
            return "drop the supplementary groups"
        return f"be in the groups {' '.join(map(str, self.groups))}"

    def apply(self, sys: Sys) -> None:
        sys.setgroups(list(self.groups))


@record
class BecomeUser(Strict):
    """Set all user and group ids. The capabilities survive it, for :class:`SetCapabilities` to set."""

    uid: int
    gid: int

    def describe(self) -> str:
        return f"become user {self.uid}, group {self.gid}"

    def apply(self, sys: Sys) -> None:
        sys.prctl(k.PR_SET_KEEPCAPS, 1)
        sys.setresgid(self.gid, self.gid, self.gid)
        sys.setresuid(self.uid, self.uid, self.uid)
        sys.prctl(k.PR_SET_KEEPCAPS, 0)


@record
class BecomeFirstMapped(Strict):
    """Be the first user and group of a joined user namespace, which need not be 0. Capabilities survive it."""

    def describe(self) -> str:
        return "become the first user and group of the user namespace"

    def apply(self, sys: Sys) -> None:
        sys.prctl(k.PR_SET_KEEPCAPS, 1)
        sys.become_first_mapped()
        sys.prctl(k.PR_SET_KEEPCAPS, 0)


@record
class SetCapabilities(Strict):
    """Keep these capabilities only."""

    sets: Capabilities

    def describe(self) -> str:
        return f"keep the capabilities {_names(self.sets.effective)}"

    def apply(self, sys: Sys) -> None:
        sets = self.sets
        sys.prctl(k.PR_CAP_AMBIENT, k.PR_CAP_AMBIENT_CLEAR_ALL)
        sys.capset(sets.effective, sets.permitted, sets.inheritable)
        for number in range(sets.ambient.bit_length()):
            if sets.ambient >> number & 1:
                sys.prctl(k.PR_CAP_AMBIENT, k.PR_CAP_AMBIENT_RAISE, number)


@record
class NoNewPrivileges(Strict):
    """No exec from here on grants a privilege."""

    def describe(self) -> str:
        return "set no_new_privs"

    def apply(self, sys: Sys) -> None:
        sys.prctl(k.PR_SET_NO_NEW_PRIVS, 1)


@record
class OwnStreams(Strict):
    """Give the standard streams that are pipes to the user that the program will be."""

    uid: int
    gid: int

    def describe(self) -> str:
        return f"give the standard streams to user {self.uid}"

    def apply(self, sys: Sys) -> None:
        sys.own_streams(self.uid, self.gid)


@record
class SetLimit(Strict):
    """A resource limit (getrlimit(2)) of process *pid*, 0 is the caller; -1 is no limit."""

    pid: int
    which: int
    soft: int
    hard: int

    def describe(self) -> str:
        from ...config.process import RLIMITS

        return f"set the limit {list(RLIMITS)[self.which]} to {self.soft}, at most {self.hard}"

    def apply(self, sys: Sys) -> None:
        sys.prlimit(self.pid, self.which, (self.soft, self.hard))

    def call(self) -> Call:
        """The same as a call that the stub makes for itself (:mod:`stub`)."""
        import struct

        from ...linux.exec_stub import stub  # late: few containers have such limits

        limits = struct.pack("<QQ", self.soft % (1 << 64), self.hard % (1 << 64))
        return stub.Call(stub.LIMIT, "prlimit64", (0, self.which, limits, 0))


@record
class SetOomScore(Strict):
    """How willingly the kernel kills process *pid* ("self": the caller) when memory is short (proc(5))."""

    pid: str
    value: int

    def describe(self) -> str:
        return f"set oom_score_adj to {self.value}"

    def apply(self, sys: Sys) -> None:
        sys.write(f"/proc/{self.pid}/oom_score_adj", str(self.value))


@record
class Schedule(Strict):
    """Scheduling policy, nice value, priority or times (sched(7))."""

    wanted: Scheduler

    def describe(self) -> str:
        from ...config.scheduling import POLICIES

        wanted = self.wanted
        name = next(name for name, number in POLICIES.items() if number == wanted.policy)
        said = f"set the scheduling policy to {name}, nice {wanted.nice}, priority {wanted.priority}"
        times = f"{wanted.runtime_ns} ns in {wanted.deadline_ns} of {wanted.period_ns}"
        return f"{said}, {times}" if wanted.deadline_ns else said

    def apply(self, sys: Sys) -> None:
        sys.sched_setattr(self.wanted.packed())


@record
class IoPriority(Strict):
    """Priority at block devices (ioprio_set(2))."""

    value: int

    def describe(self) -> str:
        return f"set the I/O priority to class {self.value >> 13}, level {self.value & 7}"

    def apply(self, sys: Sys) -> None:
        sys.ioprio_set(self.value)


@record
class SetPersonality(Strict):
    """Execution domain (personality(2)): what uname(2) says to 32-bit programs."""

    persona: int

    def describe(self) -> str:
        return f"set the personality to {self.persona}"

    def apply(self, sys: Sys) -> None:
        sys.personality(self.persona)
