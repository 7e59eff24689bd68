"""Docker: ``docker run`` in the foreground, which asks a daemon, which asks containerd, which starts a shim for each.

    docker --host SOCKET run --rm --name NAME --network none --cidfile FILE IMAGE PROGRAM

The daemon is the one that ``docker`` talks to here, if it answers: the image is loaded there before any clock, and
removed afterwards. Else a daemon is started for the subject, with a directory of its own and neither a bridge nor
firewall rules, and is stopped after it. It is in ``daemon_pids``: what it and its containerd hold and use is told
apart.
``created`` is stamped when the client has written the container's id to a file: the daemon knows it, nothing runs yet.

The runtime's share of a start (:mod:`.common.runtime_share`) is the time in which processes of the OCI runtime
were alive that the container's shim had started.

A stop asks the daemon for SIGKILL, by its socket. The client ends when the daemon has removed the container.
"""

from __future__ import annotations

import os
import resource
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tare.runners.base import Layers, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.container.cgroup import cgroups
from tare.runners.container.config.defaults import PIDS_LIMIT
from tare.runners.engines import docker_api
from tare.runners.engines.common import attached, engine_place, private_daemon
from tare.runners.image import shapes, sources
from tare.runners.launch import frame, monitored, oci_runtime, told_files

LAYERS: Layers = ("container",)
TYPICAL_S = 1.0
OPTIONS: Mapping[str, Option] = {
    "runtime": Option("the OCI runtime: a path, or a name that the daemon knows; default: the daemon's own choice"),
}

WALLS = (*frame.WALLS[:-1], frame.DEVICE_RULES)  # no session keyring is promised
_NAME = "docker"
_INSTALL = "apt-get install docker.io"
_ASK_S = 60.0
_LOAD_S = 600.0
#: A daemon that is being killed answers no more, some time before it has ended.
_DEATH_S = 5.0
#: How the private daemon knows a runtime that is given by its path.
_RUNTIME = "tare"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Engine:
    """A daemon and who asks it. ``runtime`` is a name that it knows, or empty."""

    client: str
    daemon: docker_api.Daemon
    runtime: str
    #: The daemon that was started for the subject, if one was.
    private: private_daemon.Daemon | None

    def command(self, *words: str) -> tuple[str, ...]:
        """The command line that ends with *words*."""
        return (self.client, "--host", self.daemon.host, *words)

    def check(self, limit_s: float = 0.0) -> None:
        """Raise RunnerError if the subject's own daemon has ended, or ends within *limit_s*."""
        if self.private is not None:
            self.private.check(limit_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starter:
    """Starts instances; *options* are those of ``docker run`` that all of them have, *rest* is image and program."""

    engine: _Engine
    told: told_files.ToldFiles
    parent: cgroups.Cgroup | None
    options: tuple[str, ...]
    rest: tuple[str, ...]

    def words(self, name: str) -> tuple[str, ...]:
        """The whole command line of one start."""
        return self.engine.command(
            *("run", "--rm", "--name", name, "--cidfile", os.fspath(self.told.path(name))),
            *(() if self.parent is None else ("--cgroup-parent", f"/{self.parent.child(name).relative}")),
            *(*self.options, *self.rest),
        )

    def start(self, name: str, stack: ExitStack) -> attached.Attached:
        """See :data:`runners.launch.frame.Start`."""
        self.engine.check()
        group = self.parent.child(name) if self.parent is not None else None
        if group is not None:
            stack.callback(group.remove)
        stack.callback(self.told.path(name).unlink, missing_ok=True)
        daemon = self.engine.daemon
        with ExitStack() as theirs:
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            with monitored.started(self.words(name), console=console_in) as client:
                try:
                    self.told.await_text(name, client, console, fix)
                except RunnerError:
                    with suppress(RunnerError):
                        daemon.remove(name)
                    raise
        return attached.Attached(
            name=name,
            console=console,
            client=client,
            find=partial(daemon.first, name),
            watch=monitored.parent_of,
            kill=partial(self._kill, name),
            enter=self.engine.command("exec", name),
            group=group,
        )

    def _kill(self, name: str) -> None:
        try:
            self.engine.daemon.kill(name)
            # One whose start goes on is killed before it has a process, which is no error, and runs on.
            self.engine.daemon.remove(name)
        except RunnerError:
            self.engine.check(_DEATH_S)
            raise


def fix(said: str) -> str:
    """What to do about an error text that is known."""
    known = {
        "unknown flag": "install docker 20.10 or newer",
        "no space left on device": f"make room in {engine_place.base()}, or set TMPDIR to another directory",
        "permission denied while trying to connect": "run as root: sudo tare ..., or join the group docker",
        "unknown or invalid runtime name": "give its path, or add it to the daemon's configuration",
    }
    return next((advice for text, advice in known.items() if text in said), oci_runtime.fix(said))


def probe(options: Options, cache: Path) -> Support:
    """See :meth:`runners.base.Runner.probe`: runs one container, with a daemon of its own where there is none."""
    no_cgroups = cgroups.usable()
    version, facts = "", {"daemon": "its own" if docker_api.usual() is None else "the host's"}
    try:
        client = frame.program(_NAME, _INSTALL)
        version = monitored.ask(client, "--version", limit_s=_ASK_S, fix="install docker again").strip()
        image = sources.find(sources.PAYLOAD, cache)
        frame.prove(prepare, options, cache, label=_NAME, grouped=not no_cgroups, fix=fix, image=image)
    except RunnerError as error:
        return Support(ok=False, version=version, why=str(error), fix=error.fix, facts=facts)
    return Support(
        ok=True,
        version=version,
        walls=WALLS,
        reclaims="" if no_cgroups else cgroups.reclaimer(),
        reached=frame.LOOPBACK,
        enters="docker exec",
        images=(sources.HOST,),
        facts={**facts, "client": client, "runtime": str(options.get("runtime", "the daemon's own choice"))},
    )


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """See :meth:`runners.base.Runner.prepare`: finds or starts the daemon, and loads the image."""
    with ExitStack() as stack:
        engine = stack.enter_context(_engine(options, scratch))
        archive = spec.image.shape("oci-archive")
        image = shapes.reference(archive)
        _ask(engine, "load", "--quiet", "--input", os.fspath(archive), limit_s=_LOAD_S)
        if engine.private is None:
            stack.callback(_forget, engine, image)
        # A daemon that uses systemd's cgroups takes no parent but a slice: its containers are then where it puts them.
        info = engine.daemon.info()
        parent = frame.parent(scratch) if info.get("CgroupDriver") == "cgroupfs" else None
        starter = _Starter(
            engine=engine, parent=parent, options=_options(spec, engine.runtime), rest=(image, *spec.argv),
            told=stack.enter_context(told_files.opened(scratch.directory / "ids")),
        )  # fmt: skip
        yield Prepared(
            launch=frame.launcher(starter.start),
            manifest={"argv.txt": shlex.join(starter.words("NAME")) + "\n"},
            daemon_pids=_daemons() if engine.private is None else engine.private.pids(),
            share=attached.share,
        )


@contextmanager
def _engine(options: Options, scratch: Scratch) -> Iterator[_Engine]:
    """The daemon that answers here, else one of the subject's own. Raises RunnerError."""
    client = frame.program(_NAME, _INSTALL)
    runtime = str(options.get("runtime", ""))
    found = docker_api.usual()
    if found is not None:
        if "/" in runtime:
            what = f"the docker daemon at {found.host} cannot use {runtime}"
            raise RunnerError(
                what, "a daemon knows runtimes by name", "add it to the daemon's configuration, by a name"
            )
        yield _Engine(client=client, daemon=found, runtime=runtime, private=None)
        return
    if os.geteuid() != 0:
        why = "no daemon answers, and only root may start one"
        raise RunnerError("docker cannot be used", why, "systemctl start docker; and join the group docker")
    program = frame.program("dockerd", _INSTALL)
    with engine_place.made(scratch, _NAME) as place:
        socket = f"unix://{place.run}/s"
        words = [
            *(program, "--host", socket, "--data-root", f"{place.disk}/data", "--exec-root", f"{place.run}/exec"),
            *("--pidfile", f"{place.run}/pid", "--bridge=none", "--iptables=false", "--ip-forward=false"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs", "--config-file", f"{place.run}/daemon.json"),
            *(("--add-runtime", f"{_RUNTIME}={runtime}") if "/" in runtime else ()),
        ]
        (place.run / "daemon.json").write_text("{}\n")  # not the user's
        with private_daemon.running(
            words, place.run, {"TMPDIR": os.fspath(place.disk)}, "see `tare doctor`"
        ) as private:
            yield _Engine(
                client=client,
                daemon=docker_api.Daemon(socket),
                runtime=_RUNTIME if "/" in runtime else runtime,
                private=private,
            )


def _ask(engine: _Engine, *words: str, limit_s: float = _ASK_S) -> str:
    try:
        return monitored.ask(*engine.command(*words), limit_s=limit_s)
    except RunnerError as error:
        raise RunnerError(f"docker {words[0]} failed", error.why, fix(error.why)) from error


def _forget(engine: _Engine, image: str) -> None:
    with suppress(RunnerError):
        _ask(engine, "image", "rm", "--force", image)


def _daemons() -> frozenset[int]:
    """The daemons of docker that run here: they serve every container, and run on."""
    return monitored.named({"dockerd", "containerd"})


def _options(spec: Spec, runtime: str) -> tuple[str, ...]:
    """The options of ``docker run`` that *spec* asks for."""
    swap = ("--memory-swap", str(spec.memory_bytes)) if cgroups.counts_swap() else ()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return (
        *(("--runtime", runtime) if runtime else ()),
        *("--pull", "never", "--network", "none", "--log-driver", "none", "--hostname", "tare"),
        *("--cgroupns", "private", "--security-opt", "no-new-privileges", "--workdir", spec.cwd),
        *("--user", f"{spec.user.uid}:{spec.user.gid}"),
        *(word for group in spec.user.groups for word in ("--group-add", str(group))),
        *(word for name, value in spec.env for word in ("--env", f"{name}={value}")),
        *("--ulimit", f"nofile={most}:{most}"),
        *("--memory", str(spec.memory_bytes), *swap, "--cpus", str(spec.cpus), "--pids-limit", str(PIDS_LIMIT)),
    )


def sweep() -> Sequence[str]:
    """See :meth:`runners.base.Runner.sweep`: daemons of runs that have ended, with their directories.

    In the host's own daemon a killed run may have left an image, which is no more than disk, and containers, which
    the daemon removes (``--rm``) when their processes are killed with the run's cgroup.
    """
    return engine_place.sweep(_NAME)
