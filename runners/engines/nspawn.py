"""Runner "nspawn": ``systemd-nspawn``, without systemd around it.

    systemd-nspawn --register=no --keep-unit -D ROOT -M NAME --private-network --console=pipe ... /program

It stays in the foreground as the monitor. With ``boot = "yes"`` the command must be the image's init, which
``systemd-nspawn --boot`` looks for itself; its console is a terminal of nspawn's, which is written to the runner's
pipe. ``created`` is stamped when nspawn says so by the protocol of sd_notify(3), with the number of the first process.

Where no systemd runs, nspawn cannot ask it for a cgroup with limits. So it is started in a cgroup of ours, which limits
it together with its container, and in which it makes its own.

It refuses a root without ``/usr``. The built-in image has none: then each instance's writable layer gets an empty one,
and the image stays as it is.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import Layers, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.container.cgroup import cgroups
from tare.runners.container.warm import leftovers
from tare.runners.engines.common import grouped, inits
from tare.runners.launch import entry, frame, host_root, monitored, private_root

LAYERS: Layers = ("container",)
TYPICAL_S = 0.2
OPTIONS: Mapping[str, Option] = {"boot": inits.OPTION}

WALLS = (
    *frame.NAMESPACES,
    "private root (overlay)",
    "14 capabilities",
    "no new privileges",
    "system call filter",
    "masked /proc and /sys",
)
_START_MS = 60_000
#: What it gives a container that registers nowhere, and that must not be changed by where it runs.
_ALONE = (
    *("--quiet", "--register=no", "--keep-unit", "--settings=no", "--private-network"),
    *("--resolv-conf=off", "--timezone=off", "--link-journal=no"),
)
#: Capabilities that nspawn grants of itself (systemd-nspawn(1)), and our configuration does not.
_TOO_MANY = (
    *("CAP_AUDIT_CONTROL", "CAP_DAC_READ_SEARCH", "CAP_IPC_OWNER", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_NET_ADMIN"),
    *("CAP_NET_BROADCAST", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_PTRACE", "CAP_SYS_RESOURCE"),
    "CAP_SYS_TTY_CONFIG",
)
#: Where the program is in the container that gives a workload its user.
_ENTRY = "/run/tare-entry"
_LEADER = re.compile(rb"^X_NSPAWN_LEADER_PID=(\d+)$", re.MULTILINE)
_READY = re.compile(rb"^READY=1$", re.MULTILINE)


def arguments(binary: str, spec: Spec, *, name: str, root: Path, boot: bool, program: Path) -> list[str]:
    """nspawn's whole command line; *program* is that of :mod:`runners.launch.entry`."""
    words = [binary, *_ALONE, "-D", os.fspath(root), "-M", name, "--hostname=tare"]
    words += [f"--setenv={key}={value}" for key, value in spec.env]
    if boot:
        return [*words, "--console=read-only", "--boot", *spec.argv[1:]]
    words += ["--console=pipe", "--no-new-privileges=yes", f"--drop-capability={','.join(_TOO_MANY)}"]
    words.append(f"--chdir={spec.cwd}")
    if not entry.own_user(spec):
        # nspawn would ask the image's own getent(1) for the user, and an image may have none.
        words.append(f"--bind-ro={program}:{_ENTRY}")
        return [*words, "--", _ENTRY, *entry.user(spec), "--", *spec.argv]
    return [*words, "--", *spec.argv]


def _check(spec: Spec, *, boot: bool) -> None:
    if boot:
        inits.check(spec)
        if not any((spec.rootfs / place / "os-release").exists() for place in ("etc", "usr/lib")):
            raise RunnerError(
                f"systemd-nspawn does not boot the image {spec.image.source}",
                "it holds neither etc/os-release nor usr/lib/os-release",
                "add the file, or leave the option boot out",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starter:
    """Starts containers."""

    binary: str
    program: Path
    spec: Spec
    roots: private_root.PrivateRoots
    grants: grouped.Grants
    boot: bool

    def start(self, name: str, stack: ExitStack) -> monitored.Monitored:
        """See :data:`runners.launch.frame.Start`."""
        try:
            root = self.roots.make(name, stack) / "rootfs"
        except OSError as error:
            raise RunnerError(f"cannot make the root of {name}", str(error), frame.need_root()) from error
        group = self.grants.make(name, stack)
        stack.callback(_forget, name)
        words = arguments(self.binary, self.spec, name=name, root=root, boot=self.boot, program=self.program)
        with ExitStack() as theirs:
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            told = theirs.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
            told.bind(f"\0{name}-notify")
            env = {"PATH": os.environ.get("PATH", os.defpath), "NOTIFY_SOCKET": f"@{name}-notify"}
            starting = grouped.started(words, grants=self.grants, group=group, console=console_in, env=env)
            with starting as monitor:
                pid = _await_leader(told, monitor, console)
                _forget(name)
                pidfd = monitored.open_process(pid)
        if pidfd is not None:
            stack.callback(os.close, pidfd)
        return monitored.Monitored(
            name=name,
            console=console,
            group=group,
            monitor=monitor,
            pid=pid,
            pidfd=pidfd,
            enter=entry.beside(self.program, pid, self.spec, cgroups=_entrances(group)),
        )


def _entrances(group: cgroups.Cgroup | None) -> list[str]:
    """The files by which a command enters the cgroup of the container; machinectl(1) would need a systemd for it."""
    if group is None:
        return []
    if isinstance(group, cgroups.V2):  # nspawn has divided it: the container is in one below
        below = Path(group.directory, "payload")
        return [f"{below if below.is_dir() else group.directory}/cgroup.procs"]
    return [f"{directory}/cgroup.procs" for directory in group.directories()]


def _await_leader(told: socket.socket, monitor: subprocess.Popen[bytes], console: int) -> int:
    """The first process of the container, from the message that it runs. Raises RunnerError."""
    pid, ready, found = 0, False, dict[int, int]()
    pidfd = os.pidfd_open(monitor.pid)
    events = select.poll()
    events.register(told, select.POLLIN)
    events.register(pidfd, select.POLLIN)
    try:
        while not (pid and ready):
            found = dict(events.poll(_START_MS))
            if told.fileno() in found:
                said = told.recv(4096)
                if leader := _LEADER.search(said):
                    pid = int(leader[1])
                ready = ready or _READY.search(said) is not None
            else:
                break
    finally:
        os.close(pidfd)
    if pid and ready:
        return pid
    if found:
        monitored.await_end(monitor)
        why = monitored.explain(monitor, console)
    else:
        why = f"it reported no process within {_START_MS // 1000} s"
    raise RunnerError(f"{monitored.command(monitor)} made no container", why, frame.need_root())


def _forget(name: str) -> None:
    """Remove the directory through which machinectl(1) would pass on mounts into the container *name*.

    nspawn does so at its end, but only where ``/run`` is a tmpfs: elsewhere it complains on the workload's console.
    """
    with suppress(FileNotFoundError):
        Path("/run/systemd/nspawn/propagate", name).rmdir()


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """See :meth:`runners.base.Runner.prepare`: a tmpfs for the writable layers."""
    boot = inits.wanted(options)
    _check(spec, boot=boot)
    host_root.check(spec, scratch)
    binary, program = _binary(), entry.binary(scratch.cache)
    extra = () if (spec.rootfs / "usr").is_dir() else ("usr",)
    with ExitStack() as stack:
        starter = _Starter(
            binary=binary,
            program=program,
            spec=spec,
            roots=stack.enter_context(private_root.opened(scratch.directory, spec.rootfs, extra)),
            grants=grouped.grants(spec, scratch),
            boot=boot,
        )
        root = scratch.directory / "NAME" / "rootfs"
        argv = arguments(binary, spec, name="NAME", root=root, boot=boot, program=program)
        note = "# the image has no /usr: an empty one is in the writable layer of each instance\n" if extra else ""
        yield Prepared(launch=frame.launcher(starter.start), manifest={"argv.txt": note + shlex.join(argv) + "\n"})


def _binary() -> str:
    return frame.program("systemd-nspawn", "install systemd-container")


def probe(options: Options, cache: Path) -> Support:
    """See :meth:`runners.base.Runner.probe`: runs one container."""
    no_cgroups = cgroups.usable()
    version = ""
    try:
        version = monitored.ask(_binary(), "--version", limit_s=10).partition("\n")[0].strip()
        frame.prove(prepare, {}, cache, label="nspawn", grouped=not no_cgroups, fix=lambda _: frame.need_root())
    except RunnerError as error:
        return Support(ok=False, version=version, why=error.why or error.what, fix=error.fix)
    less = ("14 capabilities", "no new privileges") if inits.wanted(options) else ()
    return Support(
        ok=True,
        version=version,
        walls=tuple(wall for wall in WALLS if wall not in less),
        unlimited=frame.LIMITS if no_cgroups else (),
        reclaims="" if no_cgroups else cgroups.reclaimer(),
        reached=frame.LOOPBACK,
        enters=entry.ENTERS,
        facts={"cgroups": no_cgroups or cgroups.mode()},
    )


def sweep() -> Sequence[str]:
    """See :meth:`runners.base.Runner.sweep`: mounts; its processes are in the run's cgroup."""
    try:
        return leftovers.remove()
    except OSError as error:
        raise RunnerError("cannot remove leftovers", str(error), frame.need_root()) from error
