"""The guest kernel: the distribution's own, unpacked from its package into the cache; nothing is installed.

``python -m tare.runners.image.kernel [--package FILE.deb]`` prints the kernel's path. It asks apt for the package the
first time; from then on it answers from the cache, at once and without a network.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from tare.runners.base import RunnerError
from tare.runners.image import bzimage, modules
from tare.runners.image.cache import cache_dir, publish, workspace

#: Packages that depend on the newest kernel, the smallest first: cloud kernels boot faster, and all have the 8250 and
#: the initramfs built in. Debian's names, then Ubuntu's.
META_PACKAGES = {
    "amd64": ("linux-image-cloud-amd64", "linux-image-kvm", "linux-image-virtual", "linux-image-amd64"),
}

#: How the entries of the cache begin; the release and the package's digest follow.
_ENTRY = "linux-"
_FIX = 'run ./bootstrap, or name a kernel with the option kernel = "/path"'
_BOOT_FILE = re.compile(r"\./boot/(?:vmlinuz|vmlinux)-(?P<release>[^/]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packaged:
    """What is read from a package: the kernel as it is, and its modules for virtual machines by name."""

    release: str
    image: bytes
    modules: Mapping[str, bytes]
    built_in: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel that QEMU can start directly. ``note`` says why it is not unpacked; it is empty when it is.

    ``modules`` is a directory with those for virtual machines, if it came out of a package.
    """

    path: Path
    release: str
    digest: str
    note: str = ""
    modules: Path | None = None

    def describe(self) -> str:
        """One line for a reader: which kernel, in which form."""
        return f"Linux {self.release} ({f'compressed: {self.note}' if self.note else 'uncompressed, PVH'})"


def find(cache: Path, path: Path | None = None) -> Kernel:
    """The kernel at *path*, or the newest in *cache*.

    Raises RunnerError when there is none, when it is none, and when the cache cannot be used.
    """
    if path is not None:
        return _explicit(path)
    cached = _cached(cache)
    if not cached:
        with workspace(cache):  # where it cannot be used, that is the reason
            pass
        raise RunnerError("there is no guest kernel", f"none below {cache}", _FIX)
    return cached[-1]


def unpack(package: Path | None, cache: Path) -> Kernel:
    """Take the kernel out of the ``.deb`` file *package*; ``None`` asks apt for one. Raises RunnerError."""
    with workspace(cache) as scratch:
        found = package or _download(scratch)
        try:
            with found.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        except OSError as error:
            raise RunnerError(f"the package {found} cannot be read", str(error), _FIX) from error
        known = next(cache.glob(f"{_ENTRY}*-{digest}"), None)
        if known is not None and not _is_whole(known):
            shutil.rmtree(known)
            known = None
        if known is None:
            package_kernel = _from_package(found)
            built = scratch / f"{_ENTRY}{package_kernel.release}-{digest}"
            _store(package_kernel, built)
            known = cache / built.name
            publish(built, known)
    return _load(known)


def _explicit(path: Path) -> Kernel:
    try:
        image = path.read_bytes()
    except OSError as error:
        raise RunnerError(f"the kernel {path} cannot be read", str(error), _FIX) from error
    digest = hashlib.sha256(image).hexdigest()[:16]
    if image.startswith(b"\x7fELF"):
        if not bzimage.boots_by_pvh(image):
            raise RunnerError(
                f"the kernel {path} cannot be started directly", "an ELF file without a PVH note", "give its bzImage"
            )
        return Kernel(path=path.absolute(), release=path.name, digest=digest)
    bzimage.check(image, str(path))
    return Kernel(
        path=path.absolute(), release=bzimage.release(image) or path.name, digest=digest, note="used as given"
    )


def _natural(release: str) -> list[tuple[int, str]]:
    """A sort key by which 6.10 comes after 6.9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"\d+|\D+", release)]


def _cached(cache: Path) -> list[Kernel]:
    return sorted(map(_load, cache.glob(f"{_ENTRY}*-*")), key=lambda kernel: (_natural(kernel.release), kernel.digest))


def _load(directory: Path) -> Kernel:
    digest = directory.name.rpartition("-")[2]
    release, _, note = (directory / "release.txt").read_text().strip().partition("\n")
    return Kernel(
        path=directory / ("bzImage" if note else "vmlinux"),
        release=release,
        digest=digest,
        note=note,
        modules=directory / "modules",
    )


def _is_whole(directory: Path) -> bool:
    """Whether it has all modules that are asked for today: entries of an older tare do not."""
    try:
        selected = (directory / "modules" / modules.SELECTION).read_text()
    except OSError:
        return False
    return selected == modules.SELECTED and (directory / "modules" / modules.LIST).exists()


def _store(packaged: _Packaged, directory: Path) -> None:
    """Fill *directory*: ``bzImage`` as packaged, ``vmlinux`` where possible, ``release.txt`` with the reason if not."""
    release = packaged.release
    (directory / "modules").mkdir(parents=True)
    for name, data in packaged.modules.items():
        (directory / "modules" / f"{name}.ko").write_bytes(data)
    (directory / "modules" / modules.LIST).write_bytes(packaged.built_in)
    (directory / "modules" / modules.SELECTION).write_text(modules.SELECTED)
    (directory / "bzImage").write_bytes(packaged.image)
    note = ""
    try:
        kernel = bzimage.unpack(packaged.image)
        if not bzimage.boots_by_pvh(kernel):
            note = "it has no PVH entry"
        else:
            (directory / "vmlinux").write_bytes(kernel)
    except bzimage.Unreadable as error:
        note = str(error)
    (directory / "release.txt").write_text(f"{release}\n{note}\n" if note else f"{release}\n")


def _from_package(package: Path) -> _Packaged:
    """The kernel in the ``.deb`` file *package*, read as a stream: nothing else is unpacked."""
    if shutil.which("dpkg-deb") is None:
        raise RunnerError(f"the package {package} cannot be unpacked", "dpkg-deb is not on PATH", _FIX)
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as unpacker:
        try:
            with tarfile.open(fileobj=cast(BinaryIO, unpacker.stdout), mode="r|") as archive:
                found = _search(archive, package)
        except (tarfile.TarError, lzma.LZMAError) as error:
            complaint = cast(BinaryIO, unpacker.stderr).read().decode(errors="replace").strip()
            raise RunnerError(f"{' '.join(command)} failed", complaint, _FIX) from error
        finally:
            unpacker.kill()
    if found is None:
        raise RunnerError(f"the package {package} holds no kernel", "it has no boot/vmlinuz-*", _FIX)
    return found


def _search(archive: tarfile.TarFile, package: Path) -> _Packaged | None:
    release, image, built_in = "", b"", b""
    found: dict[str, bytes] = {}
    for member in archive:
        content = archive.extractfile(member) if member.isfile() else None
        if content is None:
            continue
        if match := _BOOT_FILE.fullmatch(member.name):
            release, image = match["release"], content.read()
            bzimage.check(image, f"{member.name} in {package}")
        elif modules.is_list(member.name):
            built_in = content.read()
        elif module := modules.member(member.name, cast(BinaryIO, content)):
            found[module[0]] = module[1]
    return _Packaged(release=release, image=image, modules=found, built_in=built_in) if release else None


def _run(command: Sequence[str], directory: Path) -> str:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    except OSError as error:
        raise RunnerError(f"{' '.join(command)} failed", str(error), _FIX) from error
    if done.returncode:
        raise RunnerError(
            f"{' '.join(command)} failed", done.stderr.strip()[-400:], "run apt-get update, then try again"
        )
    return done.stdout


def _download(directory: Path) -> Path:
    """Fetch the newest kernel package with apt, as any user can, into *directory*."""
    for tool in ("dpkg", "apt-cache", "apt-get"):
        if shutil.which(tool) is None:
            raise RunnerError("the guest kernel cannot be fetched", f"{tool} is not on PATH", _FIX)
    architecture = _run(["dpkg", "--print-architecture"], directory).strip()
    metas = META_PACKAGES.get(architecture)
    if metas is None:
        raise RunnerError("the guest kernel cannot be fetched", f"no package is known for {architecture}", _FIX)
    command = ["apt-cache", "depends", "--no-recommends", "--no-suggests", "--important"]
    for meta in metas:
        listed = subprocess.run([*command, meta], capture_output=True, text=True, check=False).stdout
        real = re.search(r"^ *\|?Depends: (linux-image-\S*\d\S*)$", listed, re.MULTILINE)
        if real:
            _run(["apt-get", "download", real[1]], directory)
            return next(directory.glob("*.deb"))
    raise RunnerError("apt knows no kernel package", f"tried {', '.join(metas)}", "run apt-get update, then try again")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the path of the guest kernel on stdout, unpacking it first if need be; 6 when there is none to be had."""
    parser = argparse.ArgumentParser(prog="python -m tare.runners.image.kernel", description=__doc__)
    parser.add_argument("--package", type=Path, metavar="FILE.deb", help="take the kernel from this package")
    package: Path | None = parser.parse_args(arguments).package
    cache = cache_dir()
    try:
        whole = [kernel for kernel in _cached(cache) if _is_whole(kernel.path.parent)]
        kernel = unpack(package, cache) if package or not whole else find(cache)
    except RunnerError as error:
        sys.stderr.write(f"{error.what}\n{error.why}\n{error.fix}\n")
        return 6
    if kernel.note:
        sys.stderr.write(f"the kernel {kernel.path} stays compressed: {kernel.note}\n")
    sys.stdout.write(f"{kernel.path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
