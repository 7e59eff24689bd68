"""Whether KVM can run an unchanged Linux guest here, found out by a boot.

That /dev/kvm opens, that KVM_CREATE_VM works and that libvirt offers ``kvm`` prove nothing: on some nested hosts the
guest's firmware runs a hundred times too slowly, and its kernel is never reached. So the real guest kernel is booted
with the payload, and its first mark has to come within a deadline. The result is valid until the host is booted again,
and is kept in the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from tare.runners.base import PREFIX, RunnerError
from tare.runners.image.cache import publish, workspace
from tare.runners.image.initramfs import initramfs
from tare.runners.image.kernel import Kernel
from tare.runners.image.rootfs import payload_root
from tare.runners.payload import Payload
from tare.runners.vm import leftovers
from tare.runners.vm.connection import EMBEDDED, Hypervisor, connect
from tare.runners.vm.domain import Cpu, DirectBoot, Hardware, Machine, command_line, domain_xml
from tare.runners.vm.guest import Guest, running
from tare.runners.vm.machines.place import reachable, stage

#: A guest under KVM writes its first line within a second or two, even nested; emulation takes two to four.
DEADLINE_S = 10.0
_MEMORY_BYTES = 256 << 20
_DEVICE = Path("/dev/kvm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """``cpu`` is the processor model with which a guest started; if ``None``, ``why`` none did, and the ``fix``."""

    cpu: Cpu | None
    why: str
    fix: str = "use a host with hardware virtualisation"


def device_trouble(device: Path = _DEVICE) -> str:
    """Why this user cannot even open KVM's device; empty when it opens."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{device}: {error.strerror}"
    return ""


def _device_fix(device: Path = _DEVICE) -> str:
    if device.exists():
        return f"usermod -aG {device.group()} USER, or chmod 0666 {device}"
    return (
        "enable virtualisation in the firmware (on a virtual host: nested virtualisation) and load kvm_intel or kvm_amd"
    )


def on_this_host(kernel: Kernel, cache: Path) -> Proof:
    """What is known of KVM by the embedded driver and its default machine, as of a runner ``vm`` without options."""
    if trouble := device_trouble():
        return Proof(cpu=None, why=trouble, fix=_device_fix())
    try:
        with leftovers.unmade_machine_cgroups(), connect(EMBEDDED, cache) as hypervisor:
            return by_guest(hypervisor, "q35", kernel, cache)
    except RunnerError as error:
        why = f"no probe guest could be started: {error}"
        return Proof(cpu=None, why=why, fix=error.fix)


def by_guest(hypervisor: Hypervisor, machine: Machine, kernel: Kernel, cache: Path) -> Proof:
    """:func:`prove` with a guest of the built-in root filesystem: it is about this host, and not a scenario's files."""
    with stage(hypervisor) as directory:
        boot = DirectBoot(
            kernel=reachable(hypervisor, kernel.path, directory),
            initrd=reachable(hypervisor, initramfs(cache, payload_root(cache)), directory),
            command_line=command_line(Payload().argv, ()),
        )
        return prove(hypervisor, machine, kernel, boot, directory=directory, cache=cache)


def prove(
    hypervisor: Hypervisor, machine: Machine, kernel: Kernel, boot: DirectBoot, *, directory: Path, cache: Path
) -> Proof:
    """What is known of KVM for this host boot, QEMU, machine type and kernel; from *cache* if it is known."""
    if trouble := device_trouble():
        return Proof(cpu=None, why=trouble, fix=_device_fix())
    path = cache / f"kvm-{_key(hypervisor, machine, kernel)}.json"
    with suppress(OSError, ValueError, TypeError):
        return Proof(**json.loads(path.read_text()))
    proof, final = _try(hypervisor, machine, boot, directory)
    if final:
        with workspace(cache) as scratch:
            (scratch / path.name).write_text(json.dumps(asdict(proof)) + "\n")
            publish(scratch / path.name, path)
    return proof


def _key(hypervisor: Hypervisor, machine: Machine, kernel: Kernel) -> str:
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    parts = (boot_id, hypervisor.uri, hypervisor.qemu_version, hypervisor.libvirt_version, machine, kernel.digest)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _try(hypervisor: Hypervisor, machine: Machine, boot: DirectBoot, directory: Path) -> tuple[Proof, bool]:
    """Boot with each processor model; the second value is false if no guest ran at all, so that nothing is known."""
    reasons = []
    ran = False
    models: tuple[Cpu, ...] = ("host", "host-plain")
    for cpu in models:
        try:
            emulator = hypervisor.emulator("kvm", machine)
            hardware = Hardware(
                accelerator="kvm", machine=machine, cpu=cpu, cpus=1, memory_bytes=_MEMORY_BYTES, emulator=emulator
            )
            trouble = first_mark(hypervisor, hardware, boot, directory)
        except RunnerError as error:
            reasons.append(f"{cpu} processor: {error.why or error.what}")
            continue
        ran = True
        if not trouble:
            return Proof(cpu=cpu, why="a Linux guest ran"), True
        reasons.append(f"{cpu} processor: {trouble}")
    return Proof(cpu=None, why="; ".join(reasons)), ran


def first_mark(hypervisor: Hypervisor, hardware: Hardware, boot: DirectBoot, directory: Path) -> str:
    """Why a guest does not write its first mark in time; empty if it does. Raises RunnerError if it does not start."""
    name = f"{PREFIX}proof-{os.getpid()}"

    def describe(console: Path, log: Path) -> str:
        return domain_xml(name, hardware, boot, console=console, log=log)

    with hypervisor.suspensions() as suspended, running(hypervisor, name, directory, describe, _ignore) as guest:
        trouble = await_bytes(guest, suspended, b"tare first", DEADLINE_S)
        if not trouble:
            return ""
        return " ".join([trouble, *guest.explain().splitlines()[:3]])


def await_bytes(guest: Guest, suspended: int, wanted: bytes, deadline_s: float) -> str:
    """Why *wanted* does not arrive on the console of *guest*; empty when it does."""
    end = time.monotonic() + deadline_s
    events = select.poll()
    for source in (guest.console, suspended):
        events.register(source, select.POLLIN)
    seen = b""
    while wanted not in seen:
        left_s = end - time.monotonic()
        ready = dict(events.poll(left_s * 1000)) if left_s > 0 else {}
        if not ready:
            return f"the guest printed nothing within {deadline_s:g} s"
        if suspended in ready:
            return "QEMU stopped the guest because it could not go on"
        read = _read(guest.console)
        if not read:
            return "QEMU ended"
        seen += read
    return ""


def _read(console: int) -> bytes:
    with suppress(ConnectionResetError):
        return os.read(console, 4096)
    return b""


def _ignore(_phase: str) -> None:
    """Ignore the mark: a proof is no measurement."""
