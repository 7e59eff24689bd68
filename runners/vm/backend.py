"""The virtual machine: an unchanged Linux kernel, started by QEMU through libvirt, with the payload as its init."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from tare.runners.base import (
    PREFIX,
    Accelerator,
    Layers,
    Mark,
    Option,
    Options,
    Prepared,
    RunnerError,
    Scratch,
    Spec,
    Support,
)
from tare.runners.guest import inside, network, workload
from tare.runners.image import modules
from tare.runners.image.initramfs import initramfs
from tare.runners.image.kernel import Kernel, find
from tare.runners.image.rootfs import payload_root
from tare.runners.image.sources import HOST, MAKE_ONE
from tare.runners.payload import Payload
from tare.runners.vm import acceleration, leftovers
from tare.runners.vm.connection import EMBEDDED, Hypervisor, connect, make_directory
from tare.runners.vm.domain import (
    BALLOONS,
    MACHINES,
    Balloon,
    Cpu,
    DirectBoot,
    Hardware,
    Links,
    Machine,
    command_line,
    domain_xml,
)
from tare.runners.vm.guest import Guest, Inside, running

LAYERS: Layers = ("vm",)
TYPICAL_S = 4.0
Wish = Literal["auto", "kvm", "tcg"]
_WISHES: tuple[Wish, ...] = ("auto", "kvm", "tcg")
OPTIONS: Mapping[str, Option] = {
    "uri": Option(
        f"a local libvirt daemon, such as qemu:///system; default: {EMBEDDED}, libvirt's driver in this process"
    ),
    "accelerator": Option(
        "auto (default): KVM if a probe guest proves it, else emulation; kvm: KVM or nothing; tcg: emulation",
        choices=_WISHES,
    ),
    "kernel": Option(
        "the guest kernel, a bzImage or an ELF file with a PVH note; default: the newest in the cache", file=True
    ),
    "machine": Option("QEMU's machine type; default: q35", choices=MACHINES),
    "root": Option(
        "where the image of a workload of your own is: auto (default): in memory up to a quarter of the grant, else "
        "on a disk; memory; disk",
        choices=workload.ROOTS,
    ),
    "balloon": Option(
        "how the host gets memory back that the guest has freed: none (default): it does not; virtio: when it asks; "
        "free-page-reporting, of itself",
        choices=BALLOONS,
    ),
}
#: Debian's cloud kernel 6.1 boots with this much, and not with 64 MiB.
_LEAST_BYTES = 72 << 20
_numbers = itertools.count(1)
#: The guest's kernel looks for free blocks to report so long after some were freed, and again after as long
#: (mm/page_reporting.c, PAGE_REPORTING_DELAY).
_REPORTING_PAUSE_S = 2.0
_NO_HOST = "its guest has a root of its own, and no part of this host's"
_LOCAL_URI = re.compile(r"qemu:///[a-z]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """The options, read."""

    uri: str
    accelerator: Wish
    kernel: Path | None
    machine: Machine
    balloon: Balloon
    root: workload.Root


def _options(options: Options) -> _Wanted:
    for name, value in options.items():
        if name not in OPTIONS or not isinstance(value, str):
            known = ", ".join(OPTIONS)
            raise RunnerError(
                f"the vm option {name} = {value!r} cannot be used", f"known options, each a text: {known}"
            )
    given = cast(Mapping[str, str], options)
    uri, wish, machine = given.get("uri", EMBEDDED), given.get("accelerator", "auto"), given.get("machine", "q35")
    balloon, root = given.get("balloon", "none"), given.get("root", "auto")
    if not _LOCAL_URI.fullmatch(uri):
        raise RunnerError(
            f"the uri {uri!r} cannot be used",
            "the marks come over a local socket, so the daemon must be on this host",
            "qemu:///system",
        )
    if wish not in _WISHES:
        raise RunnerError(f"there is no accelerator {wish!r}", f"known: {', '.join(_WISHES)}")
    if machine not in MACHINES:
        raise RunnerError(f"there is no machine {machine!r}", f"known: {', '.join(MACHINES)}")
    if balloon not in BALLOONS:
        raise RunnerError(f"there is no balloon {balloon!r}", f"known: {', '.join(BALLOONS)}")
    if root not in workload.ROOTS:
        raise RunnerError(f"there is no root {root!r}", f"known: {', '.join(workload.ROOTS)}")
    kernel = Path(given["kernel"]).expanduser() if "kernel" in given else None
    return _Wanted(uri=uri, accelerator=wish, kernel=kernel, machine=machine, balloon=balloon, root=root)


def probe(options: Options, cache: Path) -> Support:
    """Whether a virtual machine runs here, and how it is accelerated; the first call on a host boots one under KVM."""
    facts: dict[str, str] = {}
    try:
        wanted = _options(options)
        _check_host()
        kernel = find(cache, wanted.kernel)
        facts["guest kernel"] = kernel.describe()
        _drivers(wanted, kernel, cache)
        with leftovers.unmade_machine_cgroups(), connect(wanted.uri, cache) as hypervisor:
            facts["libvirt"] = hypervisor.libvirt_version
            facts["qemu"] = hypervisor.qemu_version
            accelerator, _, facts["kvm"] = _accelerate(hypervisor, wanted, kernel, cache)
            hypervisor.emulator(accelerator, wanted.machine)
    except RunnerError as error:
        return Support(ok=False, why=str(error), fix=error.fix, facts=facts)
    except OSError as error:
        return Support(ok=False, why=str(error), fix="tare doctor", facts=facts)
    reclaims = "" if wanted.balloon == "none" else "its balloon"
    version = f"QEMU {facts['qemu']}, libvirt {facts['libvirt']}, Linux {kernel.release}"
    unreached = (
        network.trouble() if wanted.uri == EMBEDDED else "the option uri: a tap would be in the daemon's network"
    )
    if unreached:
        facts["network"] = f"none: {unreached}"
    return Support(
        ok=True,
        version=version,
        accelerator=accelerator,
        walls=("own kernel",),
        reclaims=reclaims,
        reached="" if unreached else network.REACHED,
        enters="a port of virtio-serial",
        images=(HOST,),
        facts=facts,
    )


def _architecture() -> str:
    return os.uname().machine


def _check_host() -> None:
    if (found := _architecture()) != "x86_64":
        raise RunnerError("the runner vm works only on x86-64", f"this host is {found}", "run it on an x86-64 host")


def _accelerate(hypervisor: Hypervisor, wanted: _Wanted, kernel: Kernel, cache: Path) -> tuple[Accelerator, Cpu, str]:
    """Accelerator, processor model, and what is known of KVM. Raises RunnerError if KVM is demanded and fails."""
    if wanted.accelerator == "tcg":
        return "tcg", "max", "not tried: the scenario asks for emulation"
    with _stage(hypervisor) as directory:
        # The built-in root filesystem, so that the proof is about this host and not about a scenario's files.
        boot = DirectBoot(
            kernel=_reachable(hypervisor, kernel.path, directory),
            initrd=_reachable(hypervisor, initramfs(cache, payload_root(cache)), directory),
            command_line=command_line(Payload().argv, ()),
        )
        proof = acceleration.prove(hypervisor, wanted.machine, kernel, boot, directory=directory, cache=cache)
    if proof.cpu is not None:
        return "kvm", proof.cpu, f"proved: {proof.why} ({proof.cpu} processor)"
    if wanted.accelerator == "kvm":
        raise RunnerError(
            "KVM cannot run a guest on this host",
            proof.why,
            f'{proof.fix}, or accelerator = "tcg", which is another class of result',
        )
    return "tcg", "max", f"not usable: {proof.why}"


@contextmanager
def _stage(hypervisor: Hypervisor) -> Iterator[Path]:
    """A directory that QEMU can read: a daemon runs it as a user who may enter neither $HOME nor mkdtemp's 0700."""
    made = make_directory()
    try:
        if hypervisor.embedded is None:
            made.chmod(0o711)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _reachable(hypervisor: Hypervisor, file: Path, directory: Path) -> Path:
    """*file* itself, or for a daemon a copy in *directory*: libvirt gives what a domain uses to QEMU's user."""
    if hypervisor.embedded is not None:
        return file
    copy = directory / file.name
    shutil.copyfile(file, copy)
    copy.chmod(0o644)
    return copy


@contextmanager
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """Make the initramfs, connect, choose the accelerator; a start is then only libvirt's createXML."""
    wanted = _options(options)
    _check_host()
    _check_spec(spec)
    kernel = find(scratch.cache, wanted.kernel)
    with ExitStack() as stack:
        stack.enter_context(leftovers.unmade_machine_cgroups())
        hypervisor = stack.enter_context(connect(wanted.uri, scratch.cache))
        accelerator, cpu, _ = _accelerate(hypervisor, wanted, kernel, scratch.cache)
        directory = stack.enter_context(_stage(hypervisor))
        hardware = Hardware(
            accelerator=accelerator,
            machine=wanted.machine,
            cpu=cpu,
            cpus=spec.cpus,
            memory_bytes=spec.memory_bytes,
            emulator=hypervisor.emulator(accelerator, wanted.machine),
            balloon=wanted.balloon,
        )
        made: workload.Bootable | None = None
        disk: Path | None = None
        if spec.custom:
            machine = _machine(kernel, wanted.balloon)
            made = stack.enter_context(workload.assembled(spec, machine, wanted.root, scratch.cache))
            image, words = made.initrd, command_line((inside.INIT,), ())
            disk = _reachable(hypervisor, made.disk, directory) if made.disk is not None else None
        else:
            drivers = _drivers(wanted, kernel, scratch.cache)
            image = initramfs(scratch.cache, spec.rootfs, *drivers)
            words = command_line((modules.LOADER, *spec.argv) if drivers else spec.argv, spec.env)
        boot = DirectBoot(
            kernel=_reachable(hypervisor, kernel.path, directory),
            initrd=_reachable(hypervisor, image, directory),
            command_line=words,
        )

        def links(control: Path) -> Links | None:
            if made is None:
                return None
            return Links(control=control, tap=network.TAP if made.networked else "", disk=disk)

        def launch(name: str, mark: Mark) -> AbstractContextManager[Guest]:
            full = name if name.startswith(PREFIX) else f"{scratch.prefix}-{name}"

            control = directory / f"ctl-{next(_numbers)}"

            def describe(console: Path, log: Path) -> str:
                return domain_xml(full, hardware, boot, console=console, log=log, links=links(control))

            entrance = None if made is None else Inside(control=control, asker=made.asker, networked=made.networked)
            return running(hypervisor, full, directory, describe, mark, entrance)

        places = {"console": Path("CONSOLE"), "log": Path("LOG")}
        example = domain_xml(f"{scratch.prefix}-NAME", hardware, boot, **places, links=links(Path("CONTROL")))
        manifest = {"domain.xml": example, "cmdline.txt": f"{boot.command_line}\n"}
        if made is not None:
            manifest["argv.txt"] = shlex.join(spec.argv) + "\n"
        yield Prepared(
            launch=launch,
            manifest=manifest,
            daemon_pids=leftovers.daemons() if hypervisor.embedded is None else frozenset(),
            pause_s=_REPORTING_PAUSE_S if wanted.balloon == "free-page-reporting" else 0.0,
        )


def _machine(kernel: Kernel, balloon: Balloon) -> workload.Machine:
    return workload.Machine(
        devices=inside.Devices(disk="/dev/vda", link="eth0"),
        least_bytes=_LEAST_BYTES,
        modules=kernel.modules,  # a kernel of the user's own comes without
        always=(*(() if balloon == "none" else modules.BALLOON), *modules.CONTROL),
        for_network=modules.NETWORK,
        for_disk=modules.DISK,
    )


def _drivers(wanted: _Wanted, kernel: Kernel, cache: Path) -> tuple[Path, ...]:
    """What the initramfs has besides the root filesystem, for the devices in *wanted*. Raises RunnerError."""
    if wanted.balloon == "none":
        return ()
    if kernel.modules is None:
        raise RunnerError(
            "a balloon needs modules of the guest kernel",
            f"the kernel {kernel.path} was given, and there are no modules for it",
            "leave out the option kernel: the kernel from a package has modules",
        )
    return (modules.tree(kernel.modules, modules.BALLOON, cache),)


def _check_spec(spec: Spec) -> None:
    if spec.memory_bytes < _LEAST_BYTES:
        raise RunnerError(
            f"{spec.memory_bytes >> 20} MiB are not enough for a virtual machine",
            f"its kernel needs {_LEAST_BYTES >> 20} MiB to boot",
            "raise memory_mib",
        )
    if spec.image.source == HOST:
        raise RunnerError("a virtual machine cannot take the image host", _NO_HOST, MAKE_ONE)
    if not spec.custom and not os.path.lexists(spec.rootfs / spec.argv[0].lstrip("/")):
        raise RunnerError(
            f"there is no {spec.argv[0]} in {spec.rootfs}",
            "a virtual machine starts the program by its path in the root filesystem",
            "give the path of a file in it",
        )


def sweep() -> Sequence[str]:
    """Kill the QEMUs of runs that have ended; remove their cgroups and directories."""
    return leftovers.sweep()


__all__ = ["LAYERS", "OPTIONS", "TYPICAL_S", "prepare", "probe", "sweep"]
