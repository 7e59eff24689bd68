"""Runners "firecracker" and "cloud-hypervisor": the kernel and the initramfs of ``vm``, by a monitor without libvirt.

    firecracker --no-api --config-file FILE --log-path LOG --level Warning
    cloud-hypervisor --cpus boot=1 --memory size=128M --kernel VMLINUX --initramfs IMAGE --cmdline WORDS
                     --serial tty --console off --event-monitor fd=N --log-file LOG

The monitor is a process that is started under the clock. Its standard output is the guest's only serial line, on which
are the kernel's messages and all that the workload writes: a pipe leads it here. A workload of a user's is started by
the first process that the guests of ``vm`` have, too (:mod:`runners.guest`), from an image in memory: the machine has
no disk, no network device and no port for commands.

Both run with KVM alone. So before anything else KVM is proved by the probe guest of ``vm``
(:mod:`runners.vm.acceleration`); only then the program boots one machine. ``created`` is stamped when it was executed.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

from tare.runners.base import Layers, Option, Options, Prepared, RunnerError, Scratch, Spec, Support
from tare.runners.container.cgroup import cgroups
from tare.runners.container.warm import leftovers
from tare.runners.engines.common import grouped
from tare.runners.guest import inside, workload
from tare.runners.image import kernel as kernels
from tare.runners.image.initramfs import initramfs
from tare.runners.image.sources import HOST, MAKE_ONE
from tare.runners.launch import frame, monitored
from tare.runners.microvm.machine import Machine, copied, ended_on_restart
from tare.runners.microvm.monitors import CLOUD_HYPERVISOR, FIRECRACKER, Boot, Monitor
from tare.runners.vm import acceleration
from tare.runners.vm.domain import command_line
from tare.runners.vm.machines.direct import LEAST_BYTES

#: What is known of KVM on this host: of a guest with that kernel, and kept in that cache.
Prover = Callable[[kernels.Kernel, Path], acceleration.Proof]

_ASK_S = 10
_NO_HOST = "its guest has a root of its own, and no part of this host's"
_FACTS = {
    "network": "none: tare gives this machine no network device, so nothing in it is reached by a port",
    "further commands": "none: this machine has one serial line, which is its console",
    "disk": "none: an image must fit into the guest's memory",
    "balloon": "none: the host cannot ask it for memory",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Starter:
    """Starts machines. ``custom``: their first process runs a workload of a user's, and says how that ended."""

    monitor: Monitor
    binary: str
    boot: Boot
    custom: bool
    directory: Path
    grants: grouped.Grants

    def words(self, log: Path, events: int) -> list[str]:
        return self.monitor.words(self.binary, self.boot, directory=self.directory, log=log, events=events)

    def start(self, name: str, stack: ExitStack) -> Machine:
        """See :data:`runners.launch.frame.Start`."""
        group = self.grants.make(name, stack)
        log = self.directory / f"{name}.log"
        stack.callback(log.unlink, missing_ok=True)
        log.touch()
        with ExitStack() as theirs:
            tail = None
            if self.custom:
                console, out, tail = copied(stack, theirs)
            else:
                console, out = frame.pipe(ours=stack, theirs=theirs, we="read")
            events = frame.pipe(ours=stack, theirs=theirs, we="read") if self.monitor.tells else None
            words = self.words(log, events[1] if events else -1)
            passed = (events[1],) if events else ()
            with grouped.started(words, grants=self.grants, group=group, console=out, pass_fds=passed) as process:
                said = ended_on_restart(events[0], process.pid, stack) if events else None
        return Machine(
            name=name,
            console=console,
            group=group,
            monitor=process,
            pid=process.pid,
            pidfd=None,
            log=log,
            tail=tail,
            events=said,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Microvm:
    """One monitor as a :class:`runners.base.Runner`. ``prove`` says what is known of KVM here."""

    monitor: Monitor
    prove: Prover = acceleration.on_this_host

    LAYERS: ClassVar[Layers] = ("vm",)
    TYPICAL_S: ClassVar[float] = 0.5
    OPTIONS: ClassVar[Mapping[str, Option]] = {
        "path": Option("path of the program; default: the one of the runner's name on PATH", file=True),
        "kernel": Option("path of an uncompressed guest kernel; default: the one that ./bootstrap unpacked", file=True),
    }

    def probe(self, options: Options, cache: Path) -> Support:
        """See :meth:`runners.base.Runner.probe`: proves KVM, and then boots one machine."""
        version = ""
        facts: dict[str, str] = {}
        no_cgroups = cgroups.usable()
        try:
            _check_host(self.monitor)
            facts["binary"] = binary = self._binary(options)
            version = self._version(binary)
            kernel = self._kernel(options, cache)
            facts["guest kernel"] = kernel.describe()
            proof = self.prove(kernel, cache)
            if proof.cpu is None:
                raise RunnerError(f"{self.monitor.title} runs with KVM alone: {proof.why}", "", proof.fix)
            facts["kvm"] = f"proved: {proof.why}"
            frame.prove(
                self.prepare,
                options,
                cache,
                label=self.monitor.name,
                grouped=not no_cgroups,
                fix=lambda _: f"try another release of it, of {self.monitor.published}",
                memory_bytes=2 * LEAST_BYTES,
            )
        except RunnerError as error:
            return Support(ok=False, version=version, why=str(error), fix=error.fix, facts=facts)
        return Support(
            ok=True,
            version=f"{version}, Linux {kernel.release}",
            accelerator="kvm",
            walls=("own kernel",),
            images=(HOST,),
            facts={**facts, **_FACTS},
        )

    @contextmanager
    def prepare(self, spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
        """See :meth:`runners.base.Runner.prepare`: what it boots from, made once for each image."""
        self._check(spec)
        binary = self._binary(options)
        kernel = self._kernel(options, scratch.cache)
        directory = scratch.directory / leftovers.mine()
        grants = grouped.grants(spec, scratch, limited=False)  # the machine is the limit
        with ExitStack() as stack:
            leads = self.monitor.leads
            if spec.custom:
                devices = inside.Devices(disk="", link="", ports=0)
                machine = workload.Machine(devices=devices, least_bytes=LEAST_BYTES, modules=None)
                made = workload.assembled(spec, machine, "memory", scratch.cache, networked=False)
                initrd = stack.enter_context(made).initrd
                line = command_line((inside.INIT,), (), leads=leads)
            else:
                initrd = initramfs(scratch.cache, spec.rootfs)
                line = command_line(spec.argv, spec.env, leads=leads)
            boot = Boot(
                kernel=kernel.path,
                initrd=initrd.absolute(),
                command_line=line,
                cpus=spec.cpus,
                memory_mib=spec.memory_bytes >> 20,
            )
            starter = _Starter(
                monitor=self.monitor, binary=binary, boot=boot, custom=spec.custom, directory=directory, grants=grants
            )
            directory.mkdir()
            stack.callback(directory.rmdir)
            for name, text in self.monitor.files(boot).items():
                stack.callback((directory / name).unlink, missing_ok=True)
                (directory / name).write_text(text)
            words = starter.words(directory / "NAME.log", 3)
            manifest = {"command.txt": shlex.join(words) + "\n", **self.monitor.files(boot)}
            if spec.custom:
                manifest["argv.txt"] = shlex.join(spec.argv) + "\n"
            yield Prepared(launch=frame.launcher(starter.start), manifest=manifest)

    def sweep(self) -> Sequence[str]:
        """See :meth:`runners.base.Runner.sweep`: monitors whose tare has ended; it stands in the path of their file."""
        removed = []
        for process in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                pid = int(process.name)
                words = (process / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
                if any(word == self.monitor.mark and leftovers.orphaned(path) for word, path in pairwise(words)):
                    os.kill(pid, signal.SIGKILL)
                    removed.append(f"process {pid} ({words[0]})")
        return removed

    def _binary(self, options: Options) -> str:
        name = self.monitor.name
        fix = f'get a release from {self.monitor.published}, and give options = {{ path = "/path/of/{name}" }}'
        return str(Path(frame.program(str(options.get("path", name)), fix)).absolute())

    def _version(self, binary: str) -> str:
        said = monitored.ask(binary, "--version", limit_s=_ASK_S, fix=f"get a release from {self.monitor.published}")
        return next(iter(said.strip().splitlines()), "") or self.monitor.title

    def _kernel(self, options: Options, cache: Path) -> kernels.Kernel:
        kernel = kernels.find(cache, Path(str(options["kernel"])) if "kernel" in options else None)
        if kernel.note and not self.monitor.packed:
            raise RunnerError(
                f"{self.monitor.title} cannot start the kernel {kernel.path}",
                f"it is compressed: {kernel.note}",
                'give an uncompressed one (vmlinux): options = { kernel = "/path/of/vmlinux" }',
            )
        return kernel

    def _check(self, spec: Spec) -> None:
        title = self.monitor.title
        if spec.image.source == HOST:
            raise RunnerError(f"{title} cannot take the image host", _NO_HOST, MAKE_ONE)
        if spec.cpus > self.monitor.most_cpus:
            most = self.monitor.most_cpus
            raise RunnerError(f"{title} cannot have {spec.cpus} processors", f"{most} at most", f"cpus = {most}")
        if spec.memory_bytes < LEAST_BYTES:
            raise RunnerError(
                f"{spec.memory_bytes >> 20} MiB are not enough for {title}",
                f"the guest's kernel needs {LEAST_BYTES >> 20} MiB to boot",
                "raise memory_mib",
            )


def _check_host(monitor: Monitor) -> None:
    if (found := os.uname().machine) != "x86_64":
        raise RunnerError(f"the runner {monitor.name} works only on x86-64", f"this host is {found}")


FIRECRACKER_RUNNER = Microvm(monitor=FIRECRACKER)
CLOUD_HYPERVISOR_RUNNER = Microvm(monitor=CLOUD_HYPERVISOR)
