"""A guest that has cgroup v2 alone: the distribution's kernel, with an initramfs of busybox, Python and the runtime.

Everything comes out of the distribution's packages, unpacked and never installed. The part that does not change (C
library, Python, libseccomp) is kept in the cache under a digest of the packages' versions; the runtime and the tests
are copied from the checkout each time.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
import subprocess
from pathlib import Path

from tare.runners import payload
from tare.runners.image import initramfs
from tare.runners.image.cache import keep, workspace
from tare.runners.image.kernel import Kernel
from tare.runners.launch import entry, exec_gate

#: What CPython needs to start, ctypes and json included, and the library that makes filters, in Debian and Ubuntu.
_LIBRARIES = ("libc6", "zlib1g", "libexpat1", "libffi8", "libseccomp2", "libbz2-1.0", "liblzma5")
#: The standard library without what no test imports: it is unpacked into the guest's memory at each boot.
_LEFT_OUT = (
    "config-* distutils ensurepip idlelib lib2to3 pydoc_data test tkinter turtledemo unittest xml xmlrpc"
    " multiprocessing asyncio email http"
).split()

#: A block device, and what a warm container's root is made of.
MODULES = ("loop", "overlay")

_INIT = """\
#!/bin/sh
busybox mkdir -p /proc /sys /dev /run /tmp
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t tmpfs tmpfs /tmp
busybox mount -t cgroup2 cgroup2 /sys/fs/cgroup
for module in /modules/*.ko; do [ ! -e $module ] || busybox insmod $module; done
# The initramfs is no place to pivot from (pivot_root(2)): an empty layer above it is.
busybox mkdir /tmp/u /tmp/w /tmp/root
busybox mount -t tmpfs root /tmp/root
for name in bin lib lib64 usr tare; do [ ! -e /$name ] || busybox cp -a /$name /tmp/root/; done
busybox mkdir /tmp/root/proc /tmp/root/sys /tmp/root/dev /tmp/root/tmp /tmp/root/run
for name in proc sys dev; do busybox mount --move /$name /tmp/root/$name; done
exec busybox switch_root /tmp/root /tare/start
"""
_START = """\
#!/bin/sh
export PATH=/usr/bin:/bin
$(echo /usr/bin/python3.[0-9]*) -I -S -B /tare/inside.py >/dev/ttyS1 2>&1
busybox poweroff -f
"""


def _run(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def packages() -> list[str]:
    """The names of the packages, Python's by its version: what apt knows here."""
    listed = _run("apt-cache", "depends", "--important", "python3-minimal")
    found = re.search(r"Depends: (python3\.\d+)-minimal", listed)
    if found is None:
        raise FileNotFoundError(f"apt knows no python3-minimal: {listed}")
    python = found[1]
    return [f"{python}-minimal", f"lib{python}-minimal", f"lib{python}-stdlib", *_LIBRARIES]


def base(cache: Path) -> Path:
    """The unchanging part of the guest's root filesystem, below *cache*."""
    names = packages()
    uris = _run("apt-get", "download", "--print-uris", *names)  # file names with versions, sizes and digests
    digest = hashlib.sha256(f"1 {_LEFT_OUT} {uris}".encode()).hexdigest()[:16]

    def build(root: Path) -> None:
        root.mkdir()
        with workspace(cache) as scratch:
            _run("apt-get", "-q", "download", *names, cwd=scratch)
            for package in sorted(scratch.glob("*.deb")):
                _run("dpkg-deb", "--extract", str(package), str(root))
        for unused in ("etc", "usr/share", "usr/lib/x86_64-linux-gnu/gconv", "usr/sbin", "sbin"):
            shutil.rmtree(root / unused, ignore_errors=True)
        for library in (root / "usr/lib").glob("python3*"):
            for pattern in _LEFT_OUT:
                for one in library.glob(pattern):
                    shutil.rmtree(one)
        if not (root / "lib").is_symlink() and not (root / "lib64").exists():
            (root / "lib64").symlink_to("usr/lib64")  # Debian 13 ships files in /usr only

    return keep(cache, f"guest-python-{digest}", build)


def modules(kernel: Kernel, cache: Path) -> Path | None:
    """A directory with :data:`MODULES` out of *kernel*'s package; None if apt has that package no more."""
    name = f"linux-image-{kernel.release}"
    if subprocess.run(["apt-cache", "show", name], capture_output=True, check=False).returncode:
        return None

    def build(target: Path) -> None:
        target.mkdir()
        with workspace(cache) as scratch:
            _run("apt-get", "-q", "download", name, cwd=scratch)
            (package,) = scratch.glob("*.deb")
            _run("dpkg-deb", "--extract", str(package), str(scratch / "tree"))
            for module in MODULES:
                found = next((scratch / "tree").rglob(f"{module}.ko*"))
                # Debian 13 packs its modules; 12 does not.
                data = found.read_bytes()
                (target / f"{module}.ko").write_bytes(lzma.decompress(data) if found.suffix == ".xz" else data)

    return keep(cache, f"guest-modules-{'-'.join(MODULES)}-{kernel.release}-{kernel.digest}", build)


def build(target: Path, cache: Path, *, busybox: Path, runners: Path, inside: Path, modules: Path | None) -> None:
    """Write the guest's initramfs to *target*: *runners* is that directory, *inside* the tests' program."""
    with workspace(cache) as scratch:
        root = scratch / "root"
        shutil.copytree(base(cache), root, symlinks=True)
        binaries = root / "usr/bin" if (root / "bin").is_symlink() else root / "bin"
        binaries.mkdir(exist_ok=True)
        shutil.copy(busybox, binaries / "busybox")
        (binaries / "sh").symlink_to("busybox")
        tare = root / "tare"
        shutil.copytree(runners, tare / "runners", ignore=shutil.ignore_patterns("__pycache__"))
        (tare / "tare").mkdir()  # the one name to import, as in a checkout
        (tare / "tare/__init__.py").touch()
        (tare / "tare/runners").symlink_to("../runners")
        shutil.copy(inside, tare / "inside.py")
        (tare / "cache").mkdir()
        # There is no compiler in the guest.
        for program in (payload.binary(cache), exec_gate.binary(cache), entry.binary(cache)):
            shutil.copy(program, tare / "cache")
        if modules is not None:
            shutil.copytree(modules, root / "modules")
        for path, text in ((root / "init", _INIT), (tare / "start", _START)):
            path.write_text(text)
            path.chmod(0o755)
        with target.open("wb") as stream:
            initramfs.write(stream, root)
