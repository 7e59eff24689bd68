"""What the monitors are told, against the fields and arguments that their projects publish."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tare.runners.microvm.monitors import CLOUD_HYPERVISOR, FIRECRACKER, Boot
from tare.runners.payload import Payload
from tare.runners.vm.domain import command_line

_SWAGGER = "src/firecracker/swagger/firecracker.yaml"
_MAIN = "cloud-hypervisor/src/main.rs"

#: Field of Firecracker's configuration -> its type, whether it must be there, and where that is said (of the release
#: 1.17 in the making). A table of ours: the part that a machine without devices needs.
FIELDS: dict[str, tuple[type, bool, str]] = {
    "boot-source": (dict, True, f"{_SWAGGER}, FullVmConfiguration; src/vmm/src/resources.rs, VmmConfig"),
    "boot-source.kernel_image_path": (str, True, f"{_SWAGGER}, BootSource"),
    "boot-source.initrd_path": (str, False, f"{_SWAGGER}, BootSource"),
    "boot-source.boot_args": (str, False, f"{_SWAGGER}, BootSource"),
    "drives": (list, True, f"{_SWAGGER}, FullVmConfiguration; src/vmm/src/resources.rs, VmmConfig (no default)"),
    "machine-config": (dict, False, f"{_SWAGGER}, FullVmConfiguration"),
    "machine-config.vcpu_count": (int, True, f"{_SWAGGER}, MachineConfiguration (1 to 32)"),
    "machine-config.mem_size_mib": (int, True, f"{_SWAGGER}, MachineConfiguration"),
}
#: Option of a command line -> what its word looks like (None: it takes none), and where that is said.
FIRECRACKER_OPTIONS: dict[str, tuple[str | None, str]] = {
    "--no-api": (None, "src/firecracker/src/main.rs (needs --config-file)"),
    "--config-file": ("a path", "src/firecracker/src/main.rs; docs/getting-started.md"),
    "--log-path": ("a path", "docs/logger.md (the file must be there)"),
    "--level": ("Error|Warning|Info|Debug|Trace|Off", f"docs/logger.md; {_SWAGGER}, Logger"),
}
CLOUD_HYPERVISOR_OPTIONS: dict[str, tuple[str | None, str]] = {
    "--cpus": ("boot=<number>", f"{_MAIN}; docs/cpu.md"),
    "--memory": ("size=<number>M", f"{_MAIN}; docs/memory.md"),
    "--kernel": ("a path", f"{_MAIN}; README.md (PVH, or a bzImage)"),
    "--initramfs": ("a path", _MAIN),
    "--cmdline": ("words", _MAIN),
    "--serial": ("tty", f"{_MAIN}; docs/device_model.md"),
    "--console": ("off", f"{_MAIN}; docs/device_model.md"),
    "--event-monitor": ("fd=<number>", _MAIN),
    "--log-file": ("a path", f"{_MAIN}; docs/logging.md"),
}

DIRECTORY, LOG = Path("/run/tare-owner-1"), Path("/run/tare-owner-1/one.log")


def boot(leads: Any) -> Boot:
    line = command_line(Payload(delay_ms=17).argv, (("NAME", "a b"),), leads=leads)
    return Boot(kernel=Path("/k/vmlinux"), initrd=Path("/i.cpio"), command_line=line, cpus=2, memory_mib=256)


def fields(config: dict[str, Any], above: str = "") -> dict[str, Any]:
    """All fields, by their path."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found[above + name] = value
        if isinstance(value, dict):
            found.update(fields(value, f"{above}{name}."))
    return found


def test_firecracker_gets_fields_that_it_has_and_all_that_it_needs() -> None:
    ((name, text),) = FIRECRACKER.files(boot(FIRECRACKER.leads)).items()
    found = fields(json.loads(text))
    assert found.keys() <= FIELDS.keys()
    assert found.keys() >= {field for field, (_, needed, _) in FIELDS.items() if needed}
    for field, value in found.items():
        assert type(value) is FIELDS[field][0], field
    assert (found["machine-config.vcpu_count"], found["machine-config.mem_size_mib"]) == (2, 256)
    assert (found["boot-source.kernel_image_path"], found["boot-source.initrd_path"]) == ("/k/vmlinux", "/i.cpio")
    words = FIRECRACKER.words("/fc", boot(FIRECRACKER.leads), directory=DIRECTORY, log=LOG, events=-1)
    assert words[words.index("--config-file") + 1] == str(DIRECTORY / name)


@pytest.mark.parametrize(
    ("monitor", "options"),
    [(FIRECRACKER, FIRECRACKER_OPTIONS), (CLOUD_HYPERVISOR, CLOUD_HYPERVISOR_OPTIONS)],
    ids=lambda each: getattr(each, "name", ""),
)
def test_a_command_line_has_options_that_are_known_with_words_of_their_form(
    monitor: Any, options: dict[str, tuple[str | None, str]]
) -> None:
    program, *words = monitor.words("/vmm", boot(monitor.leads), directory=DIRECTORY, log=LOG, events=7)
    assert program == "/vmm"
    given: dict[str, str | None] = {}
    while words:
        option = words.pop(0)
        form = options[option][0]
        given[option] = None if form is None else words.pop(0)
    assert given.keys() == options.keys()
    for option, word in given.items():
        form = options[option][0]
        if form is None or word is None:
            assert word is form
        elif form == "a path":
            assert Path(word).is_absolute()
        elif "<number>" in form:
            before, after = form.split("<number>")
            assert word.removeprefix(before).removesuffix(after).isdecimal(), option
            assert word.startswith(before)
        elif form != "words":
            assert word in form.split("|"), option
    assert given[monitor.mark] in (str(LOG), str(DIRECTORY / "config.json")), "a sweep finds its owner by this path"


def test_cloud_hypervisor_gets_the_grant_and_the_kernels_words_as_one() -> None:
    words = CLOUD_HYPERVISOR.words("/c", boot(CLOUD_HYPERVISOR.leads), directory=DIRECTORY, log=LOG, events=7)
    assert {"boot=2", "size=256M", "fd=7", boot(CLOUD_HYPERVISOR.leads).command_line} <= set(words)


@pytest.mark.parametrize("monitor", [FIRECRACKER, CLOUD_HYPERVISOR], ids=lambda each: each.name)
def test_a_guest_writes_to_the_only_line_and_ends_as_its_monitor_understands(monitor: Any) -> None:
    line = boot(monitor.leads).command_line
    kernel, _, argv = line.partition(" -- ")
    words = kernel.split()
    assert {"console=ttyS0", "TARE_CONSOLE=/dev/ttyS0", "panic=-1", 'NAME="a', "rdinit=/payload"} <= set(words)
    assert argv.split() == list(Payload(delay_ms=17).argv[1:])
    # Firecracker takes a restart over the keyboard controller for the end (FAQ.md); the other one ACPI's power off.
    ends = ("reboot=k", "TARE_VM=restart") if monitor is FIRECRACKER else ("reboot=a", "TARE_VM=1")
    assert set(ends) <= set(words)
