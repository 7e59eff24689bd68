"""Runner "bwrap": bubblewrap, which makes namespaces and mounts, and no cgroups. It is run as its users run it.

    bwrap --unshare-pid ... --proc /proc --dev /dev ... --info-fd N -- /payload

The program stays as the monitor of its child. ``created`` is stamped when it has written the child's number to its
info-fd. The walls are as near to the containers' configuration
(:func:`runners.container.config.defaults.default_config`) as bubblewrap's options go: the
same namespaces, capabilities, masked paths and system call filter. What it cannot do is left out, and the report says
so: no limits (for these, it must be started in a cgroup), no /sys (it mounts no sysfs), no keyring of its own.

The root is an overlay with a writable layer in memory where this bubblewrap has ``--tmp-overlay`` (0.11); else a tmpfs
in which each entry of the root filesystem is bound read-only.
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
from typing import cast

from tare.runners.base import Layers, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.container.config.defaults import DOCKER_CAPABILITIES, MASKED_PATHS, default_config
from tare.runners.container.reader import Reader
from tare.runners.container.seccomp import filters
from tare.runners.launch import frame, monitored

LAYERS: Layers = ("container",)
TYPICAL_S = 0.01
OPTIONS: Mapping[str, Option] = {"binary": Option("path of the program; default: bwrap on PATH", file=True)}

WALLS = (*frame.NAMESPACES, *frame.PRIVILEGES, "masked /proc")
_START_MS = 60_000
_FILTER = "@FILTER@"  # a placeholder in the arguments for the descriptors of each start
_INFO = "@INFO@"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starter:
    """Starts sandboxes; *argv* holds placeholders for the descriptors of a start."""

    argv: tuple[str, ...]
    filter: Path | None

    def start(self, name: str, stack: ExitStack) -> monitored.Monitored:
        """See :data:`runners.launch.frame.Start`."""
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
            words = [str(fds.get(word, word)) for word in self.argv]
            with monitored.started(words, console=console_in, pass_fds=tuple(fds.values())) as monitor:
                closed_early.close()
                pid = _child(info, monitor, console)
                pidfd = monitored.open_process(pid)
        if pidfd is not None:
            stack.callback(os.close, pidfd)
        return monitored.Monitored(name=name, console=console, monitor=monitor, pid=pid, pidfd=pidfd)


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


def arguments(binary: str, spec: Spec, *, overlay: bool, filtered: bool) -> tuple[str, ...]:
    """bwrap's whole command line, with placeholders for the descriptors of a start."""
    words = [binary, "--unshare-pid", "--unshare-uts", "--unshare-ipc", "--unshare-net", "--unshare-cgroup"]
    words += ["--hostname", "tare", "--new-session", "--die-with-parent", "--as-pid-1", "--clearenv"]
    for name, value in spec.env:
        words += ["--setenv", name, value]
    root = spec.rootfs.resolve()
    if overlay:
        words += ["--overlay-src", os.fspath(root), "--tmp-overlay", "/"]
    else:
        for entry in sorted(root.iterdir()):
            if entry.is_symlink():
                words += ["--symlink", os.fspath(entry.readlink()), f"/{entry.name}"]
            elif entry.name not in ("proc", "dev", "sys"):
                words += ["--ro-bind", os.fspath(entry), f"/{entry.name}"]
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
    return (*words, "--info-fd", _INFO, "--chdir", "/", "--", *spec.argv)


def _binary(options: Options) -> str:
    return frame.program(str(options.get("binary", "bwrap")), "install bubblewrap")


def _ask(*command: str) -> str:
    return monitored.ask(*command, limit_s=10, fix="install bubblewrap again")


def _filter(spec: Spec) -> bytes:
    """The compiled system call filter of the containers' configuration; empty if that has none."""
    config = default_config(
        argv=spec.argv, env=spec.env, rootfs="/", cgroup=None, memory_bytes=spec.memory_bytes, cpus=spec.cpus
    )
    profile = cast("Mapping[str, object]", config["linux"]).get("seccomp")
    return filters.compile(filters.parse(Reader(profile, "linux.seccomp"))) if profile else b""


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """See :meth:`runners.base.Runner.prepare`: the command line, and the filter as a file."""
    binary = _binary(options)
    overlay = "--tmp-overlay" in _ask(binary, "--help")
    compiled = _filter(spec)
    file = scratch.directory / "filter.bpf"
    with ExitStack() as stack:
        if compiled:
            file.write_bytes(compiled)
            stack.callback(file.unlink)
        argv = arguments(binary, spec, overlay=overlay, filtered=bool(compiled))
        starter = _Starter(argv=argv, filter=file if compiled else None)
        yield Prepared(launch=frame.launcher(starter.start), manifest={"argv.txt": shlex.join(argv) + "\n"})


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
        walls=(*WALLS, "private root (overlay)" if overlay else "private root (tmpfs, read-only binds)"),
        unlimited=frame.LIMITS,
        reached=frame.LOOPBACK,
        facts={"binary": binary},
    )


def _fix(_said: str) -> str:
    return "" if os.geteuid() == 0 else "run as root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone"


def sweep() -> Sequence[str]:
    """Nothing can be left: a sandbox dies with its monitor, and the monitor with its parent (--die-with-parent)."""
    return ()
