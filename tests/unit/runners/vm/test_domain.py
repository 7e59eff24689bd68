"""The domain XML and the kernel's command line, as data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tare.runners.base import RunnerError
from tare.runners.vm.domain import (
    Balloon,
    Bus,
    DirectBoot,
    Disk,
    DiskBoot,
    FirmwareBoot,
    Hardware,
    Links,
    command_line,
    domain_xml,
)  # fmt: skip

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
    devices = linked(Links(ports=(Path("/run/ctl"),)))
    source = devices.find("channel/source")
    assert source is not None
    assert source.attrib == {"mode": "bind", "path": "/run/ctl"}
    assert devices.find("interface") is None
    assert devices.find("disk") is None


def test_each_port_has_a_number_and_a_name_of_its_own_on_one_device() -> None:
    devices = linked(Links(ports=tuple(Path(f"/run/ctl-{number}") for number in range(12))))
    assert len(devices.findall("controller[@type='virtio-serial']")) == 1
    channels = devices.findall("channel")
    assert [one.find("address").get("port") for one in channels] == [str(number) for number in range(1, 13)]  # type: ignore[union-attr]
    assert len({one.find("target").get("name") for one in channels}) == 12  # type: ignore[union-attr]


def test_a_network_is_a_tap_that_is_there_already_and_a_disk_is_not_written_to() -> None:
    devices = linked(
        Links(ports=(Path("/run/ctl"),), tap="tare-tap", disks=(Disk(path=Path("/d.ext4"), read_only=True),))
    )
    target, disk = devices.find("interface/target"), devices.find("disk")
    assert target is not None
    assert target.attrib == {"dev": "tare-tap", "managed": "no"}
    assert devices.find("interface/rom[@enabled='no']") is not None
    assert disk is not None
    assert disk.find("readonly") is not None
    assert disk.find("source[@file='/d.ext4']") is not None
    slots = [address.get("slot") for address in devices.iterfind(".//address[@type='pci']")]
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


def described(hardware: Hardware = HARDWARE, links: Links | None = None, *, by_hand: bool = False) -> ET.Element:
    boot = FirmwareBoot()
    paths = {"console": None, "log": None} if by_hand else {"console": Path("/run/c"), "log": Path("/run/l")}
    return ET.fromstring(domain_xml("tare-1", hardware, boot, **paths, links=links))


def test_firmware_is_told_to_speak_and_starts_the_first_disk() -> None:
    domain = described(links=Links(disks=(Disk(path=Path("/a"), format="qcow2", cache="none"),)))
    boot, bios = domain.find("os/boot"), domain.find("os/bios")
    assert boot is not None
    assert boot.get("dev") == "hd"
    assert bios is not None
    assert bios.get("useserial") == "yes"
    assert domain.find("os/kernel") is None
    driver = domain.find("devices/disk/driver")
    assert driver is not None
    assert driver.attrib == {"name": "qemu", "type": "qcow2", "cache": "none"}


def test_uefi_has_its_program_and_variables_of_the_guest_s_own() -> None:
    boot = FirmwareBoot(loader=Path("/CODE.fd"), variables=Path("/mine.fd"), empty=Path("/VARS.fd"))
    text = domain_xml("tare-1", HARDWARE, boot, console=Path("/c"), log=Path("/l"))
    domain = ET.fromstring(text)
    loader, kept = domain.find("os/loader"), domain.find("os/nvram")
    assert loader is not None
    assert (loader.text, loader.get("readonly"), loader.get("type")) == ("/CODE.fd", "yes", "pflash")
    assert kept is not None
    assert (kept.text, kept.get("template")) == ("/mine.fd", "/VARS.fd")


@pytest.mark.parametrize(
    ("buses", "names"),
    [
        (("virtio", "virtio"), ["vda", "vdb"]),
        (("sata", "virtio"), ["sda", "vda"]),
        (("scsi", "scsi"), ["sda", "sdb"]),
        (("ide", "ide"), ["hda", "hdb"]),
    ],
)
def test_disks_are_counted_as_their_bus_counts_them(buses: tuple[Bus, Bus], names: list[str]) -> None:
    domain = described(links=Links(disks=tuple(Disk(path=Path("/a"), bus=bus) for bus in buses)))
    assert [one.get("dev") for one in domain.iterfind("devices/disk/target")] == names
    controllers = [one.get("model") for one in domain.iterfind("devices/controller") if one.get("type") == "scsi"]
    assert controllers == (["virtio-scsi"] if "scsi" in buses else [])
    slots = [one.get("slot") for one in domain.iterfind("devices/*/address")]
    assert len(slots) == len(set(slots))


def test_a_disk_may_be_read_only_known_by_a_number_and_forget_what_is_written() -> None:
    domain = described(links=Links(disks=(Disk(path=Path("/a"), read_only=True, serial="s", transient=True),)))
    disk = domain.find("devices/disk")
    assert disk is not None
    assert (disk.find("readonly") is not None, disk.findtext("serial"), disk.find("transient") is not None) == (
        True,
        "s",
        True,
    )


def test_by_hand_its_ports_are_terminals() -> None:
    ports = list(described(by_hand=True).iterfind("devices/serial"))
    assert [(port.get("type"), port.find("source")) for port in ports] == [("pty", None)] * 2


def test_a_model_of_a_processor_and_huge_pages() -> None:
    domain = described(dataclasses.replace(HARDWARE, cpu="Haswell-noTSX", hugepages=True))
    model = domain.find("cpu/model")
    assert model is not None
    assert (model.text, model.get("fallback")) == ("Haswell-noTSX", "forbid")
    assert domain.find("memoryBacking/hugepages") is not None
    assert described().find("memoryBacking") is None


def test_qemu_s_own_network_is_no_tap() -> None:
    card = described(links=Links(user=True)).find("devices/interface")
    assert card is not None
    assert (card.get("type"), card.find("target")) == ("user", None)


def test_a_kernel_that_is_told_to_speaks_from_its_first_line_on() -> None:
    words = command_line(("/init",), (), told=True).split()
    assert {"earlyprintk=ttyS0,115200", "loglevel=6"} <= set(words)
    assert "quiet" not in words
