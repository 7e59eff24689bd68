"""The virtual machine: a Linux kernel, or a whole system, started by QEMU through libvirt."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tare.runners.base import (
    PREFIX,
    Accelerator,
    Layers,
    Mark,
    Options,
    Original,
    Prepared,
    RunnerError,
    Scratch,
    Spec,
    Support,
)
from tare.runners.guest import network
from tare.runners.image.kernel import Kernel, find
from tare.runners.image.sources import HOST, MAKE_ONE
from tare.runners.vm import acceleration, leftovers
from tare.runners.vm.connection import EMBEDDED, Hypervisor, connect
from tare.runners.vm.domain import Cpu, Hardware, Links, domain_xml
from tare.runners.vm.guest import Guest, Inside, Manner, running
from tare.runners.vm.machines import NOTHING, Further, Own, Recipe, cloud, direct, system
from tare.runners.vm.machines.place import stage
from tare.runners.vm.machines.saved import SavedState
from tare.runners.vm.options import OPTIONS, Wanted, read, typical_s

LAYERS: Layers = ("vm",)
TYPICAL_S = 4.0
_numbers = itertools.count(1)
#: The guest's kernel looks for free blocks to report so long after some were freed, and again after as long
#: (mm/page_reporting.c, PAGE_REPORTING_DELAY).
_REPORTING_PAUSE_S = 2.0
_BY_DAEMON = "the request goes through it, so its part is in created_seconds; the marks come as without it"
_NO_HOST = "its guest has a root of its own, and no part of this host's"


def probe(options: Options, cache: Path) -> Support:
    """Whether a virtual machine runs here, and how it is accelerated; the first call on a host boots one under KVM."""
    facts: dict[str, str] = {}
    try:
        wanted = read(options)
        _check_host()
        kernel = _kernel(wanted, cache)
        facts["guest kernel"] = kernel.describe() if kernel else "that of the disk"
        if wanted.from_disk:
            system.variables(wanted.firmware)
        else:
            direct.added(wanted, find(cache, wanted.kernel), cache)
        with leftovers.unmade_machine_cgroups(), connect(wanted.uri, cache) as hypervisor:
            facts["libvirt"] = hypervisor.libvirt_version
            if hypervisor.embedded is None:
                facts["daemon"] = f"{wanted.uri}: {_BY_DAEMON}"
            facts["qemu"] = hypervisor.qemu_version
            accelerator, _, facts["kvm"] = _accelerate(hypervisor, wanted, kernel, cache)
            hypervisor.emulator(accelerator, wanted.machine)
    except RunnerError as error:
        return Support(ok=False, why=str(error), fix=error.fix, facts=facts)
    except OSError as error:
        return Support(ok=False, why=str(error), fix="tare doctor", facts=facts)
    reclaims = "" if wanted.balloon == "none" else "its balloon"
    started = f"Linux {kernel.release}" if kernel and not wanted.from_disk else f"a disk by {wanted.firmware}"
    version = f"QEMU {facts['qemu']}, libvirt {facts['libvirt']}, {started}"
    unreached = _unreached(wanted)
    if unreached:
        facts["network"] = f"none: {unreached}"
    return Support(
        ok=True,
        version=version,
        accelerator=accelerator,
        walls=("own kernel",),
        reclaims=reclaims,
        reached="" if unreached else network.REACHED,
        enters="" if wanted.boot == "cloud" else "a port of virtio-serial",
        images=(HOST,),
        disks=wanted.boot == "cloud",
        facts=facts,
    )


def _unreached(wanted: Wanted) -> str:
    """Why a port of a guest is not reached; empty if it is."""
    if wanted.network in ("none", "user"):
        return f"the option network = {wanted.network}"
    if wanted.uri != EMBEDDED:
        return "the option uri: a tap would be in the daemon's network"
    return network.trouble()


def _kernel(wanted: Wanted, cache: Path) -> Kernel | None:
    """The kernel that guests start, or a probe guest; None where there is neither. Raises RunnerError."""
    if wanted.from_disk and wanted.accelerator == "tcg":
        return None
    return find(cache, wanted.kernel)


def _architecture() -> str:
    return os.uname().machine


def _check_host() -> None:
    if (found := _architecture()) != "x86_64":
        raise RunnerError("the runner vm works only on x86-64", f"this host is {found}", "run it on an x86-64 host")


def _accelerate(
    hypervisor: Hypervisor, wanted: Wanted, kernel: Kernel | None, cache: Path
) -> tuple[Accelerator, Cpu, str]:
    """Accelerator, processor model, and what is known of KVM. Raises RunnerError if KVM is demanded and fails."""
    accelerator, cpu, known = _proved(hypervisor, wanted, kernel, cache)
    if not wanted.cpu:
        return accelerator, cpu, known
    if wanted.cpu in ("host", "host-plain") and accelerator == "tcg":
        raise RunnerError(f"the guest cannot have the processor {wanted.cpu}", "it is emulated", 'cpu = "max"')
    if wanted.cpu not in ("host", "host-plain", "max") and wanted.cpu not in (models := hypervisor.models()):
        close = ", ".join(sorted(one for one in models if one[:3].lower() == wanted.cpu[:3].lower())[:8])
        raise RunnerError(f"libvirt knows no processor {wanted.cpu}", f"near: {close or ', '.join(sorted(models)[:8])}")
    return accelerator, wanted.cpu, known


def _proved(hypervisor: Hypervisor, wanted: Wanted, kernel: Kernel | None, cache: Path) -> tuple[Accelerator, Cpu, str]:
    if wanted.accelerator == "tcg" or kernel is None:
        return "tcg", "max", "not tried: the scenario asks for emulation"
    proof = acceleration.by_guest(hypervisor, wanted.machine, kernel, cache)
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
def prepare(spec: Spec, options: Options, scratch: Scratch) -> Iterator[Prepared]:
    """Make what is started from, connect, choose the accelerator; a start is then only what an instance has alone."""
    with opened(spec, options, scratch) as prepared:
        yield prepared


@contextmanager
def opened(spec: Spec, options: Options, scratch: Scratch, further: Further = NOTHING) -> Iterator[Prepared]:
    """See :func:`prepare`, of machines that have something *further*. Its launch yields a :class:`Guest`."""
    wanted = read(options)
    _check_host()
    _check_spec(spec)
    kernel = _kernel(wanted, scratch.cache)
    if wanted.hugepages:
        _check_hugepages(spec.memory_bytes)
    with ExitStack() as stack:
        stack.enter_context(leftovers.unmade_machine_cgroups())
        hypervisor = stack.enter_context(connect(wanted.uri, scratch.cache))
        accelerator, cpu, _ = _accelerate(hypervisor, wanted, kernel, scratch.cache)
        directory = stack.enter_context(stage(hypervisor))
        hardware = Hardware(
            accelerator=accelerator,
            machine=wanted.machine,
            cpu=cpu,
            cpus=spec.cpus,
            memory_bytes=spec.memory_bytes,
            emulator=hypervisor.emulator(accelerator, wanted.machine),
            balloon=wanted.balloon,
            hugepages=wanted.hugepages,
        )
        tap = wanted.network == "tap" or (wanted.network == "auto" and bool(spec.ports))
        if wanted.boot == "disk":
            recipe = stack.enter_context(system.recipe(spec, wanted, hypervisor, scratch.cache, tap=tap))
        elif wanted.boot == "cloud":
            recipe = stack.enter_context(cloud.recipe(spec, wanted, hypervisor, scratch.cache, tap=tap))
        else:
            kernel = find(scratch.cache, wanted.kernel)
            recipe = stack.enter_context(
                direct.recipe(spec, wanted, kernel, hypervisor, directory, scratch.cache, tap=tap, further=further)
            )
        machines = _Machines(hypervisor, hardware, recipe, wanted, directory, further.ports)

        def named(name: str) -> str:
            return name if name.startswith(PREFIX) else f"{scratch.prefix}-{name}"

        def launch(name: str, mark: Mark) -> AbstractContextManager[Guest]:
            return machines.started(named(name), mark, recipe.own)

        original = None
        if wanted.restored:
            place = stack.enter_context(stage(hypervisor, scratch.cache))
            saved = SavedState(hypervisor, recipe, wanted.provision, place)
            original = Original(
                launch=lambda name, mark: machines.started(named(name), mark, saved.original), keep=saved.keep
            )
            launch = lambda name, mark: machines.started(named(name), mark, saved.own)  # noqa: E731
        yield Prepared(
            launch=launch,
            manifest={**machines.manifest(f"{scratch.prefix}-NAME"), **recipe.manifest},
            daemon_pids=leftovers.daemons() if hypervisor.embedded is None else frozenset(),
            pause_s=_REPORTING_PAUSE_S if wanted.balloon == "free-page-reporting" else 0.0,
            original=original,
        )


class _Machines:
    """Starts the instances of one subject."""

    def __init__(
        self, hypervisor: Hypervisor, hardware: Hardware, recipe: Recipe, wanted: Wanted, directory: Path, ports: int
    ) -> None:
        self._hypervisor, self._hardware, self._recipe = hypervisor, hardware, recipe
        self._wanted, self._directory, self._ports = wanted, directory, ports

    @contextmanager
    def started(
        self, name: str, mark: Mark, provisioned: Callable[[str, Mark], AbstractContextManager[Own]]
    ) -> Iterator[Guest]:
        """The instance *name*, from its provisioning to the removal of what was provisioned."""
        recipe = self._recipe
        with provisioned(name, mark) as own:
            ports = self._sockets(self._directory / f"ctl-{next(_numbers)}")

            def describe(console: Path, log: Path) -> str:
                return self._xml(name, own, console, log, ports)

            inside = None
            if recipe.custom:
                inside = Inside(
                    control=next(iter(ports), None), asker=recipe.asker, networked=recipe.networked, further=ports[1:]
                )
            manner = Manner(
                begin=own.begin,
                timeline=self._wanted.timeline,
                system=recipe.system,
                asked=own.asked,
                phones=recipe.phones,
                files=own.files,
                made_bytes=own.made_bytes,
            )
            with running(self._hypervisor, name, self._directory, describe, mark, inside, manner) as guest:
                yield guest

    def manifest(self, name: str) -> dict[str, str]:
        """The XML of an instance, in which names stand for what differs; and one that virsh starts as it is."""
        own, hand = self._recipe.shown, self._recipe.by_hand
        ports = self._sockets(Path("CONTROL"))
        texts = {"domain.xml": self._xml(name, own, Path("CONSOLE"), Path("LOG"), ports)}
        if hand is not None:
            texts["virsh.xml"] = domain_xml(
                "tare-by-hand", self._hardware, hand.boot, console=None, log=None, links=Links(disks=hand.disks)
            )
        return texts

    def _sockets(self, first: Path) -> tuple[Path, ...]:
        if not self._recipe.asker:
            return ()
        return (first, *(first.with_name(f"{first.name}-{number}") for number in range(2, self._ports + 1)))

    def _xml(self, name: str, own: Own, console: Path, log: Path, ports: tuple[Path, ...]) -> str:
        recipe = self._recipe
        links = Links(
            ports=ports,
            tap=network.TAP if recipe.networked else "",
            user=self._wanted.network == "user",
            disks=own.disks,
        )
        return domain_xml(name, self._hardware, own.boot, console=console, log=log, links=links)


def _check_hugepages(memory_bytes: int, meminfo: Path = Path("/proc/meminfo")) -> None:
    """Raise RunnerError unless the host has reserved huge pages for one guest, and a place to get them."""
    said = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
    size = int(said.get("Hugepagesize", "0 kB").split()[0]) << 10
    free = int(said.get("HugePages_Free", "0"))
    needed = -(-memory_bytes // size) if size else 0
    if not size or free < needed:
        why = f"{free} of {size >> 10} KiB are free, {needed} are needed for each instance"
        raise RunnerError("there are not enough huge pages", why, f"sysctl vm.nr_hugepages={needed} (for one instance)")
    if not any(line.split()[2:3] == ["hugetlbfs"] for line in Path("/proc/mounts").read_text().splitlines()):
        fix = "mkdir -p /dev/hugepages; mount -t hugetlbfs none /dev/hugepages"
        raise RunnerError("QEMU cannot get huge pages", "no hugetlbfs is mounted", fix)


def _check_spec(spec: Spec) -> None:
    if spec.memory_bytes < direct.LEAST_BYTES:
        raise RunnerError(
            f"{spec.memory_bytes >> 20} MiB are not enough for a virtual machine",
            f"its kernel needs {direct.LEAST_BYTES >> 20} MiB to boot",
            "raise memory_mib",
        )
    if spec.image.source == HOST:
        raise RunnerError("a virtual machine cannot take the image host", _NO_HOST, MAKE_ONE)
    if spec.argv and not spec.custom and not os.path.lexists(spec.rootfs / spec.argv[0].lstrip("/")):
        raise RunnerError(
            f"there is no {spec.argv[0]} in {spec.rootfs}",
            "a virtual machine starts the program by its path in the root filesystem",
            "give the path of a file in it",
        )


def sweep() -> Sequence[str]:
    """Kill the QEMUs of runs that have ended; remove their cgroups and directories."""
    return leftovers.sweep()


__all__ = ["LAYERS", "OPTIONS", "TYPICAL_S", "prepare", "probe", "sweep", "typical_s"]
