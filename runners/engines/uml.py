"""Runner "uml": user-mode Linux, a Linux kernel that is a program of the host, and needs neither KVM nor emulation.

    linux.uml mem=128M initrd=IMAGE con=null con0=null,fd:1 umid=NAME uml_dir=DIR quiet ... rdinit=/program -- WORDS

Its memory is a file on a tmpfs of the host, its processes are processes of the host that it traces (ptrace(2)), and
its instructions are executed by the processor: so it is a virtual machine by its kernel, and a class of result of its
own (``accelerator`` "uml"). The image is its initramfs, and the payload its init, as with the runner ``vm``. It has one
processor.

A workload of a user's is started by the first process that the guests of ``vm`` have, too (:mod:`runners.guest`):

    linux.uml ... ssl0=null,fd:4 ssl1=fd:5 ubd0rc=DISK vec0:transport=tap,ifname=tare-tap rdinit=/.tare/init

The first serial line takes what it writes; by the second further commands are asked for. The network device is a tap in
a network namespace that the kernel is started in, and that ends with it.

The grant of memory is all that its kernel has. Its processes are in a cgroup of ours, which counts and limits nothing.
``created`` is stamped when the program has been executed.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tare.runners.base import (
    Layers,
    Option,
    Options,
    Prepared,
    RunnerError,
    Scratch,
    Spec,
    Support,
)
from tare.runners.container.cgroup import cgroups
from tare.runners.container.warm import leftovers
from tare.runners.engines.common import grouped
from tare.runners.engines.uml_machine import Entrance, Machine, placed_alike
from tare.runners.guest import inside, network, workload
from tare.runners.guest.relay import Relay
from tare.runners.image.initramfs import initramfs
from tare.runners.image.sources import HOST, MAKE_ONE
from tare.runners.launch import drain, frame, monitored

LAYERS: Layers = ("vm",)
TYPICAL_S = 2.0
OPTIONS: Mapping[str, Option] = {
    "binary": Option("path of the kernel, a program; default: linux.uml or linux on PATH", file=True),
    "root": Option("where the image of a workload of your own is, as of the runner vm", choices=workload.ROOTS),
}

#: COMMAND_LINE_SIZE of arch/um (asm/setup.h), the final NUL included.
_LINE_BYTES = 4096
#: CONFIG_INIT_ENV_ARG_LIMIT (init/Kconfig): the kernel panics beyond it. HOME and TERM take two of the environment's.
_INIT_WORDS = 32
#: Other names could be parameters of the guest's kernel.
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
#: With 32 MiB Debian's kernel has no room for an initramfs.
_LEAST_BYTES = 48 << 20
_LOG_BYTES = 8000
_CONSOLE, _CONTROL = "/dev/ttyS0", "/dev/ttyS1"
#: Where Debian keeps what is not built into its kernel.
_MODULES = "/usr/lib/uml/modules/{version}"
_NO_HOST = "its guest has a root of its own, and no part of this host's"
_numbers = itertools.count(1)


def arguments(binary: str, spec: Spec, *, initrd: Path, name: str, directory: Path) -> list[str]:
    """The whole command line that runs the payload. Raises RunnerError for what cannot be said on it."""
    words = [*_beginning(binary, spec, initrd, name, directory), "con=null", "ssl=null", "loglevel=0"]
    words.append(f"rdinit={_word(spec.argv[0])}")
    given = [("TARE_VM", "1"), *spec.env]
    if len(given) + 2 > _INIT_WORDS or len(spec.argv) > _INIT_WORDS:
        raise RunnerError(
            "the payload's arguments do not fit on the kernel's command line",
            f"{len(given)} variables and {len(spec.argv)} words; Linux passes {_INIT_WORDS - 2} and {_INIT_WORDS}",
            "pass fewer or shorter arguments",
        )
    for key, value in given:
        if not _ENV_NAME.fullmatch(key):
            raise RunnerError(
                f"the variable {key!r} cannot be passed to user-mode Linux",
                "its kernel could use it as a parameter of its own",
                "use capital letters, digits and _",
            )
        words.append(f"{key}={_word(value)}")
    return _fitting([*words, "--", *map(_word, spec.argv[1:])])


def workload_arguments(
    binary: str, spec: Spec, made: workload.Bootable, *, name: str, directory: Path, console: int, control: int
) -> list[str]:
    """The same for a workload of a user's; *console* and *control* are descriptors for the two serial lines."""
    words = [*_beginning(binary, spec, made.initrd, name, directory), "con=none", "ssl=none"]
    words += [f"ssl0=null,fd:{console}", f"ssl1=fd:{control}"]
    if made.disk is not None:
        words.append(f"ubd0rc={made.disk}")
    if made.networked:
        words.append(f"vec0:transport=tap,ifname={network.TAP}")
    # What its kernel misses while it boots is no error; from the first process on errors are said.
    return _fitting([*words, "quiet", "loglevel=3", f"TARE_CONSOLE={_CONSOLE}", f"rdinit={inside.INIT}"])


def _beginning(binary: str, spec: Spec, initrd: Path, name: str, directory: Path) -> list[str]:
    words = [binary, f"mem={spec.memory_bytes >> 20}M", f"initrd={initrd}", f"umid={name}", f"uml_dir={directory}"]
    # Of its consoles only the first leads somewhere: to the standard output. Without console= and root= it would add
    # its own at the end, among the words of init.
    return [*words, "con0=null,fd:1", "console=tty0", "root=none", "panic=-1", "noreboot"]


def _fitting(words: list[str]) -> list[str]:
    if len(" ".join(words).encode()) >= _LINE_BYTES:
        raise RunnerError(
            "the kernel's command line is too long", f"{_LINE_BYTES - 1} bytes fit", "pass fewer or shorter words"
        )
    return words


def _word(word: str) -> str:
    """*word* as the kernel's next_arg() reads it back (lib/cmdline.c): spaces within double quotes, no escapes."""
    if '"' in word or not word.isprintable():
        raise RunnerError(
            f"the word {word!r} cannot be passed to user-mode Linux",
            "a kernel command line has no way to write double quotes and control characters",
        )
    return f'"{word}"' if " " in word or not word else word


def _check(spec: Spec) -> None:
    if spec.image.source == HOST:
        raise RunnerError("user-mode Linux cannot take the image host", _NO_HOST, MAKE_ONE)
    if spec.cpus != 1:
        raise RunnerError(f"user-mode Linux cannot have {spec.cpus} processors", "its kernel has one", "cpus = 1")
    if spec.memory_bytes < _LEAST_BYTES:
        raise RunnerError(
            f"{spec.memory_bytes >> 20} MiB are not enough for user-mode Linux",
            f"its kernel needs {_LEAST_BYTES >> 20} MiB to boot",
            "raise memory_mib",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starter:
    """Starts kernels: of the payload from ``initrd``, of a workload of a user's from ``made``."""

    binary: str
    spec: Spec
    initrd: Path
    made: workload.Bootable | None
    directory: Path
    grants: grouped.Grants

    def words(self, name: str, *, console: int = 0, control: int = 0) -> list[str]:
        """The command line of the kernel *name*."""
        if self.made is None:
            return arguments(self.binary, self.spec, initrd=self.initrd, name=name, directory=self.directory)
        return workload_arguments(
            self.binary,
            self.spec,
            self.made,
            name=name,
            directory=self.directory,
            console=console,
            control=control,
        )

    def start(self, name: str, stack: ExitStack) -> Machine:
        """See :data:`runners.launch.frame.Start`."""
        group = self.grants.make(name, stack)
        stack.callback(_forget, self.directory / name)
        with ExitStack() as theirs:
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            if self.made is None:
                return self._started(name, group, console, console_in, self.words(name))
            log, log_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            line, its_line = socket.socketpair()
            theirs.callback(its_line.close)
            relay = Relay(line, self.directory / f"control-{next(_numbers)}")
            stack.callback(relay.close)
            tail = drain.Tail(_LOG_BYTES)
            drain.take(log, tail.keep)
            entrance = Entrance(
                log=log, log_tail=tail, relay=relay, asker=self.made.asker, networked=self.made.networked
            )
            passed = (console_in, its_line.fileno())
            words = self.words(name, console=passed[0], control=passed[1])

            def start() -> Machine:
                return self._started(name, group, console, log_in, words, passed, entrance)

            return network.with_tap(start) if self.made.networked else start()

    def _started(
        self,
        name: str,
        group: cgroups.Cgroup | None,
        console: int,
        output: int,
        words: Sequence[str],
        passed: Sequence[int] = (),
        entrance: Entrance | None = None,
    ) -> Machine:
        with (
            placed_alike(),
            grouped.started(words, grants=self.grants, group=group, console=output, pass_fds=passed) as monitor,
        ):
            pass
        return Machine(
            name=name, console=console, group=group, monitor=monitor, pid=monitor.pid, pidfd=None, entrance=entrance
        )


def _forget(place: Path) -> None:
    """Remove what a kernel that was killed leaves in its directory: its pid, and the socket of its console."""
    if place.is_dir():
        for each in place.iterdir():
            each.unlink()
        place.rmdir()


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """See :meth:`runners.base.Runner.prepare`: what it boots from, made once for each image."""
    _check(spec)
    binary = _binary(options)
    directory = scratch.directory / leftovers.mine()
    grants = grouped.grants(spec, scratch, limited=False)
    with ExitStack() as stack:
        made: workload.Bootable | None = None
        if spec.custom:
            root = cast(workload.Root, options.get("root", "auto"))
            made = stack.enter_context(workload.assembled(spec, _machine(binary), root, scratch.cache))
        starter = _Starter(
            binary=binary,
            spec=spec,
            initrd=initramfs(scratch.cache, spec.rootfs) if made is None else made.initrd,
            made=made,
            directory=directory,
            grants=grants,
        )
        manifest = {"kernel.txt": shlex.join(starter.words("NAME")) + "\n", "argv.txt": shlex.join(spec.argv) + "\n"}
        if made is None:
            manifest = {"argv.txt": manifest["kernel.txt"]}
        directory.mkdir()
        stack.callback(directory.rmdir)
        yield Prepared(launch=frame.launcher(starter.start), manifest=manifest)


def _machine(binary: str) -> workload.Machine:
    modules = Path(_MODULES.format(version=_version(binary)))
    return workload.Machine(
        devices=inside.Devices(disk="/dev/ubda", link="vec0", terminal=_CONTROL),
        least_bytes=_LEAST_BYTES,
        modules=modules if modules.is_dir() else None,
        always=("ipv6",),  # many a server listens on [::], too
        for_disk=("overlay",),
    )


def _version(binary: str) -> str:
    return monitored.ask(binary, "--version", limit_s=10, fix="install user-mode-linux again").strip()


def _binary(options: Options) -> str:
    fix = "install user-mode-linux"
    if "binary" in options:
        return frame.program(str(options["binary"]), fix)
    with suppress(RunnerError):
        return frame.program("linux.uml", fix)
    return frame.program("linux", fix)


def probe(options: Options, cache: Path) -> Support:
    """See :meth:`runners.base.Runner.probe`: boots one kernel."""
    no_cgroups = cgroups.usable()
    version = ""
    try:
        binary = _binary(options)
        version = _version(binary)
        frame.prove(prepare, options, cache, label="uml", grouped=not no_cgroups, fix=_fix)
    except RunnerError as error:
        return Support(ok=False, version=version, why=error.why or error.what, fix=error.fix)
    facts = {"binary": binary}
    if unreached := network.trouble():
        facts["network"] = f"none: {unreached}"
    return Support(
        ok=True,
        version=f"user-mode Linux {version}",
        accelerator="uml",
        walls=("own kernel",),
        reached="" if unreached else network.REACHED,
        enters="a serial line",
        images=(HOST,),
        facts=facts,
    )


def _fix(_said: str) -> str:
    return "let processes be traced (ptrace(2)), and /dev/shm hold programs (no noexec)"


def sweep() -> Sequence[str]:
    """See :meth:`runners.base.Runner.sweep`: kernels whose tare has ended; it stands in their directory's name."""
    removed = []
    for process in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(process.name)
            words = (process / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
            if any(word.startswith("uml_dir=") and leftovers.orphaned(word) for word in words):
                os.kill(pid, signal.SIGKILL)
                removed.append(f"process {pid} ({words[0]})")
    return removed
