"""The virtual machine as data: libvirt's domain XML and the guest kernel's command line. Pure; needs no libvirt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree as ET

from tare.runners.base import Accelerator, RunnerError

Machine = Literal["q35", "pc"]
MACHINES: tuple[Machine, ...] = ("q35", "pc")

#: What the guest sees as its processor. ``host`` needs KVM; ``host-plain`` is the same without ARCH_CAPABILITIES, for
#: hosts whose KVM offers that register and then refuses to have it set (QEMU aborts: "failed to set MSR 0x10a");
#: ``max`` is all that QEMU can emulate. Any other text is a model that libvirt knows.
Cpu = str

Firmware = Literal["bios", "efi"]
FIRMWARES: tuple[Firmware, ...] = ("bios", "efi")

Bus = Literal["virtio", "sata", "ide", "scsi"]
BUSES: tuple[Bus, ...] = ("virtio", "sata", "ide", "scsi")
#: How the names of a bus's disks begin, in libvirt's words.
_LETTERS: dict[Bus, str] = {"virtio": "vd", "sata": "sd", "ide": "hd", "scsi": "sd"}

Format = Literal["raw", "qcow2"]

#: QEMU's cache modes; ``none`` goes around the host's page cache, which a tmpfs has no means for.
Cache = Literal["writeback", "none", "writethrough", "directsync", "unsafe"]
CACHES: tuple[Cache, ...] = ("writeback", "none", "writethrough", "directsync", "unsafe")

#: How memory that the guest does not use gets back to the host: not at all; by a virtio balloon, which takes what the
#: host asks for; or by free page reporting (virtio 1.2, 5.5.6.7), by which the guest reports it by itself.
Balloon = Literal["none", "virtio", "free-page-reporting"]
BALLOONS: tuple[Balloon, ...] = ("none", "virtio", "free-page-reporting")

#: COMMAND_LINE_SIZE of x86 (arch/x86/include/asm/setup.h), the final NUL included.
COMMAND_LINE_BYTES = 2048
#: CONFIG_INIT_ENV_ARG_LIMIT (init/Kconfig): the kernel panics beyond it. HOME and TERM take two of the environment's.
_INIT_WORDS = 32
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """What the guest runs on. ``emulator`` is QEMU's path, as libvirt found it; see :data:`Balloon`."""

    accelerator: Accelerator
    machine: Machine
    cpu: Cpu
    cpus: int
    memory_bytes: int
    emulator: str
    balloon: Balloon = "none"
    hugepages: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One disk: a file of the host, in the order in which the guest counts them.

    ``cache`` is empty for libvirt's default; ``serial`` is what the guest sees as its serial number. What is written
    to a ``transient`` one is lost at the guest's end.
    """

    path: Path
    format: Format = "raw"
    bus: Bus = "virtio"
    cache: Cache | Literal[""] = ""
    read_only: bool = False
    serial: str = ""
    transient: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What a guest has besides: paths and names on the host.

    ``ports`` are unix sockets that QEMU makes, each the other end of a port of virtio-serial, which the guest counts
    from 1; ``tap`` names a tap device
    that is there already; ``user`` asks for QEMU's own network instead.
    """

    ports: tuple[Path, ...] = ()
    tap: str = ""
    user: bool = False
    disks: tuple[Disk, ...] = ()


#: The guest's network device, the only one on its network.
HARDWARE_ADDRESS = "52:54:00:74:61:72"


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectBoot:
    """Start a Linux kernel without a boot loader."""

    kernel: Path
    initrd: Path
    command_line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareBoot:
    """Let firmware start the first of the disks.

    For UEFI ``loader`` is its program, and ``variables`` a file of this guest's own; where that is not there, libvirt
    makes it from ``empty``. None of them for BIOS.
    """

    loader: Path | None = None
    variables: Path | None = None
    empty: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskBoot:
    """Let the firmware start the first sector of a raw disk image: the shortest way to run a few instructions."""

    image: Path


def domain_xml(
    name: str,
    hardware: Hardware,
    boot: DirectBoot | DiskBoot | FirmwareBoot,
    *,
    console: Path | None,
    log: Path | None,
    links: Links | None = None,
) -> str:
    """The domain *name*, with two serial ports, *links*, and nothing else that a Linux guest could do without.

    ttyS0, the kernel's console and the payload's standard streams, is a connection to the unix socket *log*; ttyS1,
    where the payload's marks go, is one to *console*. Both must be listening. To a file QEMU would write
    without limit. Where one is None, the port is a terminal that libvirt makes (``virsh console``).
    Source of the format: https://libvirt.org/formatdomain.html
    """
    domain = ET.Element("domain", type="kvm" if hardware.accelerator == "kvm" else "qemu")
    _text(domain, "name", name)
    _text(domain, "memory", str(hardware.memory_bytes), unit="b")
    if hardware.hugepages:
        ET.SubElement(ET.SubElement(domain, "memoryBacking"), "hugepages")
    _text(domain, "vcpu", str(hardware.cpus))
    system = ET.SubElement(domain, "os")
    _text(system, "type", "hvm", arch="x86_64", machine=hardware.machine)
    if isinstance(boot, DirectBoot):
        _text(system, "kernel", str(boot.kernel))
        _text(system, "initrd", str(boot.initrd))
        _text(system, "cmdline", boot.command_line)
    elif isinstance(boot, FirmwareBoot):
        _firmware(system, boot)
    else:
        ET.SubElement(system, "boot", dev="hd")
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")  # without it a guest cannot switch itself off
    ET.SubElement(features, "apic")
    _processor(domain, hardware.cpu)
    ET.SubElement(domain, "clock", offset="utc")
    for event in ("on_poweroff", "on_reboot", "on_crash"):
        _text(domain, event, "destroy")
    devices = _devices(domain, hardware, boot, console=console, log=log)
    if links is not None:
        _links(devices, links)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _firmware(system: ET.Element, boot: FirmwareBoot) -> None:
    if boot.loader is not None:
        _text(system, "loader", str(boot.loader), readonly="yes", type="pflash")
        _text(system, "nvram", str(boot.variables), **({"template": str(boot.empty)} if boot.empty else {}))
    ET.SubElement(system, "boot", dev="hd")
    if boot.loader is None:
        ET.SubElement(system, "bios", useserial="yes")  # SeaBIOS then says on ttyS0 what it starts, as OVMF does


def _processor(domain: ET.Element, cpu: Cpu) -> None:
    if cpu == "max":
        ET.SubElement(domain, "cpu", mode="maximum")
        return
    if cpu not in ("host", "host-plain"):
        model = ET.SubElement(domain, "cpu", mode="custom", match="exact", check="none")
        _text(model, "model", cpu, fallback="forbid")
        return
    element = ET.SubElement(domain, "cpu", mode="host-passthrough", check="none")
    if cpu == "host-plain":
        ET.SubElement(element, "feature", name="arch-capabilities", policy="disable")


def _devices(
    domain: ET.Element, hardware: Hardware, boot: DirectBoot | DiskBoot | FirmwareBoot, *, console: Path | None,
    log: Path | None,
) -> ET.Element:  # fmt: skip
    devices = ET.SubElement(domain, "devices")
    _text(devices, "emulator", hardware.emulator)
    # libvirt adds both unless told not to; each costs memory, and time in the guest's start.
    ET.SubElement(devices, "controller", type="usb", model="none")
    _balloon(devices, hardware.balloon)
    if isinstance(boot, DiskBoot):
        disk = ET.SubElement(devices, "disk", type="file", device="disk")
        ET.SubElement(disk, "driver", name="qemu", type="raw")
        ET.SubElement(disk, "source", file=str(boot.image))
        ET.SubElement(disk, "target", dev="sda", bus="sata" if hardware.machine == "q35" else "ide")
    for port, path in enumerate((log, console)):
        serial = ET.SubElement(devices, "serial", type="pty" if path is None else "unix")
        if path is not None:
            ET.SubElement(serial, "source", {"mode": "connect", "path": str(path)})
        ET.SubElement(serial, "target", type="isa-serial", port=str(port))
    return devices


def _links(devices: ET.Element, links: Links) -> None:
    if links.ports:
        _place(ET.SubElement(devices, "controller", type="virtio-serial", index="0"), 0x04)
    for number, port in enumerate(links.ports, start=1):
        channel = ET.SubElement(devices, "channel", type="unix")
        ET.SubElement(channel, "source", mode="bind", path=str(port))
        # A name of its own: by it a restored domain's socket is found.
        ET.SubElement(channel, "target", type="virtio", name="tare" if number == 1 else f"tare{number}")
        ET.SubElement(channel, "address", type="virtio-serial", controller="0", bus="0", port=str(number))
    if links.tap or links.user:
        interface = ET.SubElement(devices, "interface", type="ethernet" if links.tap else "user")
        ET.SubElement(interface, "mac", address=HARDWARE_ADDRESS)
        if links.tap:
            # Not made by libvirt, which would remove it in the namespace of whoever destroys the domain.
            ET.SubElement(interface, "target", dev=links.tap, managed="no")
        ET.SubElement(interface, "model", type="virtio")
        ET.SubElement(interface, "rom", enabled="no")  # nothing is booted from it; the firmware would run it
        _place(interface, 0x05)
    if any(disk.bus == "scsi" for disk in links.disks):
        _place(ET.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi"), 0x0A)
    for place, disk in enumerate(links.disks):
        _disk(devices, disk, place, [before.bus for before in links.disks[:place]])


def _disk(devices: ET.Element, disk: Disk, place: int, before: Sequence[Bus]) -> None:
    element = ET.SubElement(devices, "disk", type="file", device="disk")
    driver = ET.SubElement(element, "driver", name="qemu", type=disk.format)
    if disk.cache:
        driver.set("cache", disk.cache)
    ET.SubElement(element, "source", file=str(disk.path))
    letters = _LETTERS[disk.bus]
    number = sum(_LETTERS[bus] == letters for bus in before)
    ET.SubElement(element, "target", dev=f"{letters}{'abcdefgh'[number]}", bus=disk.bus)
    if disk.read_only:
        ET.SubElement(element, "readonly")
    if disk.transient:
        ET.SubElement(element, "transient")
    if disk.serial:
        _text(element, "serial", disk.serial)
    if disk.bus == "virtio":
        _place(element, 0x06 + place)


def _place(device: ET.Element, slot: int) -> None:
    """On the root bus: libvirt would add a PCI Express port for it, and the guest would find that first."""
    place = {"domain": "0x0000", "bus": "0x00", "slot": f"{slot:#04x}", "function": "0x0"}
    ET.SubElement(device, "address", {"type": "pci", **place})


def _balloon(devices: ET.Element, balloon: Balloon) -> None:
    if balloon == "none":
        ET.SubElement(devices, "memballoon", model="none")
        return
    device = ET.SubElement(devices, "memballoon", model="virtio")
    if balloon == "free-page-reporting":
        device.set("freePageReporting", "on")
    _place(device, 0x03)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leads:
    """How a kind of machine is heard, and how its kernel ends it.

    ``console`` is the serial line of what it runs, and ``ending`` the kernel's words about the end of a machine. One
    that ``restarts`` has no way to switch itself off: its monitor takes a restart for the end.
    """

    console: str = "/dev/ttyS1"
    ending: tuple[str, ...] = ("reboot=t",)
    restarts: bool = False


OF_QEMU = Leads()


def command_line(
    argv: Sequence[str], env: Iterable[tuple[str, str]], *, told: bool = False, leads: Leads = OF_QEMU
) -> str:
    """The kernel's command line that runs *argv* as the first process of the initramfs, with *env* added.

    The kernel hands KEY=VALUE words that it does not know to init as environment, and what follows ``--`` as arguments
    (Documentation/admin-guide/kernel-parameters.rst). ``panic=-1`` and *leads* end a guest that crashed at once
    instead of leaving it hanging. A kernel that is *told* to says on ttyS0 that it runs, from its first lines on, and
    what else is a notice or graver. Raises RunnerError for what cannot be said in this way.
    """
    given = [("TARE_CONSOLE", leads.console), ("TARE_VM", "restart" if leads.restarts else "1"), *env]
    if len(given) + 2 > _INIT_WORDS or len(argv) > _INIT_WORDS:
        raise RunnerError(
            "the payload's arguments do not fit on the kernel's command line",
            f"{len(given)} variables and {len(argv)} arguments; Linux passes {_INIT_WORDS - 2} and {_INIT_WORDS}",
            "pass fewer or shorter arguments",
        )
    speech = ["earlyprintk=ttyS0,115200", "loglevel=6"] if told else ["quiet"]
    words = ["console=ttyS0", *speech, "panic=-1", *leads.ending, f"rdinit={_quoted(argv[0])}"]
    for key, value in given:
        if not _ENV_NAME.fullmatch(key):
            raise RunnerError(
                f"the variable {key!r} cannot be passed to a virtual machine",
                "the guest kernel could use it as a parameter of its own",
                "use capital letters, digits and _",
            )
        words.append(f"{key}={_quoted(value)}")
    line = " ".join([*words, "--", *map(_quoted, argv[1:])])
    size_bytes = len(line.encode()) + 1
    if size_bytes > COMMAND_LINE_BYTES:
        raise RunnerError(
            "the kernel's command line is too long",
            f"{size_bytes} bytes; {COMMAND_LINE_BYTES} fit",
            "pass fewer or shorter arguments",
        )
    return line


def _quoted(word: str) -> str:
    """*word* as the kernel's next_arg() reads it back (lib/cmdline.c): spaces within double quotes, no escapes."""
    if '"' in word or not word.isprintable():
        raise RunnerError(
            f"the word {word!r} cannot be passed to a virtual machine",
            "a kernel command line has no way to write double quotes and control characters",
        )
    return f'"{word}"' if " " in word or not word else word
