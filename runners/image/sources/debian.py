"""A Debian system of a suite and packages, made by mmdebstrap from where this host's apt gets its packages."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tare.runners.image import kept
from tare.runners.image.archives.stream import ImageRefused
from tare.runners.image.kept import Filled
from tare.runners.image.shapes.oci import architecture
from tare.runners.image.sources import archive
from tare.runners.image.sources.base import Note, Source, run
from tare.runners.image.tree import Tree

_SETTINGS = Path("/etc/apt/apt.conf.d")
_SUITE = re.compile(r"[a-z][a-z0-9-]{1,30}")
#: Debian policy, 5.6.7.
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
#: A plus between two packages; one at the end of a name (g++, libstdc++6) belongs to it.
_BETWEEN = re.compile(r"\+(?=[a-z]|[0-9]+[a-z])")


#: What makes a Debian system one that boots by itself, on both kinds of firmware.
_SYSTEM = (
    "dbus", "initramfs-tools", "iproute2", "kmod", "linux-image-cloud-amd64", "procps", "systemd-boot-efi",
    "systemd-sysv", "udev",
)  # fmt: skip


def _make(rest: str, cache: Path, note: Note) -> Tree:
    return _made("debian", rest, (), cache, note)


def _make_system(rest: str, cache: Path, note: Note) -> Tree:
    return _made("os", rest, _SYSTEM, cache, note)


def _made(word: str, rest: str, always: tuple[str, ...], cache: Path, note: Note) -> Tree:
    suite, *packages = _BETWEEN.split(rest)
    packages = sorted(set(packages))
    wrong = next((name for name in packages if not _PACKAGE.fullmatch(name)), "")
    if not _SUITE.fullmatch(suite) or wrong:
        kind = "package" if wrong else "suite"
        raise ImageRefused(
            f"cannot use the image {word}:{rest}", f"'{wrong or suite}' is no name of a {kind}",
            f"write {word}:SUITE, or {word}:SUITE+PACKAGE+PACKAGE, such as {word}:bookworm+nginx",
        )  # fmt: skip
    source = "+".join((f"{word}:{suite}", *packages))
    packages = sorted({*packages, *always})

    def fill(root: Path, scratch: Path) -> Filled:
        note(f"mmdebstrap makes {source}", 0)
        file = scratch / "debian.tar"
        run(command(suite, packages, file), f"cannot make the image {source}", "apt-get install mmdebstrap")
        return archive.unpack(file, root, note)

    recipe = hashlib.sha256(f"{architecture()} {source} {' '.join(always)}".rstrip().encode()).hexdigest()[:16]
    return kept.make(cache, f"{word}-{recipe}", source, fill)


def command(suite: str, packages: list[str], target: Path) -> list[str]:
    """What makes the tar *target* of *suite* with *packages*."""
    # mmdebstrap's apt reads no file of the host's, and without these may not reach what the host's apt reaches.
    settings = [f"--aptopt={file}" for file in sorted(_SETTINGS.glob("*")) if file.is_file() and _counts(file.name)]
    include = [f"--include={','.join(packages)}"] if packages else []
    return ["mmdebstrap", "--variant=minbase", *settings, *include, suite, str(target)]


def _counts(name: str) -> bool:
    """Whether apt reads a file of this name: apt.conf(5)."""
    return bool(re.fullmatch(r"[A-Za-z0-9_-]+(\.conf)?", name))


SOURCE = Source(
    form="debian:SUITE[+PACKAGE...]", meaning="a small Debian system with these packages, by mmdebstrap", make=_make
)
SYSTEM = Source(
    form="os:SUITE[+PACKAGE...]",
    meaning="a whole Debian system with its kernel, systemd and a boot loader, and with these packages",
    make=_make_system,
)
