"""What runs a workload of a user's in a guest (``init.c``), what it is told, and what asks it for more (``ask.c``)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from tare.runners.base import RunnerError, Spec
from tare.runners.image import initramfs
from tare.runners.payload import compiled
from tare.runners.vm import network

#: All of ours in the initramfs is below this directory.
_OWN = ".tare"
INIT = f"/{_OWN}/init"
HOSTNAME = "tare"
#: Programs that are the init of a whole system.
INITS = ("init", "systemd")
_DISK = "/dev/vda"
#: What ``init.c`` says at the end, on the kernel's console.
_END = re.compile(r"^tare init: the workload ended with status (\d+)\s*$", re.MULTILINE)
_COPY_BYTES = 1 << 20


def asker(cache: Path) -> Path:
    """The compiled ``ask.c``, for the host. Raises RunnerError."""
    return compiled(Path(__file__).with_name("ask.c"), cache)


def is_init(spec: Spec) -> bool:
    """Whether the workload of *spec* is the init of a whole system, which must be process 1."""
    return spec.custom and (not spec.argv or Path(spec.argv[0]).name in INITS)


def description(
    spec: Spec, modules: Sequence[str] = (), *, on_disk: bool = False, networked: bool = False, tells: bool = False,
    command: bool = True,
) -> bytes:  # fmt: skip
    """What ``init.c`` is told: it says there what each letter means. Raises RunnerError for a NUL in a word.

    Without *command* it has no workload to run.
    """
    texts = [f"m{name}" for name in modules]
    texts += [f"h{HOSTNAME}", f"w{spec.cwd}", f"u{spec.user.uid}", f"g{spec.user.gid}"]
    texts += [f"s{group}" for group in spec.user.groups]
    if on_disk:
        texts.append(f"d{_DISK}")
    if networked:
        texts += [f"a{network.GUEST}", f"p{network.HOST}"]
    if command and is_init(spec):
        texts.append("i")
    if tells:
        texts.append("t")
    texts += [f"e{key}={value}" for key, value in spec.env]
    texts += [f"c{word}" for word in spec.argv if command]
    for text in texts:
        if "\0" in text:
            raise RunnerError(f"the word {text[1:]!r} cannot be passed to a program", "it has a NUL in it")
    return b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in texts)


def write_initrd(
    target: Path, image: Path | None, told: bytes, modules: Sequence[Path], cache: Path, directory: Path
) -> None:
    """Write *target*: the initramfs *image*, if there is one, and after it ours; *directory* is empty, to work in.

    The kernel unpacks one archive after the other (early-userspace/buffer-format.rst). Raises RunnerError or OSError.
    """
    root = directory / "root"
    own = root / _OWN
    write_program(own, told, cache)
    for module in modules:
        shutil.copyfile(module, own / module.name)
    with target.open("xb") as stream:
        if image is not None:
            with image.open("rb") as content:
                shutil.copyfileobj(content, stream, _COPY_BYTES)
        initramfs.write(stream, root)


def write_program(directory: Path, told: bytes, cache: Path) -> None:
    """Make *directory*, with the compiled ``init.c`` and what it is told. Raises RunnerError or OSError."""
    directory.mkdir(parents=True)
    directory.chmod(0o755)
    shutil.copyfile(compiled(Path(__file__).with_name("init.c"), cache), directory / "init")
    (directory / "init").chmod(0o755)
    (directory / "workload").write_bytes(told)


def ended_with(log: str) -> int | None:
    """The status of the workload by the guest's *log*; None if it does not say one."""
    found = _END.findall(log)
    return int(found[-1]) if found else None
