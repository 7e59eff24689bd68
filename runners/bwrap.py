"""Runner "bwrap": bubblewrap, which makes namespaces and mounts, and no cgroups. It is run as its users run it.

    bwrap --unshare-pid ... --proc /proc --dev /dev ... --info-fd N -- /payload

The program stays as the monitor of its child. ``created`` is stamped when it has written the child's number to its
info-fd. The walls are as near to the containers' configuration
(:func:`runners.container.config.defaults.default_config`) as bubblewrap's options go: the
same namespaces, capabilities, masked paths and system call filter. What it cannot do is left out, and the report says
so: no limits (for these, it must be started in a cgroup), no /sys (it mounts no sysfs), no keyring of its own.

The root is an overlay with a writable layer in memory where this bubblewrap has ``--tmp-overlay`` (0.11). Else it is
for the payload, and for users who may not mount, a tmpfs in which each entry of the root filesystem is bound read-only;
a workload of root's gets an overlay that we mount (:mod:`runners.launch.private_root`), since most programs write.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import Layers, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.container.config.defaults import DOCKER_CAPABILITIES, MASKED_PATHS
from tare.runners.launch import entry, frame, host_root, monitored, private_root

LAYERS: Layers = ("container",)
TYPICAL_S = 0.01
OPTIONS: Mapping[str, Option] = {"binary": Option("path of the program; default: bwrap on PATH", file=True)}

WALLS = (*frame.NAMESPACES, *frame.PRIVILEGES, "masked /proc")
_START_MS = 60_000
_FILTER = "@FILTER@"  # a placeholder in the arguments for the descriptors of each start
_INFO = "@INFO@"
_ROOT = "@ROOT@"  # and for the overlay of each instance
#: Where the program is that gives the workload another user.
_ENTRY = "/dev/tare-entry"
#: What an overlay would make writable.
_WRITABLE = ("/tmp", "/run", "/var/tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starter:
    """Starts sandboxes; *argv* holds placeholders for the descriptors of a start."""

    argv: tuple[str, ...]
    filter: Path | None
    spec: Spec
    #: The program by which a further command gets in, where it can.
    program: Path | None = None
    roots: private_root.PrivateRoots | None = None

    def start(self, name: str, stack: ExitStack) -> monitored.Monitored:
        """See :data:`runners.launch.frame.Start`."""
        words: dict[str, object] = {}
        if self.roots is not None:
            try:
                words[_ROOT] = self.roots.make(name, stack) / "rootfs"
            except OSError as error:
                raise RunnerError(f"cannot make the root of {name}", str(error), frame.need_root()) from error
        with ExitStack() as theirs:
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            info, info_in = os.pipe()
            theirs.callback(os.close, info)
            closed_early = theirs.enter_context(ExitStack())
            closed_early.callback(os.close, info_in)
            fds = {_INFO: info_in}
            if self.filter is not None:
                fds[_FILTER] = os.open(self.filter, os.O_RDONLY | os.O_CLOEXEC)
                theirs.callback(os.close, fds[_FILTER])
            words |= fds
            argv = [str(words.get(word, word)) for word in self.argv]
            with monitored.started(argv, console=console_in, pass_fds=tuple(fds.values())) as monitor:
                closed_early.close()
                pid = _child(info, monitor, console)
                pidfd = monitored.open_process(pid)
        if pidfd is not None:
            stack.callback(os.close, pidfd)
        enter = () if self.program is None else entry.beside(self.program, pid, self.spec, filtered=self.filter)
        return monitored.Monitored(name=name, console=console, monitor=monitor, pid=pid, pidfd=pidfd, enter=enter)


def _child(info: int, monitor: subprocess.Popen[bytes], console: int) -> int:
    """The child's number, from the JSON object that bwrap writes before the child goes on."""
    text = b""
    poll = select.poll()
    poll.register(info, select.POLLIN)
    while poll.poll(_START_MS):
        data = os.read(info, 4096)
        text += data
        with suppress(ValueError):
            return int(json.loads(text)["child-pid"])
        if not data:
            monitored.await_end(monitor)
            raise RunnerError(
                "bwrap started nothing", monitored.explain(monitor, console), "`tare doctor` says what bwrap lacks"
            )
    raise RunnerError(
        "bwrap started nothing",
        f"it started no process within {_START_MS // 1000} s",
        "check whether the host is overloaded",
    )


def _root(spec: Spec, *, overlay: bool, mounted: bool) -> list[str]:
    """The words for the root directory."""
    root = spec.rootfs.resolve()
    if overlay:
        return ["--overlay-src", os.fspath(root), "--tmp-overlay", "/"]
    if mounted:
        return ["--bind", _ROOT, "/"]
    words: list[str] = []
    for each in sorted(root.iterdir()):
        if each.is_symlink():
            words += ["--symlink", os.fspath(each.readlink()), f"/{each.name}"]
        elif each.name not in ("proc", "dev", "sys"):
            words += ["--ro-bind", os.fspath(each), f"/{each.name}"]
    if not frame.runs_payload(spec):
        for place in _WRITABLE:
            needed = any(path == place or path.startswith(f"{place}/") for path in (spec.argv[0], spec.cwd))
            words += ["--tmpfs", place] if not needed and (root / place[1:]).is_dir() else []
    return words


def arguments(
    binary: str, spec: Spec, *, overlay: bool, filtered: bool, mounted: bool = False, program: Path | None = None
) -> tuple[str, ...]:
    """bwrap's whole command line, with placeholders for the descriptors of a start.

    *mounted*: each instance has an overlay that was mounted before. *program* is what gives it another user
    (:mod:`runners.launch.entry`).
    """
    words = [binary, "--unshare-pid", "--unshare-uts", "--unshare-ipc", "--unshare-net", "--unshare-cgroup"]
    words += ["--hostname", "tare", "--new-session", "--die-with-parent", "--as-pid-1", "--clearenv"]
    for name, value in spec.env:
        words += ["--setenv", name, value]
    words += _root(spec, overlay=overlay, mounted=mounted)
    words += ["--proc", "/proc", "--dev", "/dev", "--mqueue", "/dev/mqueue"]
    for path in MASKED_PATHS:
        if not path.startswith("/proc/") or not Path(path).exists():
            continue
        words += ["--tmpfs", path, "--remount-ro", path] if Path(path).is_dir() else ["--ro-bind", "/dev/null", path]
    words += ["--cap-drop", "ALL"]
    for name in DOCKER_CAPABILITIES:
        words += ["--cap-add", name]
    if filtered:
        words += ["--seccomp", _FILTER]
    argv: Sequence[str] = spec.argv
    if program is not None:
        words += ["--ro-bind", os.fspath(program), _ENTRY]
        argv = (_ENTRY, *entry.user(spec), "--", *spec.argv)
    elif not entry.own_user(spec):
        words += ["--unshare-user", "--uid", str(spec.user.uid), "--gid", str(spec.user.gid)]
    return (*words, "--info-fd", _INFO, "--chdir", spec.cwd, "--", *argv)


def _binary(options: Options) -> str:
    return frame.program(str(options.get("binary", "bwrap")), "install bubblewrap")


def _ask(*command: str) -> str:
    return monitored.ask(*command, limit_s=10, fix="install bubblewrap again")


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """See :meth:`runners.base.Runner.prepare`: the command line, and the filter as a file."""
    binary = _binary(options)
    overlay = "--tmp-overlay" in _ask(binary, "--help")
    compiled = entry.filter_of(frame.config(spec, rootfs="/", cgroup=None))
    mounted = not overlay and os.geteuid() == 0 and not frame.runs_payload(spec)
    file = scratch.directory / "filter.bpf"
    with ExitStack() as stack:
        if compiled:
            file.write_bytes(compiled)
            stack.callback(file.unlink)
        if overlay or mounted:
            host_root.check(spec, scratch)
        program = None if os.geteuid() or frame.runs_payload(spec) else entry.binary(scratch.cache)
        argv = arguments(
            binary,
            spec,
            overlay=overlay,
            filtered=bool(compiled),
            mounted=mounted,
            program=None if entry.own_user(spec) else program,
        )
        starter = _Starter(
            argv=argv,
            filter=file if compiled else None,
            spec=spec,
            program=program,
            roots=stack.enter_context(private_root.opened(scratch.directory, spec.rootfs)) if mounted else None,
        )
        yield Prepared(
            launch=frame.launcher(starter.start),
            manifest={"argv.txt": shlex.join(argv) + "\n"},
            walls=_walls(overlay=True) if mounted else None,
        )


def _walls(*, overlay: bool) -> tuple[str, ...]:
    return (*WALLS, "private root (overlay)" if overlay else "private root (tmpfs, read-only binds)")


def probe(options: Options, cache: Path) -> Support:
    """See :meth:`runners.base.Runner.probe`: runs one sandbox."""
    version = ""
    try:
        binary = _binary(options)
        version = _ask(binary, "--version").strip()
        overlay = "--tmp-overlay" in _ask(binary, "--help")
        frame.prove(prepare, options, cache, label="bwrap", grouped=False, fix=_fix)
    except RunnerError as error:
        return Support(ok=False, version=version, why=error.why or error.what, fix=error.fix)
    return Support(
        ok=True,
        version=version,
        walls=_walls(overlay=overlay),
        unlimited=frame.LIMITS,
        reached="" if os.geteuid() else frame.LOOPBACK,  # one enters a user namespace by setns(2) without threads only
        enters="" if os.geteuid() else entry.ENTERS,
        facts={"binary": binary},
    )


def _fix(_said: str) -> str:
    return "" if os.geteuid() == 0 else "run as root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone"


def sweep() -> Sequence[str]:
    """Nothing can be left: a sandbox dies with its monitor, and the monitor with its parent (--die-with-parent)."""
    return ()
