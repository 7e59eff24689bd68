"""Runners "crun", "runc" and "container-cold": an OCI runtime's own program, used as a user uses it.

One class, many binaries; the last one is ours (``tare-oci``), of which each start is a fresh Python.

A launch is: a directory (the OCI bundle) with an overlay of the root filesystem mounted in it and a ``config.json``;
then

    crun --root STATE run --bundle BUNDLE --pid-file PIDS/NAME NAME

in the foreground: the program stays as the monitor of its container. ``created`` is stamped when it has written the
pid-file, which is how it tells a caller that the container exists. The configuration is the one that our own runtime
gets (:func:`runners.container.bundle.default_config`), so the contracts are equal line by line.

The stop is SIGKILL to the container's first process; the monitor then sees its child's end, removes cgroup and state,
and exits: this is what it does when a container ends by itself. ``crun delete --force NAME`` follows only if state is
left after that.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, cast

from runners import payload
from runners.base import PREFIX, Instance, Kind, Mark, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from runners.container import cgroups, leftovers, syscalls, trial
from runners.container.defaults import default_config
from runners.container.steps import overlay_options

WALLS = (
    "mount namespace",
    "pid namespace",
    "uts namespace",
    "ipc namespace",
    "network namespace",
    "cgroup namespace",
    "private root (overlay)",
    "14 capabilities",
    "no new privileges",
    "system call filter",
    "masked /proc and /sys",
    "own session keyring",
    "device rules",
)
_LIMITED = ("memory", "cpus", "pids")
_NAME = "@NAME@"  # stands in the configuration's template where each instance has its own name
_START_MS = 60_000
_STOP_MS = 20_000
_VERSION_S = 10


@dataclass(slots=True, kw_only=True)
class _Container:
    """A started container; see :class:`runners.base.Instance`."""

    name: str
    console: int
    group: cgroups.Cgroup | None
    monitor: subprocess.Popen[bytes]
    pid: int
    pidfd: int | None
    log: Path

    @property
    def cgroup(self) -> Path | None:
        """See :class:`runners.base.Instance`."""
        return self.group.path if self.group is not None else None

    def pids(self) -> frozenset[int]:
        """The runtime's program, which stays as the monitor, and all processes of the container."""
        inside = self.group.pids() if self.group is not None else frozenset()
        return inside | ({self.monitor.pid} if self.monitor.poll() is None else frozenset())

    def explain(self) -> str:
        """What the program said on standard error, and its exit status, which is its container's."""
        # The monitor holds the console too: its descriptors close a moment before its end can be waited for.
        if trial.hung_up(self.console):
            self.monitor.wait(_STOP_MS / 1000)
        return _explain(self.monitor, self.log)

    def stop(self) -> None:
        """SIGKILL the first process, and await the monitor's end."""
        # The number came from a file: if the container ended at once, another process may have it by now.
        if self.pidfd is not None and _parent(self.pid) == self.monitor.pid:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        try:
            self.monitor.wait(_STOP_MS / 1000)
        except subprocess.TimeoutExpired:
            self.monitor.kill()
            self.monitor.wait()
            raise RunnerError(
                f"the monitor of {self.name} did not end after its container", _command(self.monitor)
            ) from None


def _command(monitor: subprocess.Popen[bytes]) -> str:
    return " ".join(cast("list[str]", monitor.args))


def _explain(monitor: subprocess.Popen[bytes], log: Path) -> str:
    said = log.read_text(errors="replace").strip()[-2000:] if log.exists() else ""
    status = monitor.poll()
    ended = "" if status is None else f"ended with status {status}"
    return ": ".join(part for part in (ended, said) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Launcher:
    """Starts instances; *template* is the configuration with :data:`_NAME` in place of the instance's name."""

    binary: str
    scratch: Scratch
    template: str
    rootfs: str
    parent: cgroups.Cgroup | None
    pid_files: Path
    #: An inotify descriptor on *pid_files*. One for all launches: closing one waits for a grace period of the kernel
    #: (fsnotify_destroy_group, synchronize_srcu), some 10 ms that no user of the runtime pays.
    watch: int
    #: Its events are for whoever waits, so one launch waits at a time.
    waiting: threading.Lock

    @property
    def state(self) -> Path:
        return self.scratch.directory / leftovers.mine()

    @contextmanager
    def __call__(self, name: str, mark: Mark) -> Iterator[Instance]:
        """See :data:`runners.base.Launch`."""
        with ExitStack() as stack:
            container = self._start(name, stack)
            try:
                mark("created")
                yield container
            finally:
                container.stop()
                mark("stopped")

    def _start(self, name: str, stack: ExitStack) -> _Container:
        bundle = self._bundle(name, stack)
        group = self.parent.child(name) if self.parent is not None else None
        if group is not None:
            stack.callback(group.remove)
        stack.callback(self._delete, name)
        console, console_in = os.pipe()
        stack.callback(os.close, console)
        os.set_blocking(console, False)
        pid_file = self.pid_files / name
        stack.callback(pid_file.unlink, missing_ok=True)
        log = bundle / "stderr"
        try:
            with log.open("wb") as stderr:
                monitor = subprocess.Popen(
                    self.command("run", "--bundle", os.fspath(bundle), "--pid-file", os.fspath(pid_file), name),
                    stdin=subprocess.DEVNULL,
                    stdout=console_in,
                    stderr=stderr,
                )
            with _killed_unless_created(monitor), self.waiting:
                pid = _await_pid(self.watch, monitor, pid_file, log)
                pidfd = _open_process(pid)
        finally:
            os.close(console_in)
        if pidfd is not None:
            stack.callback(os.close, pidfd)
        return _Container(name=name, console=console, group=group, monitor=monitor, pid=pid, pidfd=pidfd, log=log)

    def _bundle(self, name: str, stack: ExitStack) -> Path:
        """Make the OCI bundle: configuration, and an overlay with a writable layer on the subject's tmpfs."""
        bundle, layer = self.scratch.directory / name, self.scratch.directory / "layers" / name
        rootfs, upper, work = bundle / "rootfs", layer / "u", layer / "w"
        try:
            for directory in (bundle, rootfs, layer, upper, work):
                directory.mkdir()
            stack.callback(shutil.rmtree, layer)
            stack.callback(shutil.rmtree, bundle)
            data = overlay_options(self.rootfs, os.fspath(upper), os.fspath(work))
            syscalls.mount(leftovers.mine(), os.fspath(rootfs), "overlay", 0, data)
            stack.callback(syscalls.umount2, os.fspath(rootfs), 0)
            (bundle / "config.json").write_text(self.template.replace(_NAME, name))
        except OSError as error:
            raise RunnerError(f"cannot make the bundle of {name}", str(error), _need_root()) from error
        return bundle

    def command(self, *words: str) -> list[str]:
        return [self.binary, "--root", os.fspath(self.state), *words]

    def _delete(self, name: str) -> None:
        if (self.state / name).exists():
            done = subprocess.run(self.command("delete", "--force", name), capture_output=True, text=True, check=False)
            if done.returncode:
                raise RunnerError(
                    " ".join(self.command("delete", "--force", name)), done.stderr.strip(), "run it by hand"
                )


@contextmanager
def _killed_unless_created(monitor: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        monitor.kill()
        monitor.wait()
        raise


def _await_pid(watch: int, monitor: subprocess.Popen[bytes], file: Path, log: Path) -> int:
    """The container's first process, from *file* as soon as it is complete; raises if *monitor* ends before."""
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    pidfd = os.pidfd_open(monitor.pid)
    poll.register(pidfd, select.POLLIN)
    try:
        while True:
            ready = poll.poll(_START_MS)
            # crun writes the file in place, runc renames it into place: complete after either event, not before.
            with suppress(FileNotFoundError, ValueError):
                if watch in dict(ready):
                    os.read(watch, 4096)
                return int(file.read_text())
            if not ready or pidfd in dict(ready):
                break
    finally:
        os.close(pidfd)
    command = _command(monitor)
    if ready:
        monitor.wait()
        raise RunnerError(f"no container from {command}", _explain(monitor, log), _fix(_explain(monitor, log)))
    raise RunnerError(f"no container from {command}", f"no pid-file within {_START_MS // 1000} s", "")


def _open_process(pid: int) -> int | None:
    """A pidfd, or None if the container has ended by now: what it wrote is on its console, as of any other."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _parent(pid: int) -> int:
    """The parent of process *pid*; 0 if there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _fix(said: str) -> str:
    """What to do about an error text that is known."""
    if "hybrid mode not supported" in said:
        return hybrid_fix(cgroups.layout())
    return _need_root()


def _need_root() -> str:
    return "" if os.geteuid() == 0 else "run as root: sudo tare ..."


def hybrid_fix(layout: cgroups.Layout) -> str:
    """Commands that bind to v1 what crun 1.8 will not see in v2 beside v1: every controller that v2 still holds."""
    if layout.v2 is None or not layout.v1:
        return ""
    above = Path(next(iter(layout.v1.values()))).parent
    controllers = Path(layout.v2, "cgroup.controllers").read_text().split()
    return " && ".join(
        f"mkdir -p {above}/{name} && mount -t cgroup -o {name} none {above}/{name}" for name in controllers
    )


class Oci:
    """One OCI runtime program as a :class:`runners.base.Runner`."""

    KIND: Kind = "container"
    OPTIONS: ClassVar[dict[str, Option]] = {"binary": Option("the program, if it is not the one on PATH", file=True)}

    def __init__(self, name: str, *, typical_s: float, ours: str = "") -> None:
        """*ours* is a program that is installed with this package, so beside its Python."""
        self.name = name
        self.TYPICAL_S = typical_s
        self._ours = ours

    def _binary(self, options: Options) -> str:
        asked = str(options.get("binary", self._ours or self.name))
        path = os.environ.get("PATH", os.defpath)
        if self._ours:
            path = os.pathsep.join((os.fspath(Path(sys.executable).parent), path))
        found = shutil.which(asked, path=path)
        if found is None:
            fix = "install this project again: pip install -e ." if self._ours else f"install {self.name}"
            raise RunnerError(f"cannot use {asked}", f"{asked} is no executable file on PATH", fix)
        return found

    def probe(self, options: Options, cache: Path) -> Support:
        """See :meth:`runners.base.Runner.probe`: runs one container."""
        no_cgroups = cgroups.usable()
        version = ""
        try:
            binary = self._binary(options)
            version = _version(binary)
            said = self._trial(options, cache, usable=not no_cgroups)
        except RunnerError as error:
            return Support(ok=False, version=version, why=error.why or error.what, fix=error.fix)
        except OSError as error:
            return Support(ok=False, why=f"a trial container did not start: {error}", fix=_need_root())
        if said is not None:
            return Support(ok=False, version=version, why=f"a trial container did not start: {said}", fix=_fix(said))
        return Support(
            ok=True,
            version=version,
            walls=WALLS,
            unlimited=_LIMITED if no_cgroups else (),
            facts={"binary": binary, "cgroups": no_cgroups or cgroups.mode()},
        )

    def _trial(self, options: Options, cache: Path, *, usable: bool) -> str | None:
        """Run one container; None when it came up, else what was said."""
        group = f"{PREFIX}probe-{self.name}-{os.getpid()}"
        with trial.directory(os.fspath(payload.binary(cache)), payload.PATH) as place, ExitStack() as stack:
            if usable:
                stack.callback(cgroups.at(group).remove)
            spec = Spec(
                argv=(payload.PATH, *payload.arguments()), rootfs=Path(place, "rootfs"), memory_bytes=1 << 26, cpus=1
            )
            directory = Path(place, "scratch")
            directory.mkdir()
            scratch = Scratch(directory=directory, cache=cache, cgroup=group if usable else None, prefix=group)
            prepared = stack.enter_context(self.prepare(spec, options, scratch))
            instance = stack.enter_context(prepared.launch("trial", lambda _: None))
            return None if trial.await_word(instance.console, b"tare ready") else instance.explain()

    @contextmanager
    def prepare(self, spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
        """See :meth:`runners.base.Runner.prepare`: the configuration, and a tmpfs for the writable layers."""
        config = default_config(
            argv=spec.argv,
            env=spec.env,
            rootfs="rootfs",
            cgroup=None if scratch.cgroup is None else f"{scratch.cgroup}/{_NAME}",
            memory_bytes=spec.memory_bytes,
            cpus=spec.cpus,
            count_swap=cgroups.counts_swap(),
        )
        parent = None
        if scratch.cgroup is not None:
            parent = cgroups.at(scratch.cgroup)
            parent.create()
        binary = self._binary(options)
        layers, pid_files = scratch.directory / "layers", scratch.directory / "pids"
        with ExitStack() as stack:
            pid_files.mkdir()
            stack.callback(pid_files.rmdir)
            watch = syscalls.inotify(os.fspath(pid_files), syscalls.IN_CLOSE_WRITE | syscalls.IN_MOVED_TO)
            stack.callback(os.close, watch)
            launcher = _Launcher(
                binary=binary,
                scratch=scratch,
                template=json.dumps(config, indent=2),
                rootfs=os.fspath(spec.rootfs.resolve()),
                parent=parent,
                pid_files=pid_files,
                watch=watch,
                waiting=threading.Lock(),
            )
            layers.mkdir()
            stack.callback(layers.rmdir)
            try:
                syscalls.mount(leftovers.mine(), os.fspath(layers), "tmpfs", 0, "mode=700")
            except OSError as error:
                raise RunnerError("cannot mount a tmpfs for the writable layers", str(error), _need_root()) from error
            stack.callback(syscalls.umount2, os.fspath(layers), 0)
            stack.callback(shutil.rmtree, launcher.state, ignore_errors=True)
            bundle = scratch.directory / "NAME"
            argv = launcher.command("run", "--bundle", f"{bundle}", "--pid-file", f"{pid_files}/NAME", "NAME")
            yield Prepared(
                launch=launcher, manifest={"config.json": launcher.template, "argv.txt": " ".join(argv) + "\n"}
            )

    def sweep(self) -> Sequence[str]:
        """See :meth:`runners.base.Runner.sweep`: monitors whose tare is gone, with their containers, and mounts."""
        try:
            return leftovers.remove()
        except OSError as error:
            raise RunnerError("cannot remove leftovers", str(error), _need_root()) from error


def _version(binary: str) -> str:
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=_VERSION_S)
    except (subprocess.SubprocessError, OSError) as error:
        raise RunnerError(f"{binary} --version failed", str(error), "install it again") from error
    return done.stdout.partition("\n")[0].strip()


TARE = Oci("container-cold", typical_s=0.1, ours="tare-oci")
CRUN = Oci("crun", typical_s=0.05)
RUNC = Oci("runc", typical_s=0.1)
