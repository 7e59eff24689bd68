"""Podman, which has no daemon: ``podman run`` in the foreground, of root or of an ordinary user.

    podman --root PLACE/root ... run --rm --name NAME --network none --pidfile FILE IMAGE PROGRAM

Everything that podman keeps is in a directory of the subject's own, so that the user's images and containers are
neither seen nor touched. The image is loaded once, before any clock; the host's own files are taken as they lie there
(``--rootfs /:O``, an overlay). podman starts conmon, which starts the OCI runtime and stays as the container's monitor.
``created`` is stamped when the runtime has written its pid-file. The client stays attached, as a user's does.

The runtime's share of a start (:mod:`.common.runtime_share`) is the time in which the runtime's own processes
were alive, ``create`` under conmon and ``start`` under podman.

A stop is SIGKILL to the first process. conmon tells podman, which removes the container (``--rm``), and starts
``podman container cleanup``, which has to end, too.
"""

from __future__ import annotations

import os
import pwd
import resource
import shlex
import shutil
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import Layers, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.container.cgroup import cgroups
from tare.runners.container.config.defaults import PIDS_LIMIT
from tare.runners.engines.common import attached, engine_place
from tare.runners.image import shapes, sources
from tare.runners.launch import frame, monitored, oci_runtime, told_files

LAYERS: Layers = ("container",)
TYPICAL_S = 0.8
OPTIONS: Mapping[str, Option] = {
    "runtime": Option("the OCI runtime, a name that podman knows or a path; default: podman's own choice"),
    "user": Option("the name of an ordinary user as whom podman runs (rootless); default: the user who runs tare"),
}

#: podman's own defaults (containers-common): three fewer than docker's.
WALLS = (*frame.NAMESPACES, "private root (overlay)", "11 capabilities", "no new privileges", "system call filter",
         "masked /proc and /sys", frame.DEVICE_RULES)  # fmt: skip
_NAME = "podman"
_INSTALL = "apt-get install podman"
_ASK_S = 60.0
_LOAD_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Podman:
    """Podman's command line up to its verb; *prefix* makes it run as *user*, where that is another one."""

    program: str
    disk: Path
    run: Path
    driver: str
    runtime: str
    user: pwd.struct_passwd | None

    @property
    def rootless(self) -> bool:
        return self.user is not None or os.geteuid() != 0

    @property
    def prefix(self) -> tuple[str, ...]:
        if self.user is None:
            return ("env", f"TMPDIR={self.disk}")
        return (
            *("setpriv", "--reuid", str(self.user.pw_uid), "--regid", str(self.user.pw_gid), "--init-groups"),
            *("env", "-C", "/", f"HOME={self.user.pw_dir}", f"USER={self.user.pw_name}"),
            *(f"TMPDIR={self.disk}", f"XDG_RUNTIME_DIR={self.run}/xdg"),
        )

    def command(self, *words: str) -> tuple[str, ...]:
        """The command line that ends with *words*."""
        return (
            *(*self.prefix, self.program),
            *("--root", f"{self.disk}/root", "--runroot", f"{self.run}/r", "--tmpdir", f"{self.run}/t"),
            *("--storage-driver", self.driver, "--events-backend", "file", "--cgroup-manager", "cgroupfs"),
            *(("--runtime", self.runtime) if self.runtime else ()),
            *words,
        )

    def ask(self, *words: str, limit_s: float = _ASK_S) -> str:
        """What podman says. Raises RunnerError."""
        try:
            return monitored.ask(*self.command(*words), limit_s=limit_s)
        except RunnerError as error:
            raise RunnerError(f"podman {words[0]} failed", error.why, fix(error.why)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starter:
    """Starts instances; *options* are those of ``podman run`` that all of them have, *rest* is image and program."""

    podman: _Podman
    told: told_files.ToldFiles
    parent: cgroups.Cgroup | None
    options: tuple[str, ...]
    rest: tuple[str, ...]

    def words(self, name: str) -> tuple[str, ...]:
        """The whole command line of one start."""
        return self.podman.command(
            *("run", "--rm", "--name", name, "--pidfile", os.fspath(self.told.path(name))),
            *("--conmon-pidfile", os.fspath(self._monitor_file(name))),
            *(() if self.parent is None else ("--cgroup-parent", f"/{self.parent.child(name).relative}")),
            *(*self.options, *self.rest),
        )

    def start(self, name: str, stack: ExitStack) -> attached.Attached:
        """See :data:`runners.launch.frame.Start`."""
        group = self.parent.child(name) if self.parent is not None else None
        if group is not None:
            stack.callback(group.remove)
        for file in (self._monitor_file(name), self.told.path(name)):
            stack.callback(file.unlink, missing_ok=True)
        with ExitStack() as theirs:
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            with monitored.started(self.words(name), console=console_in) as client:
                try:
                    pid = int(self.told.await_text(name, client, console, fix))
                except RunnerError:
                    self._remove(name)
                    raise
        conmon = self._monitor(name)
        first = monitored.open_process(pid) if monitored.descends(pid, conmon) else None
        if first is not None:
            stack.callback(os.close, first)
        instance = attached.Attached(
            name=name,
            console=console,
            client=client,
            find=lambda: pid,
            watch=lambda _: conmon,
            kill=lambda: self._kill(name, first),
            enter=self.podman.command("exec", name),
            group=group,
            client_starts=True,
        )
        stack.callback(self._remove_left, instance)
        return instance

    def _monitor_file(self, name: str) -> Path:
        return self.podman.run / "conmon" / name

    def _monitor(self, name: str) -> int:
        """conmon's process: its number is written before it starts the runtime."""
        try:
            return int(self._monitor_file(name).read_text())
        except (OSError, ValueError) as error:
            raise RunnerError(f"podman does not tell the monitor of {name}", str(error), _INSTALL) from error

    def _kill(self, name: str, first: int | None) -> None:
        if first is None:  # it has ended
            return
        try:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(first, signal.SIGKILL)
        except PermissionError:  # an ordinary user's container, of which the first process is another user's
            self.podman.ask("kill", "--signal", "KILL", name)

    def _remove_left(self, instance: attached.Attached) -> None:
        """Where podman did not end by itself: what it would have removed."""
        if instance.lingered or (instance.client.returncode or 0) < 0:
            self._remove(instance.name)

    def _remove(self, name: str) -> None:
        with suppress(RunnerError):
            self.podman.ask("rm", "--force", "--time", "0", "--ignore", name)


def fix(said: str) -> str:
    """What to do about an error text that is known."""
    known = {
        "unknown flag": "install podman 4.1 or newer",
        "newuidmap": "apt-get install uidmap",
        "subuid": "usermod --add-subuids 200000-265535 --add-subgids 200000-265535 USER",
        "insufficient UIDs or GIDs": "usermod --add-subuids 200000-265535 --add-subgids 200000-265535 USER",
        "could not find a working conmon": "apt-get install conmon",
        "no space left on device": f"make room in {engine_place.base()}, or set TMPDIR to another directory",
    }
    return next((advice for text, advice in known.items() if text in said), oci_runtime.fix(said))


def probe(options: Options, cache: Path) -> Support:
    """See :meth:`runners.base.Runner.probe`: runs one container."""
    version = ""
    rootless = "user" in options or os.geteuid() != 0
    no_cgroups = "an ordinary user" if rootless else cgroups.usable()
    try:
        program = frame.program(_NAME, _INSTALL)
        version = monitored.ask(program, "--version", limit_s=_ASK_S, fix="install podman again").strip()
        image = sources.find(sources.PAYLOAD, cache)
        frame.prove(prepare, options, cache, label=_NAME, grouped=not no_cgroups, fix=fix, image=image)
    except RunnerError as error:
        return Support(ok=False, version=version, why=str(error), fix=error.fix)
    return Support(
        ok=True,
        version=version,
        walls=(*WALLS[:-1], "user namespace") if rootless else WALLS,
        unlimited=frame.LIMITS if no_cgroups else (),
        reclaims="" if no_cgroups else cgroups.reclaimer(),
        reached=frame.LOOPBACK,
        enters="podman exec",
        facts={
            "program": program, "runtime": str(options.get("runtime", "podman's own choice")),
            "cgroups": no_cgroups or cgroups.mode(), "storage": os.fspath(engine_place.base()),
        },
    )  # fmt: skip


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """See :meth:`runners.base.Runner.prepare`: loads the image."""
    user = _user(options)
    with ExitStack() as stack:
        place = stack.enter_context(engine_place.made(scratch, _NAME))
        disk, run = place.disk / "own", place.run / "own"
        for directory in (disk, run, run / "xdg", run / "conmon"):
            directory.mkdir(mode=0o700)
        podman = _Podman(
            program=frame.program(_NAME, _INSTALL),
            disk=disk,
            run=run,
            driver="overlay",
            runtime=str(options.get("runtime", "")),
            user=user,
        )
        told = stack.enter_context(told_files.opened(run / "told"))
        if user is not None:
            for directory in (disk, run, *run.iterdir()):
                os.chown(directory, user.pw_uid, user.pw_gid)
        if podman.rootless:
            stack.callback(_migrate, podman)
        stack.callback(_emptied, podman)
        image = _image(podman, spec)
        parent = None if podman.rootless else frame.parent(scratch)
        starter = _Starter(
            podman=podman, told=told, parent=parent, options=_options(spec, limited=parent is not None),
            rest=(*image, *spec.argv),
        )  # fmt: skip
        yield Prepared(
            launch=frame.launcher(starter.start),
            manifest={"argv.txt": shlex.join(starter.words("NAME")) + "\n"},
            share=attached.share,
        )


def _user(options: Options) -> pwd.struct_passwd | None:
    """The user who is named, where that is another than the one who runs tare. Raises RunnerError."""
    if "user" not in options:
        return None
    name = str(options["user"])
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise RunnerError(f"there is no user {name}", "it is not in passwd(5)", "correct the option user") from None
    if found.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise RunnerError(f"podman cannot run as {name}", "only root may become another user", frame.need_root())
    return found


def _image(podman: _Podman, spec: Spec) -> tuple[str, ...]:
    """The words that name what is below the container's root; loads it if need be. Raises RunnerError."""
    if not spec.image.digest:
        return ("--rootfs", f"{spec.image.directory}:O")
    archive = spec.image.shape("oci-archive")
    if podman.user is not None:  # whoever made the archive has it where the user may not look
        copy = podman.disk / "image.tar"
        shutil.copyfile(archive, copy)
        copy.chmod(0o644)
        podman.ask("load", "--quiet", "--input", os.fspath(copy), limit_s=_LOAD_S)
        copy.unlink()
    else:
        podman.ask("load", "--quiet", "--input", os.fspath(archive), limit_s=_LOAD_S)
    return (shapes.reference(archive),)


def _options(spec: Spec, *, limited: bool) -> tuple[str, ...]:
    """The options of ``podman run`` that *spec* asks for."""
    most = [f"{name}={_most(number, default)}" for name, number, default in _LIMITS]
    return (
        *("--pull", "never", "--network", "none", "--log-driver", "none", "--hostname", "tare", "--http-proxy=false"),
        *("--cgroupns", "private", "--security-opt", "no-new-privileges", "--workdir", spec.cwd, "--unsetenv-all"),
        *("--user", f"{spec.user.uid}:{spec.user.gid}"),
        *(word for group in spec.user.groups for word in ("--group-add", str(group))),
        *(word for name, value in spec.env for word in ("--env", f"{name}={value}")),
        *(word for limit in most for word in ("--ulimit", limit)),
        *(_grant(spec) if limited else ()),
    )


#: podman's own defaults (containers.conf(5), default_ulimits). It sets them for itself, too: more cannot be asked for.
_LIMITS = (("nofile", resource.RLIMIT_NOFILE, 1 << 20), ("nproc", resource.RLIMIT_NPROC, 1 << 15))


def _most(number: int, default: int) -> str:
    """podman's own default of a limit, or less where this host lets nobody have so much: podman does not look."""
    hard = resource.getrlimit(number)[1]
    most = default if hard == resource.RLIM_INFINITY else min(hard, default)
    return f"{most}:{most}"


def _grant(spec: Spec) -> tuple[str, ...]:
    swap = ("--memory-swap", str(spec.memory_bytes)) if cgroups.counts_swap() else ()
    return ("--memory", str(spec.memory_bytes), *swap, "--cpus", str(spec.cpus), "--pids-limit", str(PIDS_LIMIT))


def _emptied(podman: _Podman) -> None:
    """Remove containers and images: what an ordinary user's podman has unpacked belongs to ids that are not his."""
    with suppress(RunnerError):
        podman.ask("rm", "--all", "--force", "--time", "0")
    if podman.rootless:
        with suppress(RunnerError):
            podman.ask("unshare", "rm", "-rf", f"{podman.disk}/root", f"{podman.run}/r")


def _migrate(podman: _Podman) -> None:
    """End the process that keeps an ordinary user's namespaces for the next call."""
    with suppress(RunnerError):
        podman.ask("system", "migrate")


def sweep() -> Sequence[str]:
    """See :meth:`runners.base.Runner.sweep`: the directories of runs that have ended, and what runs in them."""
    return engine_place.sweep(_NAME)
