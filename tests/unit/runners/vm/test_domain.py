"""The domain XML and the kernel's command line, as data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.runners.base import RunnerError
from tare.runners.vm.domain import Balloon, DirectBoot, Disk, DiskBoot, Hardware, Links, command_line, domain_xml

HARDWARE = Hardware(
    accelerator="tcg", machine="q35", cpu="max", cpus=2, memory_bytes=128 << 20, emulator="/usr/bin/qemu-system-x86_64"
)
BOOT = DirectBoot(kernel=Path("/k"), initrd=Path("/i"), command_line="a=1 & <b>")


def parsed(hardware: Hardware = HARDWARE, boot: DirectBoot | DiskBoot = BOOT) -> ET.Element:
    return ET.fromstring(domain_xml("tare-1", hardware, boot, console=Path("/run/c"), log=Path("/run/l")))


def test_the_grant_and_the_boot_are_in_it() -> None:
    domain = parsed()
    assert domain.get("type") == "qemu"
    assert domain.findtext("name") == "tare-1"
    memory = domain.find("memory")
    assert memory is not None
    assert (memory.text, memory.get("unit")) == (str(128 << 20), "b")
    assert domain.findtext("vcpu") == "2"
    assert domain.findtext("os/kernel") == "/k"
    assert domain.findtext("os/initrd") == "/i"
    assert domain.findtext("os/cmdline") == "a=1 & <b>"
    assert domain.find("features/acpi") is not None


def test_an_end_of_any_kind_destroys_it() -> None:
    domain = parsed()
    assert {domain.findtext(f"on_{event}") for event in ("poweroff", "reboot", "crash")} == {"destroy"}


def test_nothing_is_attached_but_two_serial_ports() -> None:
    devices = parsed().find("devices")
    assert devices is not None
    assert [device.tag for device in devices] == ["emulator", "controller", "memballoon", "serial", "serial"]
    assert {device.get("model") for device in devices if device.tag in ("controller", "memballoon")} == {"none"}
    kernel, payload = devices.findall("serial")
    assert [(port.get("type"), port.find("target").attrib["port"]) for port in (kernel, payload)] == [  # type: ignore[union-attr]
        ("unix", "0"),
        ("unix", "1"),
    ]
    for port, path in ((kernel, "/run/l"), (payload, "/run/c")):
        source = port.find("source")
        assert source is not None
        assert source.attrib == {"mode": "connect", "path": path}


def linked(links: Links) -> ET.Element:
    text = domain_xml("tare-1", HARDWARE, BOOT, console=Path("/run/c"), log=Path("/run/l"), links=links)
    devices = ET.fromstring(text).find("devices")
    assert devices is not None
    return devices


def test_a_workload_has_a_port_for_commands_and_no_more_than_it_needs() -> None:
    devices = linked(Links(control=Path("/run/ctl")))
    source = devices.find("channel/source")
    assert source is not None
    assert source.attrib == {"mode": "bind", "path": "/run/ctl"}
    assert devices.find("interface") is None
    assert devices.find("disk") is None


def test_a_network_is_a_tap_that_is_there_already_and_a_disk_is_not_written_to() -> None:
    devices = linked(
        Links(control=Path("/run/ctl"), tap="tare-tap", disks=(Disk(path=Path("/d.ext4"), read_only=True),))
    )
    target, disk = devices.find("interface/target"), devices.find("disk")
    assert target is not None
    assert target.attrib == {"dev": "tare-tap", "managed": "no"}
    assert devices.find("interface/rom[@enabled='no']") is not None
    assert disk is not None
    assert disk.find("readonly") is not None
    assert disk.find("source[@file='/d.ext4']") is not None
    slots = [address.get("slot") for address in devices.iter("address")]
    assert len(slots) == len(set(slots)) == 3


@pytest.mark.parametrize("balloon", ["virtio", "free-page-reporting"])
def test_a_balloon_sits_on_the_root_bus_and_reports_if_it_is_to(balloon: Balloon) -> None:
    device = parsed(dataclasses.replace(HARDWARE, balloon=balloon)).find("devices/memballoon")
    assert device is not None
    assert device.get("model") == "virtio"
    assert device.get("freePageReporting") == ("on" if balloon == "free-page-reporting" else None)
    address = device.find("address")
    assert address is not None
    assert (address.get("type"), address.get("bus")) == ("pci", "0x00")


def test_kvm_has_the_host_s_processor() -> None:
    kvm = dataclasses.replace(HARDWARE, accelerator="kvm", cpu="host")
    assert parsed(kvm).get("type") == "kvm"
    processor = parsed(kvm).find("cpu")
    assert processor is not None
    assert processor.get("mode") == "host-passthrough"
    assert processor.find("feature") is None
    plain = parsed(dataclasses.replace(kvm, cpu="host-plain")).find("cpu/feature")
    assert plain is not None
    assert plain.attrib == {"name": "arch-capabilities", "policy": "disable"}


def test_a_disk_is_booted_by_the_firmware() -> None:
    domain = parsed(boot=DiskBoot(image=Path("/f.img")))
    assert domain.find("os/kernel") is None
    source = domain.find("devices/disk/source")
    assert source is not None
    assert source.get("file") == "/f.img"


def test_the_command_line() -> None:
    line = command_line(("/payload", "delay-ms=5", "then=exit:3"), [("WORD", "a b"), ("EMPTY", "")])
    assert line == (
        "console=ttyS0 quiet panic=-1 reboot=t rdinit=/payload TARE_CONSOLE=/dev/ttyS1 TARE_VM=1 "
        'WORD="a b" EMPTY="" -- delay-ms=5 then=exit:3'
    )


@pytest.mark.parametrize("name", ["mem", "a.b", "9A", "", "LÄNGE", "http_proxy"])
def test_a_variable_that_the_kernel_might_take_for_its_own(name: str) -> None:
    with pytest.raises(RunnerError, match="cannot be passed"):
        command_line(("/payload",), [(name, "1")])


@pytest.mark.parametrize("word", ['say "x"', "a\nb", "tab\t", "nul\0"])
def test_a_word_that_cannot_be_written(word: str) -> None:
    with pytest.raises(RunnerError, match="cannot be passed"):
        command_line(("/payload", word), [])


def test_too_much() -> None:
    with pytest.raises(RunnerError, match="too long"):
        command_line(("/payload", "x" * 2000), [])
    with pytest.raises(RunnerError, match="do not fit"):
        command_line(("/payload", *["x"] * 32), [])
    with pytest.raises(RunnerError, match="do not fit"):
        command_line(("/payload",), [(f"V{n}", "") for n in range(29)])


def next_args(line: str) -> list[str]:
    """lib/cmdline.c next_arg() in short: spaces end a word unless a double quote is open; outer quotes are dropped."""
    words, word, quoted = [], "", False
    for letter in line + " ":
        if letter == '"':
            quoted = not quoted
        elif letter == " " and not quoted:
            words.append(word)
            word = ""
        else:
            word += letter
    return words


@given(
    st.lists(
        st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"') | st.just(" "), max_size=9),
        max_size=9,
    )
)
def test_every_word_arrives_as_it_was(words: list[str]) -> None:
    line = command_line(("/payload", *words), [])
    assert next_args(line)[8:] == words
