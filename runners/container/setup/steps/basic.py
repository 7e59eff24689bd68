"""What makes a process a container, one thing at a time.

Each step is frozen, says in words what it does (:meth:`Step.describe`) and does it through a :class:`Sys`
(:meth:`Step.apply`), so that a recording one tests the whole set-up without privilege. :mod:`sequence` puts them in
order.
"""

# The methods of all steps do what :class:`Step` says.
# ruff: noqa: D102

from __future__ import annotations

import errno
import os
import stat

from ...light.dataclasses import RecordMethods, record
from ...linux import mount_calls
from ...linux import syscalls as k

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ..kernel import Sys
else:
    Protocol = object


class Step(Protocol):
    """One thing that is done to the new process."""

    def describe(self) -> str:
        """What is done, in words that stand in an error message."""

    def apply(self, sys: Sys) -> None:
        """Do it. Raises OSError. Which calls are made does not depend on their results: see :func:`kernel.flatten`."""

    @property
    def tolerated(self) -> tuple[int, ...]:
        """Error numbers of its calls that are no error."""

    @property
    def excused(self) -> tuple[int, ...]:
        """Error numbers that do not stop the container: its log gets a warning."""


class Strict(RecordMethods):
    """A step of which no error is tolerated."""

    __slots__ = ()
    tolerated: tuple[int, ...] = ()
    excused: tuple[int, ...] = ()


class _IfPresent(RecordMethods):
    """A step on a path that this kernel may lack, which is no error by the OCI specification."""

    __slots__ = ()
    tolerated: tuple[int, ...] = (errno.ENOENT, errno.ENOTDIR)
    excused: tuple[int, ...] = ()


@record
class JoinCgroup(Strict):
    """Enter cgroups by writing 0, "myself".

    In v1 the file is ``tasks`` and not ``cgroup.procs``: to move one thread, itself, the kernel need not stop all forks
    on the machine, which costs an RCU grace period (kernel/cgroup/cgroup.c, cgroup_attach_lock). In v2 clone3 has put
    the process into its cgroup already (CLONE_INTO_CGROUP), for the same reason.

    With *root*, a descriptor, the absolute paths of *files* start there, not at the caller's root.
    """

    files: tuple[str, ...]
    root: int | None = None

    def describe(self) -> str:
        return f"join the cgroups {' '.join(map(os.path.dirname, self.files))}"

    def apply(self, sys: Sys) -> None:
        for file in self.files:
            sys.write(file if self.root is None else file[1:], "0", self.root)


@record
class UnshareCgroups(Strict):
    """Make the joined cgroups the root of what the container sees; so it comes after joining them."""

    def describe(self) -> str:
        return "unshare the cgroup namespace"

    def apply(self, sys: Sys) -> None:
        sys.unshare(k.CLONE_NEWCGROUP)


@record
class MakeDirectory(Strict):
    """A directory to mount on."""

    path: str

    @property
    def tolerated(self) -> tuple[int, ...]:  # type: ignore[override]
        return (errno.EEXIST,)

    def describe(self) -> str:
        return f"make the directory {self.path}"

    def apply(self, sys: Sys) -> None:
        sys.mkdir(self.path, 0o755)


@record
class MountFs(Strict):
    """A file system of the configuration."""

    source: str
    target: str
    kind: str
    flags: int
    data: str

    def describe(self) -> str:
        return f"mount {self.kind} on {self.target} ({self.data or 'no options'})"

    def apply(self, sys: Sys) -> None:
        sys.mount(self.source, self.target, self.kind, self.flags, self.data)


@record
class MakeDevice(Strict):
    """A standard device node."""

    path: str
    major: int
    minor: int

    def describe(self) -> str:
        return f"make the device {self.path} ({self.major}:{self.minor})"

    def apply(self, sys: Sys) -> None:
        sys.mknod(self.path, stat.S_IFCHR | 0o666, os.makedev(self.major, self.minor))


@record
class Link(Strict):
    """A standard symbolic link."""

    target: str
    path: str

    def describe(self) -> str:
        return f"link {self.path} to {self.target}"

    def apply(self, sys: Sys) -> None:
        sys.symlink(self.target, self.path)


@record
class MaskFile(_IfPresent):
    """Hide a file behind /dev/null."""

    path: str

    def describe(self) -> str:
        return f"mask the file {self.path}"

    def apply(self, sys: Sys) -> None:
        sys.mount("/dev/null", self.path, "", mount_calls.MS_BIND)


@record
class MaskDirectory(_IfPresent):
    """Hide a directory behind an empty read-only one: the one that hides *like* already, or a new one.

    A file system costs every memory cgroup of the host some bytes (shrinker_info, mm/shrinker.c), a second mount of it
    nothing: with thousands of containers that is a third of what each takes.
    """

    path: str
    like: str = ""

    @property
    def tolerated(self) -> tuple[int, ...]:  # type: ignore[override]
        """*like* was masked, so *path* exists, too."""
        return () if self.like else _IfPresent.tolerated

    def describe(self) -> str:
        return f"mask the directory {self.path}" + (f" as {self.like}" if self.like else "")

    def apply(self, sys: Sys) -> None:
        if self.like:
            sys.mount(self.like, self.path, "", mount_calls.MS_BIND)
        else:
            sys.mount("tmpfs", self.path, "tmpfs", mount_calls.MS_RDONLY, "nr_blocks=1,nr_inodes=1")


@record
class MakeReadonly(_IfPresent):
    """Bind a path on itself, read-only."""

    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def apply(self, sys: Sys) -> None:
        sys.mount(self.path, self.path, "", mount_calls.MS_BIND | mount_calls.MS_REC)
        sys.set_attributes(self.path, mount_calls.MOUNT_ATTR_RDONLY)


@record
class EnterRoot(Strict):
    """Make *path* the root, and unmount the host's mounts.

    From here on no symbolic link of the root filesystem leads out of it.
    """

    path: str

    def describe(self) -> str:
        return f"pivot_root to {self.path} and detach the host's root"

    def apply(self, sys: Sys) -> None:
        sys.chdir(self.path)
        # The old root is mounted on top of the new one, and "." still names it: no directory of the rootfs is needed
        # for it.
        sys.pivot_root(".", ".")
        sys.umount2(".", mount_calls.MNT_DETACH)
        sys.chdir("/")


@record
class LoopbackUp(Strict):
    """A new network namespace has one interface, lo, which is down."""

    def describe(self) -> str:
        return "bring up the loopback interface"

    def apply(self, sys: Sys) -> None:
        sys.link_up("lo")


@record
class NewKeyring(Strict):
    """An empty session keyring: the caller's would be open to the container (session-keyring(7))."""

    def describe(self) -> str:
        return "join a new session keyring"

    def apply(self, sys: Sys) -> None:
        sys.new_keyring()


@record
class SetHostname(Strict):
    """The name in the new UTS namespace."""

    name: str

    def describe(self) -> str:
        return f"set the hostname to {self.name}"

    def apply(self, sys: Sys) -> None:
        sys.sethostname(self.name)


@record
class SetDomainname(Strict):
    """The NIS name in the new UTS namespace."""

    name: str

    def describe(self) -> str:
        return f"set the domain name to {self.name}"

    def apply(self, sys: Sys) -> None:
        sys.setdomainname(self.name)


@record
class DieWithParent(Strict):
    """Get SIGKILL when the parent dies: even a parent that is killed leaves no orphans."""

    def describe(self) -> str:
        return "ask to be killed when the parent dies"

    def apply(self, sys: Sys) -> None:
        sys.prctl(k.PR_SET_PDEATHSIG, 9)


@record
class RunOn(Strict):
    """Run on any of *processors* again, even if the parent runs on one only."""

    processors: frozenset[int]

    def describe(self) -> str:
        return f"run on any of the processors {', '.join(map(str, sorted(self.processors)))}"

    def apply(self, sys: Sys) -> None:
        sys.run_on(self.processors)


@record
class NewSession(Strict):
    """Leave the caller's session and terminal."""

    def describe(self) -> str:
        return "start a session"

    def apply(self, sys: Sys) -> None:
        sys.setsid()


@record
class Sysctl(Strict):
    """A kernel parameter of one of the container's namespaces."""

    path: str
    value: str

    def describe(self) -> str:
        return f"write {self.value} to {self.path}"

    def apply(self, sys: Sys) -> None:
        sys.write(self.path, self.value)
