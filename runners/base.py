"""The types that every runner uses: what is asked for, what is possible, what was started.

There is no logic here. A runner is a *module* that satisfies :class:`Runner` (PEP 544: modules may implement
protocols); it never reads a clock, never sleeps to wait for readiness, never prints. The engine reads the clock, and
tells a runner nothing about the experiment it is part of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

#: The names of all that tare makes on a host begin with this, so that ``tare clean`` removes nothing else.
PREFIX = "tare-"

#: What a runner puts between the host and the workload, outermost first; nothing for a bare process. A report never
#: merges results of different layers. :mod:`runners.layers` has the words, and what is asked about them.
Layers = tuple[str, ...]

#: How a virtual machine's instructions are executed; ``None`` for everything that is not a virtual machine. ``uml``:
#: by the processor itself, as those of a process of the host, whose system calls the guest's kernel intercepts.
Accelerator = Literal["kvm", "tcg", "uml"]

#: Sets a time stamp: a runner calls ``mark("created")`` and the engine reads its clock.
Mark = Callable[[str], None]

#: Free-form, already validated options of one subject (the ``options`` table of a scenario).
Options = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a runner. Its value is a text: one of ``choices`` if there are any, an existing file if so said."""

    meaning: str
    choices: tuple[str, ...] = ()
    file: bool = False


class RunnerError(Exception):
    """A runner could not do what was asked.

    ``what`` happened, ``why``, and the ``fix``: three short texts, the first two with the path or the command in them.
    """

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return ": ".join(part for part in (self.what, self.why) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whose rights a workload has: numbers, which an image's own passwd(5) and group(5) gave."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """What an image says of the workload in it (OCI image specification, config.md); a scenario may say otherwise.

    ``machine``: it is the disk of a whole machine, which nobody but its own system looks into.
    """

    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: str = ""
    ports: tuple[int, ...] = ()
    machine: bool = False


#: The source of the image that is the host's own root.
HOST = "host"
#: An image that is the disk of a whole machine.
DISK = "disk"


class Image(Protocol):
    """What a workload finds below its root: one content, in the shapes that runners take.

    Every subject of a run gets the same content. :mod:`runners.image` makes images, once, before any clock runs.
    """

    @property
    def source(self) -> str:
        """What it was made from, as a scenario says it: ``payload``, ``host``, ``debian:bookworm+nginx``."""

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits over its content; empty for ``host``, whose content is not read."""

    @property
    def directory(self) -> Path:
        """Its files. Never written to: each instance gets its own writable layer."""

    @property
    def config(self) -> ImageConfig:
        """What it says of its workload."""

    def shape(self, name: str) -> Path:
        """Its files in another shape (:data:`runners.image.shapes.SHAPES`), made once and kept. Raises RunnerError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The contract of one instance; the same for every subject of a comparison.

    ``argv`` is run as PID 1 of the instance with ``env`` as its whole environment, in the directory ``cwd`` and with
    the rights of ``user``, below the root of ``image``. ``memory_bytes`` and ``cpus`` are the grant. ``ports`` are
    those on which it listens. ``custom`` says that it is a workload of a user's: the payload alone can be the init of a
    machine.
    """

    argv: tuple[str, ...]
    image: Image
    memory_bytes: int
    cpus: int
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    user: User = User()
    ports: tuple[int, ...] = ()
    custom: bool = False

    @property
    def rootfs(self) -> Path:
        """The directory of the image."""
        return self.image.directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """Where one subject's instances may make files and cgroups; all of it is removed when the run is over.

    ``directory`` is an empty directory of the subject's own (short: unix socket paths end at 107 bytes). ``cache``
    outlives runs and holds what is expensive to make (guest kernel, initramfs, payload binary), keyed by digest.
    ``cgroup`` is the run's cgroup relative to the root of each hierarchy (``tare-1a2b/night``), below which runners
    create the cgroups of instances; ``None`` when this user may not create cgroups.
    ``prefix`` starts the name of everything this run creates (``tare-1a2b``).
    """

    directory: Path
    cache: Path
    cgroup: str | None
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """What :func:`Runner.probe` found: usable or not, and what was proved.

    When ``ok`` is false, ``why`` says what is missing and ``fix`` what to do. ``version`` names the exact thing that
    would run. ``walls`` are the isolation steps that hold (``pid namespace``, ``own kernel``...), ``unlimited`` the
    parts of the grant that this runner does not enforce (``memory``, ``cpus``). ``reclaims`` says by what the host can
    ask a running instance for memory (:meth:`Instance.reclaim`), such as ``memory.reclaim``; empty where it cannot.
    ``reached`` says where its ports are (:meth:`Instance.address`), ``enters`` by what a further command gets into it
    (:meth:`Instance.command`); empty where it has none. ``images`` are the sources of images, as words before the
    colon, that this runner cannot take; ``disks`` says that it starts one that is the disk of a whole machine.
    ``facts`` are further findings worth recording, as text.
    """

    ok: bool
    version: str = ""
    why: str = ""
    fix: str = ""
    accelerator: Accelerator | None = None
    walls: tuple[str, ...] = ()
    unlimited: tuple[str, ...] = ()
    reclaims: str = ""
    reached: str = ""
    enters: str = ""
    images: tuple[str, ...] = ()
    disks: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the ports of an instance are reached from outside.

    ``host`` is an IPv4 address in the network namespace of process ``pid``, or in the host's own where that is None.
    ``ports`` maps a port inside to the one that leads to it, where these differ. ``how`` says it to a reader. ``link``
    is the device, in that namespace, behind which the instance is, where it is one that answers nothing before it has
    brought up its own: the first frame from it says that it has.
    """

    how: str
    host: str = "127.0.0.1"
    pid: int | None = None
    link: str = ""
    ports: Mapping[int, int] = field(default_factory=dict)


class Instance(Protocol):
    """One running subject, valid in the ``with launch(...)`` block that made it.

    At the end of the block the instance is killed (SIGKILL, or ``virDomainDestroy``); ``mark("stopped")`` is called
    once no process of it runs any more; then all that the start made is removed.
    """

    @property
    def console(self) -> int:
        """A readable, non-blocking fd on which the payload's marks arrive; end of file means that it is dead."""

    @property
    def cgroup(self) -> Path | None:
        """The instance's own cgroup directory in the ``cpuacct`` (v1) or unified (v2) hierarchy, if it has one."""

    def pids(self) -> frozenset[int]:
        """Every process on the host that belongs to this instance now: payload, shim, monitor, emulator."""

    def explain(self) -> str:
        """What the backend knows of an early death (exit status, its standard error); empty when nothing."""

    def reclaim(self, size_bytes: int) -> None:
        """Ask it for *size_bytes* of memory, and return when it has given what it can: less is no error.

        Raises RunnerError where the host has no means to ask, which :attr:`Support.reclaims` says before.
        """

    def address(self) -> Address:
        """Where its ports are. Raises RunnerError where there are none, which :attr:`Support.reached` says before."""

    def command(self, argv: Sequence[str]) -> Sequence[str]:
        """The command line, for the host, that runs *argv* beside the workload, in its image and with its rights.

        Its exit status is that of *argv*. Raises RunnerError where that cannot be done (:attr:`Support.enters`).
        """

    def status(self) -> int | None:
        """How the workload ended: its exit status, or 128 and the signal's number; None while it runs.

        Waits a moment for a workload whose console has ended.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """What the disks that an instance alone has take of the host's disk: when they had been made, and now."""

    made_bytes: int
    now_bytes: int


@runtime_checkable
class HasDisk(Protocol):
    """An instance that may have a disk of its own."""

    def disk(self) -> DiskUse | None:
        """What that takes; None where it has none."""


#: Starts one instance. All that happens between the call and the payload's mark is the start; it is timed.
Launch = Callable[[str, Mark], AbstractContextManager[Instance]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """The instance whose state is saved, and of which all that is measured are restored.

    Whoever prepares a subject starts it once by ``launch``, and hands it to ``keep`` when it is ready; that ends it.
    """

    launch: Launch
    keep: Callable[[Instance], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What :func:`Runner.prepare` yields: how to start one, and exactly what will be started.

    ``manifest`` maps a file name (``config.json``, ``domain.xml``, ``argv.txt``) to its text, for the run's record.
    ``resident_pids`` are processes that stay between starts and serve every instance (a fork server), and
    ``resident_cgroups`` the cgroups that these have outside of the run's. ``daemon_pids``
    are those of an engine's own daemon (libvirtd, dockerd), whether it was there before or runs for this subject alone.
    ``guest_bytes`` is the memory of the machine that an instance is in, where that is not its grant; 0 where it is.
    ``pause_s`` is the longest time between two changes that an instance makes to the host's memory by itself. ``walls``
    are those of its instances where these depend on the image or the workload, instead of :attr:`Support.walls`; None
    where they do not.
    ``share`` is for an engine that starts an OCI runtime: a block that watches, and yields what tells, of an instance
    that was started in the block, how many seconds of its start up to a stamp (CLOCK_MONOTONIC, ns) that runtime
    worked; None where it cannot be known.
    ``original`` must be started and kept before the first launch, where there is one.
    """

    launch: Launch
    walls: tuple[str, ...] | None = None
    manifest: Mapping[str, str] = field(default_factory=dict)
    resident_pids: frozenset[int] = frozenset()
    resident_cgroups: frozenset[Path] = frozenset()
    daemon_pids: frozenset[int] = frozenset()
    guest_bytes: int = 0
    pause_s: float = 0.0
    share: Callable[[], AbstractContextManager[Callable[[Instance, int], float | None]]] | None = None
    original: Original | None = None


class Runner(Protocol):
    """A backend: the three functions and three constants that a module in ``runners/`` defines."""

    #: The layers of isolation, outermost first: ``()``, ``("container",)``, ``("vm", "container")``.
    LAYERS: Layers
    #: A rough duration of start + stop, in seconds, to estimate how long a run will take before anything is known.
    TYPICAL_S: float
    #: The options that a scenario may give, by name: a wrong one is refused before anything starts.
    OPTIONS: Mapping[str, Option]

    def probe(self, options: Options, cache: Path) -> Support:
        """Find out, by trying it, whether this runner works here. Never raises; leaves nothing behind."""

    def prepare(self, spec: Spec, options: Options, scratch: Scratch) -> AbstractContextManager[Prepared]:
        """Do all that can be done once, before any clock runs. Raises :class:`RunnerError`."""

    def sweep(self) -> Sequence[str]:
        """Remove what killed runs left, by :data:`PREFIX` only; return what was removed, for the reader.

        Called while no run measures on this host, or by the one that does: what the caller itself runs in stays.
        """
