"""What a thousand containers of the warm runtime take on a kernel that was just started: that of an emulated guest.

    python -m tests.speed.fresh

On a host that has been up for long the memory of a container depends on what ran there before: a memory cgroup has a
word for each file system that the kernel ever had mounted at once. A guest's kernel has no such past. It is the newest
one of the cache or the distribution, with cgroup v1. Emulation changes times, not what the kernel allocates.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tare.bench.readings import hostmem
from tare.runners.base import RunnerError
from tare.runners.image import kernel as kernels
from tare.runners.image.cache import cache_dir
from tests.system import guest_image

MEMORY_MIB = 3072
DEADLINE_S = 900
#: Pairs of readings that the guest makes.
READINGS = 3


def boot(directory: Path) -> str:
    """Boot the guest with *directory* for its files, and return what it said. Raises RunnerError."""
    emulator, busybox = shutil.which("qemu-system-x86_64"), shutil.which("busybox")
    if emulator is None or busybox is None:
        raise RunnerError("no guest", "qemu-system-x86_64 or busybox is not on PATH", "./bootstrap setup")
    cache = cache_dir()
    try:
        kernel = kernels.find(cache)
    except RunnerError:
        kernel = kernels.unpack(None, cache)
    image, said = directory / "initramfs", directory / "said"
    modules = guest_image.modules(kernel, cache)
    inside, runners = Path(__file__).with_name("fresh_inside.py"), Path(kernels.__file__).parents[1]
    guest_image.build(image, cache, busybox=Path(busybox), runners=runners, inside=inside, modules=modules)
    machine = ("-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", str(MEMORY_MIB), "-nodefaults", "-no-reboot")
    boots = ("-kernel", str(kernel.path), "-initrd", str(image), "-append", "console=ttyS0 quiet panic=-1")
    serials = ("-display", "none", "-serial", f"file:{directory / 'console'}", "-serial", f"file:{said}")
    subprocess.run([emulator, "-no-user-config", *machine, *boots, *serials], check=True, timeout=DEADLINE_S)
    return said.read_text(errors="replace")


def main() -> int:
    """Boot, and print one line for each pair of readings."""
    with tempfile.TemporaryDirectory() as directory:
        said = boot(Path(directory))
    before: dict[str, float] = {}
    told = 0
    for line in said.splitlines():
        if not line.startswith("{"):
            click.echo(line, err=True)
            continue
        reading = json.loads(line)
        what, count = reading["what"], reading["count"]
        lists = float(hostmem.parse_percpu_lists_bytes(reading["zoneinfo"]))
        unused = hostmem.unused_bytes({**hostmem.parse_meminfo(reading["meminfo"]), hostmem.PERCPU_LISTS: lists})
        if not count:
            before[what] = unused
            continue
        if not told:
            click.echo(f"Linux {reading['release']}, cgroup v1: MiB of the host")
        click.echo(f"{what:36}{(before[what] - unused) / count / (1 << 20):7.3f}   by {count}")
        told += 1
    return 0 if told == READINGS else 1


if __name__ == "__main__":
    sys.exit(main())
