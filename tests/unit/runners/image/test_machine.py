"""The disk of a whole machine: its partitions, what is on them, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tare.runners.base import RunnerError
from tare.runners.image.rootfs import digest
from tare.runners.image.shapes import disk, machine
from tare.runners.image.tree import Tree
from tests.conftest import require

MIB = 1 << 20


def found(name: str) -> str:
    program = shutil.which(name, path=disk.PLACES)
    require("machine", program, f"no {name} on PATH")
    return str(program)


def said(*words: str) -> str:
    done = subprocess.run([found(words[0]), *words[1:]], capture_output=True, text=True, errors="replace", check=True)
    return done.stdout


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """What is looked for of a system, which nobody starts."""
    root = tmp_path / "root"
    for folder in ("boot", "etc/udev/rules.d", "etc/systemd/system", "usr/lib/systemd/boot/efi"):
        (root / folder).mkdir(parents=True)
    for release in ("6.1.0-9", "6.1.0-10"):
        (root / "boot" / f"vmlinuz-{release}").write_text(f"kernel {release}")
        (root / "boot" / f"initrd.img-{release}").write_text(f"initramfs {release}")
    (root / "usr/lib/systemd/systemd").write_text("#!")
    (root / "usr/lib/systemd/boot/efi/systemd-bootx64.efi").write_text("loader")
    return root


def test_it_has_two_partitions_two_boot_loaders_and_the_newest_kernel(system: Path, tmp_path: Path) -> None:
    for name in ("mkfs.vfat", "mcopy", "syslinux", "sfdisk", "debugfs"):
        found(name)
    image = Tree(source="dir:root", digest=digest(system), directory=system, cache=tmp_path / "cache")
    made = image.shape("machine")
    table = json.loads(said("sfdisk", "--json", str(made)))["partitiontable"]
    boot, root = table["partitions"]
    assert (table["label"], boot["attrs"]) == ("gpt", "LegacyBIOSBootable")
    assert made.read_bytes()[510:512] == b"\x55\xaa"
    at = f"{made}@@{boot['start'] * 512}"
    assert said("mtype", "-i", at, "::/vmlinuz") == "kernel 6.1.0-10"
    assert said("mtype", "-i", at, "::/initrd.img") == "initramfs 6.1.0-10"
    assert said("mtype", "-i", at, "::/EFI/BOOT/BOOTX64.EFI") == "loader"
    for file in ("::/syslinux.cfg", "::/loader/entries/tare.conf"):
        assert f"root=PARTUUID={root['uuid'].lower()}" in said("mtype", "-i", at, file)
    part = tmp_path / "part"
    with made.open("rb") as whole, part.open("wb") as target:
        whole.seek(root["start"] * 512)
        target.write(whole.read(48 * MIB))
        target.truncate(root["size"] * 512)
    assert "tare-workload" in said("debugfs", "-R", "cat /etc/udev/rules.d/99-tare.rules", str(part))
    assert "ExecStart=/run/tare/tare/init" in said(
        "debugfs", "-R", "cat /etc/systemd/system/tare-workload.service", str(part)
    )
    assert "kernel" in said("debugfs", "-R", "cat /boot/vmlinuz-6.1.0-9", str(part))
    assert 512 * made.stat().st_blocks < made.stat().st_size / 4, "room to write is a hole"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [made.name], "no part is left"


@pytest.mark.parametrize(
    ("lacks", "why"),
    [("boot/vmlinuz-*", "vmlinuz-"), ("boot/initrd.img-*", "initrd.img-"), ("usr/lib/systemd/systemd", "systemd")],
)
def test_an_image_without_a_system_cannot_be_one(system: Path, tmp_path: Path, lacks: str, why: str) -> None:
    for file in system.glob(lacks):
        file.unlink()
    with pytest.raises(RunnerError, match=why) as caught:
        machine.write(system, tmp_path / "disk")
    assert "cannot boot by itself" in str(caught.value)
    assert "os:bookworm" in caught.value.fix


def test_a_program_that_is_missing_is_named_with_its_packages(
    system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "PLACES", "/nowhere")
    with pytest.raises(RunnerError, match=r"no program mkfs\.vfat") as caught:
        machine.write(system, tmp_path / "disk")
    assert "dosfstools" in caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == ["root"], "no part is left"


def test_a_file_of_an_ordinary_user_is_root_s_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    class Done:
        returncode = 0
        stderr = ""

    def run(words: list[str], **_how: object) -> Done:
        asked.append(words)
        return Done()

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(subprocess, "run", run)
    (tmp_path / "root").mkdir()
    disk.write(tmp_path / "root", tmp_path / "disk")
    assert "--map-root-user" in asked[-1]
    assert asked[-1][2].endswith("mke2fs")
