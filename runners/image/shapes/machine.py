"""An image as the disk of a whole machine: a boot partition, and a root file system that systemd starts from.

The image brings its kernel, its initramfs and systemd. The boot partition has two boot loaders, so that both kinds of
firmware start the same disk: systemd-boot for UEFI, out of the image, and syslinux for BIOS. All of it is made without
root, mounts and loop devices, by the programs that make file systems within a file.

Two small files are added: a rule of udev and a service, which run what a second disk brings, if there is one with the
serial number :data:`SERIAL`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tare.runners.base import RunnerError
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.image.shapes import disk

#: Part of the file's name: raise it whenever the same image would give another disk.
FORMAT = 1
#: The serial number of the disk with a workload, and the directory on it that has our program.
SERIAL, SEED = "tare-workload", "tare"

_MIB = 1 << 20
_ROOT_ID = "74617265-0000-4000-8000-000000000001"
#: earlyprintk and loglevel: the kernel says that it runs as soon as it does; net.ifnames: the network is eth0.
_KERNEL_WORDS = (
    f"root=PARTUUID={_ROOT_ID} rw console=ttyS0 earlyprintk=ttyS0,115200 loglevel=6 net.ifnames=0 panic=-1 "
    "systemd.hostname=tare"
)
#: Room for what the system writes, in a file with holes.
_SPARE_BYTES = 1 << 30
_LOADER = "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
_MBR = (
    "/usr/lib/SYSLINUX/gptmbr.bin",  # Debian's package syslinux; the next one is of syslinux-common
    "/usr/lib/syslinux/mbr/gptmbr.bin",
    "/usr/share/syslinux/gptmbr.bin",
    "/usr/lib/syslinux/bios/gptmbr.bin",
)
_PACKAGES = "apt-get install syslinux mtools dosfstools fdisk e2fsprogs"
_MAKE = "name an image with a system in it: os:bookworm, or os:bookworm+PACKAGE"

_RULE_FILE = "/etc/udev/rules.d/99-tare.rules"
_SERVICE_FILE = "/etc/systemd/system/tare-workload.service"
_RULE = (
    f'ACTION!="remove", SUBSYSTEM=="block", ATTR{{serial}}=="{SERIAL}", TAG+="systemd", '
    'ENV{SYSTEMD_WANTS}+="tare-workload.service"\n'
)
_SERVICE = f"""\
[Unit]
Description=What tare measures
[Service]
Environment=TARE_CONSOLE=/dev/ttyS1
ExecStartPre=/bin/mkdir -p /run/tare
ExecStartPre=/bin/mount -o ro -t ext4 /dev/disk/by-id/virtio-{SERIAL} /run/tare
ExecStart=/run/tare/{SEED}/init /run/tare/{SEED}
"""


def write(tree: Path, target: Path) -> None:
    """Write the files below *tree* to the new disk *target*. Raises RunnerError."""
    kernel, initrd = _newest(tree, "vmlinuz-"), _newest(tree, "initrd.img-")
    _require_init(tree)
    boot, root = target.with_suffix(".boot"), target.with_suffix(".root")
    try:
        _boot_partition(boot, tree, kernel, initrd)
        disk.write(tree, root, spare_bytes=_SPARE_BYTES, journal=True)
        _add(root)
        _assemble(target, boot, root)
    except OSError as error:
        raise RunnerError(f"the disk of {tree} cannot be made", str(error), "make room in the cache") from error
    finally:
        for part in (boot, root):
            part.unlink(missing_ok=True)


def _newest(tree: Path, prefix: str) -> Path:
    found = sorted((tree / "boot").glob(f"{prefix}*"), key=lambda file: [int(n) for n in re.findall(r"\d+", file.name)])
    if not found:
        raise ImageRefused(f"the image {tree} cannot boot by itself", f"there is no /boot/{prefix}* in it", _MAKE)
    return found[-1]


def _require_init(tree: Path) -> None:
    if not any(os.path.lexists(tree / place) for place in ("usr/lib/systemd/systemd", "lib/systemd/systemd")):
        raise ImageRefused(f"the image {tree} cannot boot by itself", "there is no systemd in it", _MAKE)


def _boot_partition(target: Path, tree: Path, kernel: Path, initrd: Path) -> None:
    """A FAT32 file system with kernel, initramfs and both boot loaders."""
    size = max(64, (kernel.stat().st_size + initrd.stat().st_size) // _MIB + 32)
    with target.open("xb") as stream:
        stream.truncate(size * _MIB)
    _run("mkfs.vfat", "-F", "32", "-n", "ESP", str(target))
    _run("mmd", "-i", str(target), "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries")
    texts = {
        "/loader/loader.conf": "timeout 0\ndefault tare\n",
        "/loader/entries/tare.conf": f"title tare\nlinux /vmlinuz\ninitrd /initrd.img\noptions {_KERNEL_WORDS}\n",
        "/syslinux.cfg": "DEFAULT tare\nTIMEOUT 0\nPROMPT 0\nLABEL tare\n LINUX /vmlinuz\n INITRD /initrd.img\n"
        f" APPEND {_KERNEL_WORDS}\n",
    }
    for name, text in texts.items():
        _run("mcopy", "-i", str(target), "-", f"::{name}", given=text)
    _run("mcopy", "-i", str(target), str(kernel), "::/vmlinuz")
    _run("mcopy", "-i", str(target), str(initrd), "::/initrd.img")
    if (tree / _LOADER).is_file():
        _run("mcopy", "-i", str(target), str(tree / _LOADER), "::/EFI/BOOT/BOOTX64.EFI")
    _run("syslinux", "--install", str(target))


def _add(root: Path) -> None:
    """Put the rule and the service into the ext4 file system *root*."""
    told = root.with_suffix(".d")
    told.mkdir()
    try:
        for name, text in (("rule", _RULE), ("service", _SERVICE)):
            (told / name).write_text(text)
        places = {"rule": _RULE_FILE, "service": _SERVICE_FILE}
        commands = [f"write {told}/{name} {place}\n" for name, place in places.items()]
        commands += [f"sif {place} {field} 0\n" for place in places.values() for field in ("uid", "gid")]
        _run("debugfs", "-w", "-f", "-", str(root), given="".join(commands))
        for place in places.values():
            said = _run("debugfs", "-R", f"stat {place}", str(root))
            if "Inode:" not in said:  # debugfs ends with 0 whatever happened
                raise RunnerError(f"{place} cannot be added to the disk", said.strip()[-400:])
    finally:
        shutil.rmtree(told)


def _assemble(target: Path, boot: Path, root: Path) -> None:
    """One disk with a GPT, of which BIOS starts the first sector."""
    loader = next((Path(file) for file in _MBR if Path(file).is_file()), None)
    if loader is None:
        raise RunnerError("a disk cannot be made to boot by BIOS", f"none of {', '.join(_MBR)}", _PACKAGES)
    sizes = boot.stat().st_size // _MIB, -(-root.stat().st_size // _MIB)
    at = 1, 1 + sizes[0]
    with target.open("xb") as stream:
        stream.truncate((2 + sum(sizes)) * _MIB)
        for part, place in zip((boot, root), at, strict=True):
            _copy(part, stream.fileno(), place * _MIB)
    table = (
        "label: gpt\n"
        f"start={at[0]}MiB, size={sizes[0]}MiB, type=uefi, name=boot, attrs=LegacyBIOSBootable\n"
        f"start={at[1]}MiB, size={sizes[1]}MiB, type=linux, name=root, uuid={_ROOT_ID}\n"
    )
    _run("sfdisk", "-q", str(target), given=table)
    with target.open("r+b") as stream:
        stream.write(loader.read_bytes()[:440])


def _copy(part: Path, target: int, place: int) -> None:
    """Copy the data of *part*, and none of its holes."""
    with part.open("rb") as source:
        size, at = os.fstat(source.fileno()).st_size, 0
        while at < size:
            try:
                at = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError:  # ENXIO: a hole to the end
                return
            end = os.lseek(source.fileno(), at, os.SEEK_HOLE)
            while at < end:
                data = os.pread(source.fileno(), min(_MIB, end - at), at)
                os.pwrite(target, data, place + at)
                at += len(data)


def _run(name: str, *words: str, given: str = "") -> str:
    """What the program *name* prints. Raises RunnerError."""
    program = shutil.which(name, path=disk.PLACES)
    what = "an image cannot be made the disk of a machine"
    if program is None:
        raise RunnerError(what, f"there is no program {name}", _PACKAGES)
    done = subprocess.run(
        [program, *words], input=given, capture_output=True, text=True, errors="replace", check=False,
        env={**os.environ, "MTOOLS_SKIP_CHECK": "1"},
    )  # fmt: skip
    if done.returncode:
        raise RunnerError(what, f"{name}: {(done.stderr or done.stdout).strip()[-400:]}", f"see {name}(8)")
    return done.stdout + done.stderr
