"""What each monitor is told: one boot, in the words of its public interface.

Firecracker reads a file of JSON (FullVmConfiguration of src/firecracker/swagger/firecracker.yaml in its repository),
Cloud Hypervisor a command line (README.md, docs/device_model.md, docs/logging.md and ``--help`` of its own).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tare.runners.vm.domain import Leads

_ONLY_LINE = "/dev/ttyS0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What a machine boots from, and its grant."""

    kernel: Path
    initrd: Path
    command_line: str
    cpus: int
    memory_mib: int


class Monitor(Protocol):
    """One program. ``packed``: it takes a compressed kernel, too. ``mark``: the option before a path of ours.

    ``files`` are what it reads, by their names in *directory*; ``words`` its whole command line: *log* is a file that
    is there, for its own messages; *events* a descriptor on which it says what becomes of its machine, where ``tells``.
    """

    name: str
    title: str
    published: str
    most_cpus: int
    packed: bool
    tells: bool
    mark: str
    leads: Leads

    def files(self, boot: Boot) -> Mapping[str, str]:
        """See above."""

    def words(self, binary: str, boot: Boot, *, directory: Path, log: Path, events: int) -> list[str]:
        """See above."""


class Firecracker:
    """Firecracker without its socket (``--no-api``).

    On x86 it emulates no power management: a guest ends its machine by a restart over the keyboard controller
    (FAQ.md). The other words spare the kernel devices that are not there (docs/initrd.md, docs/kernel-policy.md).
    """

    name, title = "firecracker", "Firecracker"
    published = "github.com/firecracker-microvm/firecracker"
    most_cpus = 32
    packed = False
    tells = False
    mark = "--config-file"
    leads = Leads(
        console=_ONLY_LINE,
        ending=("reboot=k", "pci=off", "i8042.noaux", "i8042.nomux", "i8042.dumbkbd"),
        restarts=True,
    )
    _CONFIG = "config.json"

    def files(self, boot: Boot) -> Mapping[str, str]:
        """See :class:`Monitor`."""
        config = {
            "boot-source": {
                "kernel_image_path": str(boot.kernel),
                "initrd_path": str(boot.initrd),
                "boot_args": boot.command_line,
            },
            "drives": [],
            "machine-config": {"vcpu_count": boot.cpus, "mem_size_mib": boot.memory_mib},
        }
        return {self._CONFIG: json.dumps(config, indent=2) + "\n"}

    def words(self, binary: str, boot: Boot, *, directory: Path, log: Path, events: int) -> list[str]:  # noqa: ARG002
        """See :class:`Monitor`. Without a file its log, of level Info, would be among what the guest writes."""
        config = str(directory / self._CONFIG)
        return [binary, "--no-api", self.mark, config, "--log-path", str(log), "--level", "Warning"]


class CloudHypervisor:
    """Cloud Hypervisor. A guest that restarts would be booted again: the runner ends it when the monitor says so."""

    name, title = "cloud-hypervisor", "Cloud Hypervisor"
    published = "github.com/cloud-hypervisor/cloud-hypervisor"
    most_cpus = 255
    packed = True
    tells = True
    mark = "--log-file"
    leads = Leads(console=_ONLY_LINE, ending=("reboot=a",))

    def files(self, boot: Boot) -> Mapping[str, str]:  # noqa: ARG002 - it reads none
        """See :class:`Monitor`."""
        return {}

    def words(self, binary: str, boot: Boot, *, directory: Path, log: Path, events: int) -> list[str]:  # noqa: ARG002
        """See :class:`Monitor`."""
        machine = ["--cpus", f"boot={boot.cpus}", "--memory", f"size={boot.memory_mib}M"]
        kernel = ["--kernel", str(boot.kernel), "--initramfs", str(boot.initrd), "--cmdline", boot.command_line]
        lines = ["--serial", "tty", "--console", "off", "--event-monitor", f"fd={events}"]
        return [binary, *machine, *kernel, *lines, self.mark, str(log)]


FIRECRACKER: Monitor = Firecracker()
CLOUD_HYPERVISOR: Monitor = CloudHypervisor()
