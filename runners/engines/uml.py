"""Runner "uml": user-mode Linux, a Linux kernel that is a program of the host, and needs neither KVM nor emulation.

    linux.uml mem=128M initrd=IMAGE con=null con0=null,fd:1 umid=NAME uml_dir=DIR quiet ... rdinit=/program -- WORDS

Its memory is a file on a tmpfs of the host, its processes are processes of the host that it traces (ptrace(2)), and
its instructions are executed by the processor: so it is a virtual machine by its kernel, and a class of result of its
own (``accelerator`` "uml"). The image is its initramfs, and the program its init, as with the runner ``vm``. It has one
processor, and no network here.

The grant of memory is all that its kernel has. Its processes are in a cgroup of ours, which counts and limits nothing.
``created`` is stamped when the program has been executed.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import (
    Address,
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
from tare.runners.engines.common import adoption, grouped
from tare.runners.image.initramfs import initramfs
from tare.runners.image.sources import HOST
from tare.runners.launch import drain, frame, monitored

LAYERS: Layers = ("vm",)
TYPICAL_S = 2.0
OPTIONS: Mapping[str, Option] = {
    "binary": Option("path of the kernel, a program; default: linux.uml or linux on PATH", file=True)
}

_STOP_S = 20
_SYS_KCMP, _KCMP_VM = 312, 1  # asm/unistd_64.h, linux/kcmp.h
_LIBC = ctypes.CDLL(None, use_errno=True)
#: COMMAND_LINE_SIZE of arch/um (asm/setup.h), the final NUL included.
_LINE_BYTES = 4096
#: CONFIG_INIT_ENV_ARG_LIMIT (init/Kconfig): the kernel panics beyond it. HOME and TERM take two of the environment's.
_INIT_WORDS = 32
#: Other names could be parameters of the guest's kernel.
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")
#: With 32 MiB Debian's kernel has no room for an initramfs.
_LEAST_BYTES = 48 << 20


@dataclass(slots=True, kw_only=True)
class _Machine(monitored.Monitored):
    """A started kernel: a program without a container below it. Its ``pid`` is the monitor's."""

    def pids(self) -> frozenset[int]:
        """See :class:`runners.base.Instance`: without the kernel's threads that the host shows as processes.

        They share its memory (clone(2), CLONE_VM), which would be counted once for each.
        """
        kernel = self.monitor.pid
        return frozenset(pid for pid in self._all() if pid == kernel or not _same_memory(pid, kernel))

    def _all(self) -> frozenset[int]:
        return monitored.Monitored.pids(self)

    def address(self) -> Address:
        """See :class:`runners.base.Instance`."""
        raise RunnerError(f"{self.name} has no address", "user-mode Linux is started without a network")

    def reclaim(self, size_bytes: int) -> None:
        """See :class:`runners.base.Instance`."""
        raise RunnerError(
            f"{self.name} cannot be asked for {size_bytes} bytes", "its memory is its kernel's, and it has no balloon"
        )

    def stop(self) -> None:
        """Kill the kernel and the processes that it traces, which are in its process group and in its cgroup."""
        drain.leave(self.console)
        with adoption.adopting():
            with suppress(ProcessLookupError):
                os.killpg(self.monitor.pid, signal.SIGKILL)
            self.monitor.wait(_STOP_S)
            if self.group is not None:
                grouped.empty(self.group)
        adoption.reap_group(self.monitor.pid)


def _same_memory(one: int, other: int) -> bool:
    """Whether both processes have one address space; False where that cannot be known."""
    return bool(_LIBC.syscall(_SYS_KCMP, one, other, _KCMP_VM, 0, 0) == 0)


def arguments(binary: str, spec: Spec, *, initrd: Path, name: str, directory: Path) -> list[str]:
    """The whole command line. Raises RunnerError for what cannot be said on it."""
    words = [binary, f"mem={spec.memory_bytes >> 20}M", f"initrd={initrd}", f"umid={name}", f"uml_dir={directory}"]
    # Of its consoles only the first leads somewhere: to the standard output. Without console= and root= it would add
    # its own at the end, among the words of init.
    words += [
        "con=null",
        "con0=null,fd:1",
        "ssl=null",
        "console=tty0",
        "root=none",
        "loglevel=0",
        "panic=-1",
        "noreboot",
        f"rdinit={_word(spec.argv[0])}",
    ]
    given = [("TARE_VM", "1"), *spec.env]
    if len(given) + 2 > _INIT_WORDS or len(spec.argv) > _INIT_WORDS:
        raise RunnerError(
            "the workload's command does not fit on the kernel's command line",
            f"{len(given)} variables and {len(spec.argv)} words; Linux passes {_INIT_WORDS - 2} and {_INIT_WORDS}",
            "pass fewer words, or put them into a script of the image",
        )
    for key, value in given:
        if not _ENV_NAME.fullmatch(key):
            raise RunnerError(
                f"the variable {key!r} cannot be passed to user-mode Linux",
                "its kernel could use it as a parameter of its own",
                "use capital letters, digits and _",
            )
        words.append(f"{key}={_word(value)}")
    words += ["--", *map(_word, spec.argv[1:])]
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
            "put it into a script of the image",
        )
    return f'"{word}"' if " " in word or not word else word


def _check(spec: Spec) -> None:
    if not frame.runs_payload(spec):
        raise RunnerError(
            f"user-mode Linux cannot run {spec.argv[0]}",
            "the workload is its init, and it does not tell how its init ended",
            "measure the payload, or take another runner",
        )
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
    """Starts kernels."""

    binary: str
    spec: Spec
    initrd: Path
    directory: Path
    grants: grouped.Grants

    def start(self, name: str, stack: ExitStack) -> _Machine:
        """See :data:`runners.launch.frame.Start`."""
        group = self.grants.make(name, stack)
        stack.callback(_forget, self.directory / name)
        words = arguments(self.binary, self.spec, initrd=self.initrd, name=name, directory=self.directory)
        with ExitStack() as theirs:
            console, console_in = frame.pipe(ours=stack, theirs=theirs, we="read")
            with grouped.started(words, grants=self.grants, group=group, console=console_in) as monitor:
                pass
        return _Machine(name=name, console=console, group=group, monitor=monitor, pid=monitor.pid, pidfd=None)


def _forget(place: Path) -> None:
    """Remove what a kernel that was killed leaves in its directory: its pid, and the socket of its console."""
    if place.is_dir():
        for each in place.iterdir():
            each.unlink()
        place.rmdir()


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """See :meth:`runners.base.Runner.prepare`: the initramfs, made once for each image."""
    _check(spec)
    binary = _binary(options)
    initrd = initramfs(scratch.cache, spec.rootfs)
    directory = scratch.directory / leftovers.mine()
    grants = grouped.grants(spec, scratch, limited=False)
    starter = _Starter(binary=binary, spec=spec, initrd=initrd, directory=directory, grants=grants)
    argv = arguments(binary, spec, initrd=initrd, name="NAME", directory=directory)
    directory.mkdir()
    try:
        yield Prepared(launch=frame.launcher(starter.start), manifest={"argv.txt": shlex.join(argv) + "\n"})
    finally:
        directory.rmdir()


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
        version = monitored.ask(binary, "--version", limit_s=10, fix="install user-mode-linux again").strip()
        frame.prove(prepare, options, cache, label="uml", grouped=not no_cgroups, fix=_fix)
    except RunnerError as error:
        return Support(ok=False, version=version, why=error.why or error.what, fix=error.fix)
    return Support(
        ok=True,
        version=f"user-mode Linux {version}",
        accelerator="uml",
        walls=("own kernel",),
        images=(HOST,),
        facts={"binary": binary},
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
