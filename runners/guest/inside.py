"""What runs a workload of a user's in a guest (``init.c``), what it is told, and what asks it for more (``ask.c``)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tare.runners.base import RunnerError, Spec
from tare.runners.guest import network
from tare.runners.image import initramfs
from tare.runners.payload import compiled

#: All of ours in the initramfs is below this directory.
_OWN = ".tare"
INIT = f"/{_OWN}/init"
_HOSTNAME = "tare"
#: Programs that are the init of a whole system.
INITS = ("init", "systemd")
#: What a workload counts as that had not ended when its machine did: killed, 128 + SIGKILL.
KILLED = 137
#: What ``init.c`` says at the end, on the kernel's console.
_END = re.compile(r"^tare init: the workload ended with status (\d+)\s*$", re.MULTILINE)
_COPY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """What a kind of machine calls its devices: a disk, a network device, and what leads to :func:`asker`.

    ``terminal`` is a serial line; without it these are ``ports`` of virtio-serial. A machine without a disk, a network
    device or a port has none of them here.
    """

    disk: str
    link: str
    terminal: str = ""
    ports: int = 1


def asker(cache: Path) -> Path:
    """The compiled ``ask.c``, for the host. Raises RunnerError."""
    return compiled(Path(__file__).with_name("ask.c"), cache)


def is_init(spec: Spec) -> bool:
    """Whether the workload of *spec* is the init of a whole system, which must be process 1."""
    return spec.custom and (not spec.argv or Path(spec.argv[0]).name in INITS)


def description(
    spec: Spec, devices: Devices, modules: Sequence[str] = (), *, on_disk: bool = False, networked: bool = False,
    tells: bool = False, command: bool = True,
) -> bytes:  # fmt: skip
    """What ``init.c`` is told: it says there what each letter means. Raises RunnerError for a NUL in a word.

    One that *tells* says how far the machine is. Without *command* it has no workload to run.
    """
    texts = [f"m{name}" for name in modules]
    texts += [f"h{_HOSTNAME}", f"w{spec.cwd}", f"u{spec.user.uid}", f"g{spec.user.gid}"]
    texts += [f"s{group}" for group in spec.user.groups]
    if on_disk:
        texts.append(f"d{devices.disk}")
    if networked:
        texts += [f"l{devices.link}", f"a{network.GUEST}", f"p{network.HOST}"]
    if devices.terminal:
        texts.append(f"t{devices.terminal}")
    if command and is_init(spec):
        texts.append("i")
    if tells:
        texts.append("v")
    if devices.ports != 1:
        texts.append(f"n{devices.ports}")
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
