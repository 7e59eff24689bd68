"""containerd by its own client: ``ctr run`` in the foreground, which asks the daemon for each step.

    ctr --address SOCKET run --rm --pid-file FILE IMAGE NAME PROGRAM

A daemon is started for the subject, with a directory of its own, and is stopped after it: a containerd that runs here
belongs to docker or to a kubelet, whose containers are not ours to look after. It is in ``daemon_pids``. The image is
imported and unpacked before any clock. ``created`` is stamped when the client has written the pid-file: the runtime has
made the container, and its program is not started yet. ``ctr`` cannot limit the number of tasks: that limit is set on
the cgroup around the container.

The runtime's share of a start (:mod:`.common.runtime_share`) is the time in which processes of the OCI runtime
were alive that the container's shim had started.

A stop is SIGKILL to the first process; the client then deletes task, container and snapshot, and ends.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tare.runners.base import Image, Layers, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.container.cgroup import cgroups
from tare.runners.container.config.defaults import PIDS_LIMIT
from tare.runners.engines.common import attached, engine_place, private_daemon
from tare.runners.image import shapes, sources
from tare.runners.launch import frame, monitored, oci_runtime, told_files

LAYERS: Layers = ("container",)
TYPICAL_S = 0.6
OPTIONS: Mapping[str, Option] = {
    "runtime": Option("the OCI runtime, a path or a name on PATH; default: runc"),
}

WALLS = (*frame.NAMESPACES, "private root (overlay)", *frame.PRIVILEGES, "masked /proc and /sys", frame.DEVICE_RULES)
_NAME = "containerd"
_INSTALL = "apt-get install containerd"
_ASK_S = 60.0
_LOAD_S = 600.0
#: What a start does not need, and what would look for other file systems.
_CONFIG = """version = 2
root = "{disk}/root"
state = "{run}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
]
[grpc]
  address = "{run}/s"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starter:
    """Starts instances; *options* are those of ``ctr run`` that all of them have."""

    client: tuple[str, ...]
    daemon: private_daemon.Daemon
    told: told_files.ToldFiles
    parent: cgroups.Cgroup | None
    options: tuple[str, ...]
    image: str
    argv: tuple[str, ...]

    def words(self, name: str) -> tuple[str, ...]:
        """The whole command line of one start."""
        own = "" if self.parent is None else f"/{self.parent.child(name).relative}/{name}"
        return (
            *(*self.client, "run", "--rm", "--pid-file", os.fspath(self.told.path(name)), "--cgroup", own),
            *(*self.options, self.image, name, *self.argv),
        )

    def start(self, name: str, stack: ExitStack) -> attached.Attached:
        """See :data:`runners.launch.frame.Start`."""
        self.daemon.check()
        group = self._group(name, stack)
        stack.callback(self.told.path(name).unlink, missing_ok=True)
        with ExitStack() as theirs:
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            # It ends when the container exists: ctr forgets to tell the end of a standard input that ends before.
            stdin, stdin_in = os.pipe()
            theirs.callback(os.close, stdin)
            theirs.callback(os.close, stdin_in)
            with monitored.started(self.words(name), console=console_in, stdin=stdin) as client:
                try:
                    pid = int(self.told.await_text(name, client, console, fix))
                except RunnerError:
                    self._remove(name)
                    raise
        first = monitored.open_process(pid)
        if first is not None:
            stack.callback(os.close, first)
        instance = attached.Attached(
            name=name,
            console=console,
            client=client,
            find=lambda: pid,
            watch=monitored.parent_of,
            kill=partial(self._kill, first),
            enter=(*self.client, "tasks", "exec", "--exec-id", f"{name}-more", name),
            group=group,
        )
        stack.callback(self._remove_left, instance)
        return instance

    def _group(self, name: str, stack: ExitStack) -> cgroups.Cgroup | None:
        """A cgroup for the container's own, with the limit that ``ctr`` has no option for."""
        if self.parent is None:
            return None
        group = self.parent.child(name)
        stack.callback(group.remove)
        try:
            group.create()
            group.limit(pids=PIDS_LIMIT)
        except OSError as error:
            why = f"{error.filename}: {error.strerror}"
            raise RunnerError(f"cannot make the cgroup {group.relative}", why, "see `tare doctor`") from error
        return group

    def _kill(self, first: int | None) -> None:
        self.daemon.check()
        if first is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(first, signal.SIGKILL)

    def _remove_left(self, instance: attached.Attached) -> None:
        """Where containerd did not end by itself: what its client would have removed."""
        if instance.lingered or (instance.client.returncode or 0) < 0:
            self._remove(instance.name)

    def _remove(self, name: str) -> None:
        for words in (("task", "kill", "--signal", "KILL", name), ("task", "rm", "--force", name),
                      ("container", "rm", name), ("snapshot", "rm", name)):  # fmt: skip
            with suppress(RunnerError):
                monitored.ask(*self.client, *words, limit_s=_ASK_S)


def fix(said: str) -> str:
    """What to do about an error text that is known."""
    known = {
        "flag provided but not defined": "install containerd 1.6 or newer",
        "no space left on device": f"make room in {engine_place.base()}, or set TMPDIR to another directory",
        '"runc": executable file not found': "apt-get install runc",
    }
    return next((advice for text, advice in known.items() if text in said), oci_runtime.fix(said))


def probe(options: Options, cache: Path) -> Support:
    """See :meth:`runners.base.Runner.probe`: runs one container, with a daemon of its own."""
    no_cgroups = cgroups.usable()
    version = ""
    try:
        client = frame.program("ctr", _INSTALL)
        version = monitored.ask(client, "--version", limit_s=_ASK_S, fix="install containerd again").strip()
        image = sources.find(sources.PAYLOAD, cache)
        frame.prove(prepare, options, cache, label=_NAME, grouped=not no_cgroups, fix=fix, image=image)
    except RunnerError as error:
        return Support(ok=False, version=version, why=str(error), fix=error.fix)
    return Support(
        ok=True,
        version=version,
        walls=WALLS,
        unlimited=frame.LIMITS if no_cgroups else (),
        reclaims="" if no_cgroups else cgroups.reclaimer(),
        reached=frame.LOOPBACK,
        enters="ctr task exec",
        images=(sources.HOST,),
        facts={
            "client": client,
            "runtime": str(options.get("runtime", "runc")),
            "cgroups": no_cgroups or cgroups.mode(),
        },
    )


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """See :meth:`runners.base.Runner.prepare`: starts the daemon, and imports the image."""
    client = frame.program("ctr", _INSTALL)
    program = frame.program(_NAME, _INSTALL)
    if os.geteuid() != 0:
        raise RunnerError("containerd cannot be used", "only root may start its daemon", frame.need_root())
    runtime = frame.program(str(options["runtime"]), "give its path") if "runtime" in options else ""
    with ExitStack() as stack:
        place = stack.enter_context(engine_place.made(scratch, _NAME))
        config = place.run / "config.toml"
        config.write_text(_CONFIG.format(disk=place.disk, run=place.run))
        words = (program, "--config", os.fspath(config))
        daemon = stack.enter_context(private_daemon.running(words, place.run, fix="see `tare doctor`"))
        command = (client, "--address", f"{place.run}/s", "--namespace", "tare")
        archive = spec.image.shape("oci-archive")
        try:
            monitored.ask(*command, "images", "import", os.fspath(archive), limit_s=_LOAD_S)
        except RunnerError as error:
            raise RunnerError("ctr images import failed", error.why, fix(error.why)) from error
        starter = _Starter(
            client=command,
            daemon=daemon,
            told=stack.enter_context(told_files.opened(scratch.directory / "pids")),
            parent=frame.parent(scratch),
            options=("--runc-root", f"{place.run}/runtime", *_options(spec, runtime, client)),
            image=shapes.reference(archive),
            argv=spec.argv,
        )
        yield Prepared(
            launch=frame.launcher(starter.start),
            manifest={"argv.txt": shlex.join(starter.words("NAME")) + "\n", "config.toml": config.read_text()},
            daemon_pids=daemon.pids(),
            share=attached.share,
        )


def _options(spec: Spec, runtime: str, client: str) -> tuple[str, ...]:
    """The options of ``ctr run`` that *spec* asks for, without a user's further groups. Raises RunnerError."""
    if "--user" in monitored.ask(client, "run", "--help", limit_s=_ASK_S):
        user: tuple[str, ...] = ("--user", f"{spec.user.uid}:{spec.user.gid}")
    elif spec.user.uid == _user_of(spec.image):
        user = ()
    else:
        why = f"this ctr has no option --user, and the workload is to run as user {spec.user.uid}"
        raise RunnerError("ctr cannot run this workload", why, "install containerd 1.7 or newer")
    return (
        *(("--runc-binary", runtime) if runtime else ()),
        *("--seccomp", "--cwd", spec.cwd, *user),
        *(word for name, value in spec.env for word in ("--env", f"{name}={value}")),
        *("--memory-limit", str(spec.memory_bytes), "--cpus", str(spec.cpus)),
    )


def _user_of(image: Image) -> int | None:
    """As whom a container of *image* runs if nobody says otherwise; None if its passwd(5) does not know the name."""
    name = image.config.user.partition(":")[0]
    if name.isdigit() or not name:
        return int(name or 0)
    with suppress(OSError):
        for line in (image.directory / "etc/passwd").read_text("utf-8", "replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split(":")[2])
    return None


def sweep() -> Sequence[str]:
    """See :meth:`runners.base.Runner.sweep`: daemons of runs that have ended, with their directories."""
    return engine_place.sweep(_NAME)
