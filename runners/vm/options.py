"""The options of the runner, as a scenario gives them, and as they are understood."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from tare.runners.base import Option, Options, RunnerError
from tare.runners.guest import inside, workload
from tare.runners.vm.connection import EMBEDDED
from tare.runners.vm.domain import BALLOONS, BUSES, CACHES, FIRMWARES, MACHINES, Balloon, Bus, Cache, Firmware, Machine

#: How a machine starts. ``direct``: QEMU puts a kernel and an initramfs into its memory; ``direct-disk``: the same, and
#: the root is a file system on a disk; ``disk``: firmware, a boot loader and the kernel of a whole system on a disk;
#: ``cloud``: the same with a disk of the user's, which is told by a NoCloud seed what it is; ``restore``: a state that
#: was saved once is loaded.
Boot = Literal["direct", "direct-disk", "disk", "cloud", "restore"]
BOOTS: tuple[Boot, ...] = ("direct", "direct-disk", "disk", "cloud", "restore")
#: Of which boot a state can be saved.
SAVED: tuple[Boot, ...] = ("direct", "direct-disk", "disk", "cloud")
#: Those that start what is on a disk, by firmware.
FROM_DISK: frozenset[Boot] = frozenset(("disk", "cloud"))

#: How an instance gets a disk of its own: all of the image copied; a file that holds what differs from it; or a copy
#: that shares its blocks until they are written to.
Provision = Literal["overlay", "copy", "reflink"]
PROVISIONS: tuple[Provision, ...] = ("overlay", "copy", "reflink")

#: How a machine is connected: by a tap device where a port is asked for (auto), not at all, by QEMU's own network (out
#: of the machine only), or by a tap device in any case.
Network = Literal["auto", "none", "user", "tap"]
NETWORKS: tuple[Network, ...] = ("auto", "none", "user", "tap")

Wish = Literal["auto", "kvm", "tcg"]
_WISHES: tuple[Wish, ...] = ("auto", "kvm", "tcg")
_ANSWERS = ("no", "yes")
_LOCAL_URI = re.compile(r"qemu:///[a-z]+")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

OPTIONS: Mapping[str, Option] = {
    "uri": Option(
        f"a local libvirt daemon, such as qemu:///system; default: {EMBEDDED}, libvirt's driver in this process"
    ),
    "accelerator": Option(
        "auto (default): KVM if a probe guest proves it, else emulation; kvm: KVM or nothing; tcg: emulation",
        choices=_WISHES,
    ),
    "boot": Option(
        "direct (default): a kernel and an initramfs; direct-disk: a kernel, and a root file system on a disk; disk: a "
        "whole system by firmware and boot loader; cloud: a disk of your own with cloud-init; restore: a saved state",
        choices=BOOTS,
    ),
    "saved": Option(
        "with boot = restore: the boot whose state is saved once, and restored at each start; default: direct",
        choices=SAVED,
    ),
    "firmware": Option(
        "with boot = disk or cloud: bios (default; SeaBIOS) or efi (OVMF, package ovmf)", choices=FIRMWARES
    ),
    "provision": Option(
        "with boot = disk or cloud: how each instance gets its disk: overlay (default; qcow2), copy (all of it), "
        "reflink (a copy that shares blocks, on a file system that has it)",
        choices=PROVISIONS,
    ),
    "disk_bus": Option(
        "how a disk is attached: virtio (default), sata (machine q35), ide (machine pc), scsi (virtio-scsi)",
        choices=BUSES,
    ),
    "disk_cache": Option("QEMU's cache mode of a disk that is written to; default: writeback", choices=CACHES),
    "user_data": Option("with boot = cloud: the user-data of cloud-init; default: none but a final message", file=True),
    "network": Option(
        "auto (default): a tap device where the workload has a port; none; user: QEMU's own, only out of the machine; "
        "tap",
        choices=NETWORKS,
    ),
    "timeline": Option(
        "stamp how far the guest is, by its kernel's console: firmware, kernel, initramfs, init; default: yes, but no "
        "with boot = direct, whose kernel then says more",
        choices=_ANSWERS,
    ),
    "kernel": Option(
        "the guest kernel, a bzImage or an ELF file with a PVH note; default: the newest in the cache", file=True
    ),
    "machine": Option("QEMU's machine type; default: q35", choices=MACHINES),
    "cpu": Option(
        "the processor that the guest sees: host, host-plain, max, or a model that libvirt knows, such as "
        "Haswell-noTSX; default: host under KVM, max under emulation"
    ),
    "hugepages": Option("whether the guest's memory is of the host's reserved huge pages", choices=_ANSWERS),
    "root": Option(
        "with boot = direct, where the image of a workload of your own is: auto (default): in memory up to a quarter "
        "of the grant, else on a disk; memory; disk",
        choices=workload.ROOTS,
    ),
    "balloon": Option(
        "how the host gets memory back that the guest has freed: none (default): it does not; virtio: when it asks; "
        "free-page-reporting, of itself",
        choices=BALLOONS,
    ),
}


#: About how long a start takes when emulated, in seconds: of a single program, and of a whole system.
_TYPICAL_S: Mapping[str, tuple[float, float]] = {
    "direct": (3.0, 14.0),
    "direct-disk": (2.5, 11.0),
    "disk": (12.0, 17.0),
    "cloud": (60.0, 60.0),
    "restore": (0.8, 0.8),
}


def typical_s(options: Options, argv: tuple[str, ...]) -> float:
    """About how long one start and stop of *argv* takes, emulated, in seconds."""
    program, system = _TYPICAL_S[str(options.get("boot", "direct"))]
    return system if argv and Path(argv[0]).name in inside.INITS else program


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The options, read. ``boot`` is never ``restore``: ``restored`` says that, and ``boot`` which one was saved."""

    uri: str
    accelerator: Wish
    boot: Boot
    restored: bool
    firmware: Firmware
    provision: Provision
    disk_bus: Bus
    disk_cache: Cache
    user_data: Path | None
    network: Network
    timeline: bool
    kernel: Path | None
    machine: Machine
    cpu: str
    hugepages: bool
    balloon: Balloon
    root: workload.Root

    @property
    def from_disk(self) -> bool:
        """Whether firmware starts what is on a disk."""
        return self.boot in FROM_DISK


def read(options: Options) -> Wanted:
    """*options*, understood. Raises RunnerError for one that cannot be used, or has no effect beside the others."""
    for name, value in options.items():
        if name not in OPTIONS or not isinstance(value, str):
            known = ", ".join(OPTIONS)
            raise RunnerError(
                f"the vm option {name} = {value!r} cannot be used", f"known options, each a text: {known}"
            )
        choices = OPTIONS[name].choices
        if choices and value not in choices:
            raise RunnerError(f"there is no {name} {value!r}", f"known: {', '.join(choices)}")
    given = cast(Mapping[str, str], options)
    uri, said = given.get("uri", EMBEDDED), cast(Boot, given.get("boot", "direct"))
    if not _LOCAL_URI.fullmatch(uri):
        raise RunnerError(
            f"the uri {uri!r} cannot be used",
            "the marks come over a local socket, disks are files of this host, and memory and processor time are read "
            "of this host's kernel: so the daemon must be here, at its usual socket",
            "qemu:///system or qemu:///session; to measure another host, run tare there",
        )
    boot = cast(Boot, given.get("saved", "direct")) if said == "restore" else said
    wanted = Wanted(
        uri=uri,
        accelerator=cast(Wish, given.get("accelerator", "auto")),
        boot=boot,
        restored=said == "restore",
        firmware=cast(Firmware, given.get("firmware", "bios")),
        provision=cast(Provision, given.get("provision", "overlay")),
        disk_bus=cast(Bus, given.get("disk_bus", "virtio")),
        disk_cache=cast(Cache, given.get("disk_cache", "writeback")),
        user_data=_path(given, "user_data"),
        network=cast(Network, given.get("network", "auto")),
        timeline=given.get("timeline", "no" if boot == "direct" or said == "restore" else "yes") == "yes",
        kernel=_path(given, "kernel"),
        machine=cast(Machine, given.get("machine", "q35")),
        cpu=given.get("cpu", ""),
        hugepages=given.get("hugepages") == "yes",
        balloon=cast(Balloon, given.get("balloon", "none")),
        root=cast(workload.Root, given.get("root", "disk" if boot == "direct-disk" else "auto")),
    )
    _agree(wanted, given)
    return wanted


def _path(given: Mapping[str, str], name: str) -> Path | None:
    return Path(given[name]).expanduser() if name in given else None


def _agree(wanted: Wanted, given: Mapping[str, str]) -> None:
    """Raise RunnerError for an option that has no effect, in which somebody might believe."""
    boot = f"boot = {wanted.boot}"
    faults = {
        "saved": not wanted.restored and "it says what boot = restore restores",
        "firmware": not wanted.from_disk and f"{boot} has none that could be chosen: QEMU starts the kernel itself",
        "provision": not wanted.from_disk and f"{boot} has no disk that is written to",
        "disk_cache": not wanted.from_disk and f"{boot} has no disk that is written to",
        "user_data": wanted.boot != "cloud" and f"{boot} runs no cloud-init",
        "root": wanted.boot != "direct" and f"{boot} has its root on a disk",
        "kernel": wanted.from_disk and f"{boot} starts the kernel that is on the disk",
        "timeline": wanted.restored and given.get("timeline") == "yes" and "a state that is restored does not boot",
        "balloon": wanted.from_disk and wanted.balloon != "none" and f"{boot} has no balloon yet",
        "disk_bus": wanted.boot == "direct" and "the root of boot = direct is in memory; say boot = direct-disk",
    }
    for name, why in faults.items():
        if why and name in given:
            raise RunnerError(f"the vm option {name} = {given[name]!r} has no effect", why, f"leave {name} out")
    if wanted.boot == "direct-disk" and wanted.disk_bus != "virtio":
        why = "the initramfs of boot = direct-disk has a driver for virtio alone"
        raise RunnerError(f"the vm option disk_bus = {wanted.disk_bus!r} cannot be used", why, "boot = disk takes any")
    if wanted.disk_bus == "ide" and wanted.machine != "pc":
        raise RunnerError("the machine q35 has no ide disks", "its chipset has SATA alone", 'disk_bus = "sata"')
    if wanted.cpu and not _MODEL.fullmatch(wanted.cpu):
        raise RunnerError(f"there is no processor {wanted.cpu!r}", "a model's name has letters, digits, - _ and .")
