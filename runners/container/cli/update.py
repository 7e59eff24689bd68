"""The verb update: changes the limits of a container, by the flags of runc and crun, or by JSON.

A limit that is not named stays as it is, also one of a pair: it is read from the kernel's files, so no update is
stored.
"""

from __future__ import annotations

from ..cgroup import apply, resources
from ..errors import OciError
from ..lifecycle import state
from ..light import json
from ..reader import BundleError, Reader
from . import pause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..light.argparse import Parsed
    from .main import Call

_UNITS = "kmgtp"


def update(call: Call) -> int:
    """Change the limits of a container; its configuration stays as it was made."""
    for name in ("l3-cache-schema", "mem-bw-schema"):
        if call.options.text(name):
            raise OciError(f"--{name}", "is not supported: it needs Intel RDT", "leave it out")
    path = call.options.text("resources")
    given: object = asked(call.options)
    if path:
        if given:
            call.log.warning("update: with --resources all other limits are ignored, as in runc")
        given = _read(path)
    group = pause.group_in(call, "update", ("created", "running", "paused"))
    reader = Reader(given, "linux.resources")
    try:
        wanted = resources.parse(reader)
        for line in reader.warnings:
            call.log.warning(line)
        apply.update(wanted, group, call.log.warning)
    except BundleError as error:
        raise OciError(path or _flag(error.where), error.why if not path else str(error), error.fix) from None
    return 0


def _read(path: str) -> object:
    try:
        return json.loads(state.read_bytes("/dev/stdin" if path == "-" else path))
    except ValueError as error:
        raise OciError(path, str(error), "correct the JSON") from None


def asked(options: Parsed) -> dict[str, dict[str, object]]:
    """The flags as ``linux.resources``. Raises OciError for a text that is not a number or a size."""
    found: dict[str, dict[str, object]] = {}
    for flag, (section, key, read) in FLAGS.items():
        text = options.text(flag)
        if not text:
            continue
        try:
            found.setdefault(section, {})[key] = read(text)
        except ValueError as error:
            fix = "give bytes, or a number with k, m, g, t or p" if read is size_of else "give a whole number"
            raise OciError(f"--{flag}", str(error), fix) from None
    return found


def number_of(text: str) -> int:
    """A whole number, which may be negative. Raises ValueError."""
    if not (text.isascii() and text.removeprefix("-").isdecimal()):
        raise ValueError(f"{text!r} is not a number")
    return int(text)


def size_of(text: str) -> int:
    """Bytes: 512, 64k, 1.5 GiB; k is 1024. -1 is "no limit". Raises ValueError."""
    if text == "-1":
        return -1
    word = text.lower().removesuffix("b").removesuffix("i")
    power = _UNITS.find(word[-1]) + 1 if word else 0
    whole, point, fraction = (word[:-1] if power else word).removesuffix(" ").partition(".")
    if not (whole + fraction).isascii() or not whole.isdecimal() or bool(point) != fraction.isdecimal():
        raise ValueError(f"{text!r} is not a size")
    return (int(whole + fraction) << 10 * power) // int(f"1{'0' * len(fraction)}")


#: Flag -> (section of ``linux.resources``, key, reader of its text). Two names of the same limit are next to each
#: other.
FLAGS: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "memory": ("memory", "limit", size_of),
    "memory-swap": ("memory", "swap", size_of),
    "memory-reservation": ("memory", "reservation", size_of),
    "kernel-memory": ("memory", "kernel", size_of),
    "kernel-memory-tcp": ("memory", "kernelTCP", size_of),
    "cpu-period": ("cpu", "period", number_of),
    "cpu-quota": ("cpu", "quota", number_of),
    "cpu-burst": ("cpu", "burst", number_of),
    "cpu-share": ("cpu", "shares", number_of),
    "cpu-shares": ("cpu", "shares", number_of),
    "cpu-idle": ("cpu", "idle", number_of),
    "cpu-rt-period": ("cpu", "realtimePeriod", number_of),
    "cpu-rt-runtime": ("cpu", "realtimeRuntime", number_of),
    "cpuset-cpus": ("cpu", "cpus", str),
    "cpuset-mems": ("cpu", "mems", str),
    "pids-limit": ("pids", "limit", number_of),
    "blkio-weight": ("blockIO", "weight", number_of),
}


def _flag(where: str) -> str:
    """The flag from which the key *where* of the configuration was made."""
    for flag, (section, key, _) in FLAGS.items():
        if where == f"linux.resources.{section}.{key}":
            return f"--{flag}"
    return where
