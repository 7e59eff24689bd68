"""An OCI runtime's own program, run as a user runs it: one class for all of them.

A launch is: a directory (the OCI bundle) with an overlay of the root filesystem mounted in it and a ``config.json``;
then

    crun --root STATE run --bundle BUNDLE --pid-file PIDS/NAME NAME

in the foreground: the program stays as the monitor of its container. ``created`` is stamped when it has written the
pid-file, which is how it tells a caller that the container exists. The configuration is the one that our own runtime
gets (:func:`runners.container.config.bundle.default_config`), so the contracts are equal.

The stop is SIGKILL to the container's first process; the monitor then sees its child's end, removes cgroup and state,
and exits: this is what it does when a container ends by itself. ``crun delete --force NAME`` follows only if state is
left after that.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import Layers, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.container.cgroup import cgroups
from tare.runners.container.warm import leftovers
from tare.runners.launch import frame, host_root, monitored, null_device, private_root, told_files

WALLS = (*frame.WALLS, frame.DEVICE_RULES)
_NAME = "@NAME@"  # a placeholder in the template of the configuration for the name of each instance
_VERSION_S = 10
_DELETE_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starter:
    """Starts instances; *template* is the configuration with :data:`_NAME` in place of the instance's name."""

    binary: str
    scratch: Scratch
    template: str
    roots: private_root.PrivateRoots
    parent: cgroups.Cgroup | None
    pid_files: told_files.ToldFiles
    flags: tuple[str, ...]
    before: Callable[[cgroups.Cgroup | None, ExitStack], Mapping[str, str]]
    start_ms: int
    kind: type[monitored.Monitored]
    #: How a further command gets the container's directory and rights: crun 1.8 takes / and root where it is not told.
    rights: tuple[str, ...]

    @property
    def state(self) -> Path:
        return self.scratch.directory / leftovers.mine()

    def start(self, name: str, stack: ExitStack) -> monitored.Monitored:
        """See :data:`runners.launch.frame.Start`."""
        group = self.parent.child(name) if self.parent is not None else None
        if group is not None:
            stack.callback(group.remove)
        bundle = self._bundle(name, {_NAME: name, **self.before(group, stack)}, stack)
        stack.callback(self._delete, name)
        pid_file = self.pid_files.path(name)
        stack.callback(pid_file.unlink, missing_ok=True)
        words = self.command("run", "--bundle", os.fspath(bundle), "--pid-file", os.fspath(pid_file), name)
        with ExitStack() as theirs:
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            with monitored.started(words, console=console_in) as monitor:
                pid = int(self.pid_files.await_text(name, monitor, console, fix, limit_ms=self.start_ms))
                pidfd = monitored.open_process(pid)
        if pidfd is not None:
            stack.callback(os.close, pidfd)
        return self.kind(
            name=name,
            console=console,
            group=group,
            monitor=monitor,
            pid=pid,
            pidfd=pidfd,
            enter=tuple(self.command("exec", *self.rights, name)),
        )

    def _bundle(self, name: str, words: Mapping[str, str], stack: ExitStack) -> Path:
        """Make the OCI bundle: configuration, with *words* in the place of its placeholders, and a private root."""
        text = self.template
        for placeholder, word in words.items():
            text = text.replace(placeholder, word)
        try:
            bundle = self.roots.make(name, stack)
            (bundle / "config.json").write_text(text)
        except OSError as error:
            raise RunnerError(f"cannot make the bundle of {name}", str(error), frame.need_root()) from error
        return bundle

    def command(self, *words: str) -> list[str]:
        return [self.binary, "--root", os.fspath(self.state), *self.flags, *words]

    def _delete(self, name: str) -> None:
        if (self.state / name).exists():
            monitored.ask(*self.command("delete", "--force", name), limit_s=_DELETE_S, fix="run it by hand")


def fix(said: str) -> str:
    """What to do about an error text that is known."""
    if "hybrid mode not supported" in said:
        return hybrid_fix(cgroups.layout())
    return frame.need_root()


def hybrid_fix(layout: cgroups.Layout) -> str:
    """Commands that bind to v1 every controller that v2 still has: crun 1.8 does not find them in v2 beside v1."""
    if layout.v2 is None or not layout.v1:
        return ""
    above = Path(next(iter(layout.v1.values()))).parent
    controllers = Path(layout.v2, "cgroup.controllers").read_text().split()
    return " && ".join(
        f"mkdir -p {above}/{name} && mount -t cgroup -o {name} none {above}/{name}" for name in controllers
    )


class Oci:
    """One OCI runtime program as a :class:`runners.base.Runner`."""

    LAYERS: Layers = ("container",)
    OPTIONS: Mapping[str, Option] = {"binary": Option("path of the program; default: the one on PATH", file=True)}
    #: What holds around a workload, and how long a start may take until there is a container.
    WALLS: tuple[str, ...] = WALLS
    START_MS = told_files.START_MS
    #: Whether the host can take memory from its cgroup that the workload has given back.
    RECLAIMS = True
    INSTANCE = monitored.Monitored
    #: The program's name where it is not the runner's.
    PROGRAM = ""

    def __init__(self, name: str, *, typical_s: float, ours: str = "", asks: bool = False) -> None:
        """*ours*: the program is installed with this package, in the same directory as its Python.

        *asks*: which program it is must be said by the option ``binary``.
        """
        self.name = name
        self.TYPICAL_S = typical_s
        self._ours = ours
        self._asks = asks
        if asks:
            self.OPTIONS = {"binary": Option("path of the program, or its name on PATH; it must be given", file=True)}

    def _binary(self, options: Options) -> str:
        if self._asks and "binary" not in options:
            raise RunnerError(
                f"the runner {self.name} cannot start anything",
                "it runs any OCI runtime, and was not told which",
                'give the subject options = { binary = "/path/of/the/runtime" }',
            )
        asked = str(options.get("binary", self._ours or self.PROGRAM or self.name))
        path = os.environ.get("PATH", os.defpath)
        if self._ours:
            path = os.pathsep.join((os.fspath(Path(sys.executable).parent), path))
        fix = "install this project again: pip install -e ." if self._ours else f"install {Path(asked).name}"
        return frame.program(asked, fix, path=path)

    def flags(self, options: Options) -> tuple[str, ...]:  # noqa: ARG002 - of a runtime that has options of its own
        """Words between the program and its command."""
        return ()

    def configure(self, config: dict[str, object], options: Options) -> None:
        """Change what such a runtime does not take of the *config* that all get."""

    def reached(self, options: Options) -> str:  # noqa: ARG002 - as above
        """See :attr:`runners.base.Support.reached`."""
        return frame.LOOPBACK

    def before(self, group: cgroups.Cgroup | None, stack: ExitStack) -> Mapping[str, str]:  # noqa: ARG002 - as above
        """What each start needs, and *stack* removes; the texts for the placeholders that stand for it."""
        return {}

    def probe(self, options: Options, cache: Path) -> Support:
        """See :meth:`runners.base.Runner.probe`: runs one container."""
        no_cgroups = cgroups.usable()
        version = ""
        try:
            binary = self._binary(options)
            version = _version(binary)
            frame.prove(self.prepare, options, cache, label=self.name, grouped=not no_cgroups, fix=fix)
        except RunnerError as error:
            return Support(ok=False, version=version, why=error.why or error.what, fix=error.fix)
        return Support(
            ok=True,
            version=version,
            walls=self.WALLS,
            unlimited=frame.LIMITS if no_cgroups else (),
            reclaims="" if no_cgroups or not self.RECLAIMS else cgroups.reclaimer(),
            reached=self.reached(options),
            enters=f"{Path(binary).name} exec",
            facts={"binary": binary, "cgroups": no_cgroups or cgroups.mode()},
        )

    @contextmanager
    def prepare(self, spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
        """See :meth:`runners.base.Runner.prepare`: the configuration, and a tmpfs for the writable layers."""
        host_root.check(spec, scratch)
        config = frame.config(
            spec,
            rootfs="rootfs",
            cgroup=None if scratch.cgroup is None else f"{scratch.cgroup}/{_NAME}",
            count_swap=cgroups.counts_swap(),
        )
        self.configure(config, options)
        parent = frame.parent(scratch)
        binary = self._binary(options)
        pid_files = scratch.directory / "pids"
        with ExitStack() as stack:
            stack.enter_context(null_device.kept())
            starter = _Starter(
                binary=binary,
                scratch=scratch,
                template=json.dumps(config, indent=2),
                roots=stack.enter_context(private_root.opened(scratch.directory, spec.rootfs)),
                parent=parent,
                pid_files=stack.enter_context(told_files.opened(pid_files)),
                flags=self.flags(options),
                before=self.before,
                start_ms=self.START_MS,
                kind=self.INSTANCE,
                rights=("--cwd", spec.cwd, "--user", f"{spec.user.uid}:{spec.user.gid}"),
            )
            stack.callback(shutil.rmtree, starter.state, ignore_errors=True)
            bundle = scratch.directory / "NAME"
            argv = starter.command("run", "--bundle", f"{bundle}", "--pid-file", f"{pid_files}/NAME", "NAME")
            yield Prepared(
                launch=frame.launcher(starter.start),
                manifest={"config.json": starter.template, "argv.txt": " ".join(argv) + "\n"},
            )

    def sweep(self) -> Sequence[str]:
        """See :meth:`runners.base.Runner.sweep`: monitors whose tare has ended, with their containers, and mounts."""
        try:
            return leftovers.remove()
        except OSError as error:
            raise RunnerError("cannot remove leftovers", str(error), frame.need_root()) from error


def _version(binary: str) -> str:
    said = monitored.ask(binary, "--version", limit_s=_VERSION_S, fix="install it again")
    return said.partition("\n")[0].strip()
