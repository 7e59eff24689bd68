"""Runner "lxc": LXC's own programs, with a configuration file of ours.

A program in a container, as its users run one:

    lxc-execute -n NAME -P STATE -f CONFIG -- /program

``lxc-execute`` stays in the foreground as the monitor. Below it LXC's own small init is PID 1, and the program is its
child. With ``boot = "yes"`` the command must be the image's init: it is PID 1 of a system container,

    lxc-start -F -n NAME -P STATE -f CONFIG

whose console, a terminal of LXC's, is written to the runner's pipe. ``created`` is stamped when the monitor has a child
in a pid namespace of its own: LXC has no event that would say so, so it is asked for after each half millisecond.

The walls are as near to the containers' configuration (:func:`runners.container.config.defaults.default_config`) as
LXC's keys go: the same namespaces, limits and capabilities, and LXC's own list of forbidden system calls. An init needs
more: a system container gets what Debian's configuration for all distributions gives. LXC puts its monitor into
cgroups, too, and at its end into one that stays for ever (``lxc.pivot``): here they are in the run's own.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import Layers, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.container.cgroup import cgroups
from tare.runners.container.config.defaults import DOCKER_CAPABILITIES, PIDS_LIMIT
from tare.runners.container.warm import leftovers
from tare.runners.engines.common import grouped, inits
from tare.runners.launch import entry, frame, host_root, monitored, orphans, private_root

LAYERS: Layers = ("container",)
TYPICAL_S = 0.05
OPTIONS: Mapping[str, Option] = {"boot": inits.OPTION}

WALLS = (
    *frame.NAMESPACES,
    "private root (overlay)",
    "14 capabilities",
    "no new privileges",
    "masked /proc and /sys",
    frame.DEVICE_RULES,
)
_START_S = 60.0
#: How long a monitor may take from the end of its container to its own; it takes some 10 ms.
_STOP_S = 5.0
#: How long to wait before the monitor's children are looked at again.
_LOOK_S = 0.0005
_LOCKS = Path("/run/lxc/lock")
_NAME, _ROOT = "@NAME@", "@ROOT@"
#: What Debian's lxc ships for all distributions (common.seccomp): kexec_load, open_by_handle_at, modules.
_FILTER = Path("/usr/share/lxc/config/common.seccomp")
#: Character devices that every container may use: null, zero, full, random, urandom, tty, console, ptmx, pts.
_DEVICES = ("1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2", "136:*")
#: What a system container loses (share/lxc/config/common.conf): the rest its init needs.
_LOST = "mac_admin mac_override sys_time sys_module sys_rawio"


def configuration(spec: Spec, *, parent: cgroups.Cgroup | None, boot: bool, filtered: bool) -> str:
    """LXC's configuration (lxc.container.conf(5)), with placeholders for what differs between instances.

    Raises RunnerError for what such a file cannot hold.
    """
    lines = [
        ("uts.name", "tare"),
        ("rootfs.path", f"dir:{_ROOT}"),
        ("mount.auto", "proc:mixed sys:mixed cgroup:mixed" if boot else "proc:mixed sys:ro"),
        ("net.0.type", "empty"),
        ("net.0.flags", "up"),
        ("tty.max", "0"),
        ("pty.max", "16" if boot else "1"),
        ("apparmor.profile", "unconfined"),
    ]
    if boot:
        lines += [
            ("init.cmd", shlex.join(spec.argv)),
            ("cap.drop", _LOST),
            ("signal.halt", "SIGRTMIN+3"),
            ("console.logfile", "/proc/self/fd/1"),
        ]
    else:
        lines += [
            ("cap.keep", " ".join(name.removeprefix("CAP_").lower() for name in DOCKER_CAPABILITIES)),
            ("no_new_privs", "1"),
            ("init.uid", str(spec.user.uid)),
            ("init.gid", str(spec.user.gid)),
            ("init.cwd", spec.cwd),
        ]
        if spec.user.groups:
            lines.append(("init.groups", ",".join(map(str, spec.user.groups))))
    if filtered:
        lines.append(("seccomp.profile", os.fspath(_FILTER)))
    lines += [("environment", f"{name}={value}") for name, value in spec.env]
    if parent is not None:
        lines += _grant(spec, parent)
    for key, value in lines:
        if not value.isprintable():
            raise RunnerError(
                f"LXC cannot be told {key} = {value!r}", "a line of its configuration holds no such characters",
                "use printable characters in the workload's command, environment and directory",
            )  # fmt: skip
    return "".join(f"lxc.{key} = {value}\n" for key, value in lines)


def _grant(spec: Spec, parent: cgroups.Cgroup) -> Iterator[tuple[str, str]]:
    """Where its cgroups are, and what limits it there."""
    version = "cgroup2" if isinstance(parent, cgroups.V2) else "cgroup"
    yield "cgroup.dir.container", f"{parent.relative}/{_NAME}"
    yield "cgroup.dir.monitor", f"{parent.relative}/{_NAME}-monitor"
    yield "cgroup.dir.monitor.pivot", f"{parent.relative}/{_NAME}-pivot"
    yield f"{version}.devices.deny", "a"
    for device in _DEVICES:
        yield f"{version}.devices.allow", f"c {device} rwm"
    group = parent.child(_NAME)
    for file, text in group.limits(memory_bytes=spec.memory_bytes, pids=PIDS_LIMIT, cpus=spec.cpus):
        yield f"{version}.{Path(file).name}", text


@dataclass(slots=True, kw_only=True)
class _Container(monitored.Monitored):
    """A started container. A monitor whose container is killed while it is being set up waits for it for ever."""

    def stop(self) -> None:
        """See :class:`runners.launch.monitored.Monitored`: such a monitor is killed, too."""
        if self.pidfd is not None and monitored.parent_of(self.pid) == self.monitor.pid:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self.monitor.wait(_STOP_S)
        if self.monitor.poll() is None:
            self.monitor.kill()
        monitored.Monitored.stop(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starter:
    """Starts containers from *template*, a configuration with placeholders."""

    binary: str
    attach: str
    entry: Path
    spec: Spec
    scratch: Scratch
    template: str
    roots: private_root.PrivateRoots
    parent: cgroups.Cgroup | None
    boot: bool

    @property
    def state(self) -> Path:
        return self.scratch.directory / leftovers.mine()

    def start(self, name: str, stack: ExitStack) -> monitored.Monitored:
        """See :data:`runners.launch.frame.Start`."""
        config = self._config(name, stack)
        group = self._group(name, stack)
        with ExitStack() as theirs:
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            with monitored.started(self.command(name, config), console=console_in) as monitor:
                pid = _await_child(monitor, console)
                pidfd = monitored.open_process(pid)
        if pidfd is not None:
            stack.callback(os.close, pidfd)
        return _Container(
            name=name,
            console=console,
            group=group,
            monitor=monitor,
            pid=pid,
            pidfd=pidfd,
            enter=self._enter(name, config, pid, group),
        )

    def _config(self, name: str, stack: ExitStack) -> Path:
        try:
            own = self.roots.make(name, stack)
            config = own / "config"
            text = self.template.replace(_NAME, name).replace(_ROOT, os.fspath(own / "rootfs"))
            config.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RunnerError(f"cannot make the root of {name}", str(error), frame.need_root()) from error
        return config

    def _group(self, name: str, stack: ExitStack) -> cgroups.Cgroup | None:
        """Where LXC will make its cgroup; what it leaves is removed, in all hierarchies."""
        if self.parent is None:
            return None
        for each in (f"{name}-pivot", f"{name}-monitor", name):
            stack.callback(self.parent.child(each).remove)
        group = self.parent.child(name)
        stack.callback(grouped.empty, group)
        return group

    def command(self, name: str, config: Path) -> list[str]:
        where = ["-n", name, "-P", os.fspath(self.state), "-f", os.fspath(config)]
        if self.boot:
            return [self.binary, "-F", *where]
        return [self.binary, *where, "--", *self.spec.argv]

    def _enter(self, name: str, config: Path, pid: int, group: cgroups.Cgroup | None) -> tuple[str, ...]:
        """``lxc-attach``, which begins in / and knows no further groups; for more, a program of ours."""
        if self.spec.cwd != "/" or self.spec.user.groups:
            files = [f"{directory}/cgroup.procs" for directory in group.directories()] if group is not None else []
            return entry.beside(self.entry, pid, self.spec, cgroups=files)
        words = [self.attach, "-n", name, "-P", os.fspath(self.state), "-f", os.fspath(config), "--clear-env"]
        for key, value in self.spec.env:
            words += ["-v", f"{key}={value}"]
        if not self.boot:
            words += ["-u", str(self.spec.user.uid), "-g", str(self.spec.user.gid)]
        return (*words, "--")


def _await_child(monitor: subprocess.Popen[bytes], console: int) -> int:
    """The first process of the container: the monitor's child in another pid namespace. Raises RunnerError."""
    ours = Path("/proc/self/ns/pid").stat().st_ino
    pidfd = os.pidfd_open(monitor.pid)
    try:
        for _ in range(round(_START_S / _LOOK_S)):
            for child in orphans.children(monitor.pid):
                with suppress(OSError):
                    if Path(f"/proc/{child}/ns/pid").stat().st_ino != ours:
                        return child
            if select.select([pidfd], [], [], _LOOK_S)[0]:
                break
    finally:
        os.close(pidfd)
    if monitor.poll() is not None:
        why = monitored.explain(monitor, console)
    else:
        why = f"it had no process in a namespace of its own within {_START_S:g} s"
    raise RunnerError(f"{monitored.command(monitor)} made no container", why, _fix(why))


def _parent(scratch: Scratch) -> cgroups.Cgroup | None:
    """See :func:`runners.launch.frame.parent`: in all hierarchies, in which LXC makes its cgroups.

    In version 1 a new cpuset is empty, and nothing can enter it, unless the one above says that it is copied down; LXC
    says so only of what it made itself (cpusets.rst, 1.6).
    """
    parent = frame.parent(scratch)
    if parent is not None:
        try:
            cgroups.for_container(parent.relative, "lxc").create()
            if "cpuset" in parent.layout.v1 and isinstance(parent, cgroups.V1):
                Path(parent.layout.v1["cpuset"], parent.relative, "cgroup.clone_children").write_text("1")
        except OSError as error:
            why = f"{error.filename}: {error.strerror}"
            raise RunnerError(f"cannot make the cgroup {parent.relative}", why, "see `tare doctor`") from error
    return parent


def _forget(state: Path) -> None:
    """Remove LXC's locks, which are below a directory named like that of its *state*."""
    place = Path(f"{_LOCKS}{state}")
    shutil.rmtree(place, ignore_errors=True)
    with suppress(OSError):  # others have locks beside it
        for above in place.parents:
            if above == _LOCKS:
                break
            above.rmdir()


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """See :meth:`runners.base.Runner.prepare`: the configuration, and a tmpfs for the writable layers."""
    boot = inits.wanted(options)
    if boot:
        inits.check(spec)
    host_root.check(spec, scratch)
    binary = frame.program("lxc-start" if boot else "lxc-execute", "install lxc")
    parent = _parent(scratch)
    template = configuration(spec, parent=parent, boot=boot, filtered=_FILTER.exists())
    with ExitStack() as stack:
        starter = _Starter(
            binary=binary,
            attach=frame.program("lxc-attach", "install lxc"),
            entry=entry.binary(scratch.cache),
            spec=spec,
            scratch=scratch,
            template=template,
            roots=stack.enter_context(private_root.opened(scratch.directory, spec.rootfs)),
            parent=parent,
            boot=boot,
        )
        starter.state.mkdir()
        stack.callback(shutil.rmtree, starter.state, ignore_errors=True)
        stack.callback(_forget, starter.state)
        argv = starter.command("NAME", scratch.directory / "NAME" / "config")
        yield Prepared(
            launch=frame.launcher(starter.start),
            manifest={"lxc.conf": template, "argv.txt": shlex.join(argv) + "\n"},
        )


def probe(options: Options, cache: Path) -> Support:
    """See :meth:`runners.base.Runner.probe`: runs one container."""
    no_cgroups = cgroups.usable()
    version = ""
    try:
        version = monitored.ask(frame.program("lxc-execute", "install lxc"), "--version", limit_s=10).strip()
        frame.program("lxc-attach", "install lxc")
        frame.prove(prepare, {}, cache, label="lxc", grouped=not no_cgroups, fix=_fix)
    except RunnerError as error:
        return Support(ok=False, version=version, why=error.why or error.what, fix=error.fix)
    return Support(
        ok=True,
        version=f"LXC {version}",
        walls=_walls(boot=inits.wanted(options)),
        unlimited=frame.LIMITS if no_cgroups else (),
        reclaims="" if no_cgroups else cgroups.reclaimer(),
        reached=frame.LOOPBACK,
        enters="lxc-attach",
        facts={"cgroups": no_cgroups or cgroups.mode(), "filter": os.fspath(_FILTER) if _FILTER.exists() else "none"},
    )


def _walls(*, boot: bool) -> tuple[str, ...]:
    walls = WALLS + (("system call filter",) if _FILTER.exists() else ())
    less = ("14 capabilities", "no new privileges", "masked /proc and /sys")
    return tuple(wall for wall in walls if not boot or wall not in less)


def _fix(_said: str) -> str:
    return frame.need_root()


def sweep() -> Sequence[str]:
    """See :meth:`runners.base.Runner.sweep`: mounts; its processes are in the run's cgroup."""
    try:
        return leftovers.remove()
    except OSError as error:
        raise RunnerError("cannot remove leftovers", str(error), frame.need_root()) from error
