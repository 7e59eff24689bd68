"""The names of capabilities as in a configuration, and sets of them as the kernel has them: bit masks."""

from __future__ import annotations

from .reader import BundleError, Reader
from .record import record, replace

#: linux/capability.h, in the order of its numbers.
CAPABILITIES = tuple(
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
    " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN"
    " SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE"
    " MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE".split()
)


@record(kw_only=True)
class Capabilities:
    """The five sets of capabilities(7), each a bit mask."""

    bounding: int = 0
    effective: int = 0
    permitted: int = 0
    inheritable: int = 0
    ambient: int = 0


def parse(sets: Reader) -> Capabilities:
    """The object ``process.capabilities``. Raises BundleError for what the kernel would refuse."""
    made = Capabilities(
        **{
            name: _mask(sets.texts(name), sets.at(name))
            for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
        }
    )
    sets.done()
    if made.effective & ~made.permitted:
        raise BundleError(sets.at("effective"), "holds capabilities that permitted lacks", "add them to permitted")
    # capabilities(7): an ambient one must be permitted and inheritable. What cannot be granted must not stop a
    # container (config.md, "capabilities"), and `runc spec` writes such a set.
    return replace(made, ambient=made.ambient & made.permitted & made.inheritable)


def _mask(names: tuple[str, ...], where: str) -> int:
    mask = 0
    for name in names:
        short = name.removeprefix("CAP_")
        if short == name or short not in CAPABILITIES:
            raise BundleError(where, f"unknown capability {name!r}", "see capabilities(7)")
        mask |= 1 << CAPABILITIES.index(short)
    return mask


def names(mask: int) -> list[str]:
    """The names of the capabilities in *mask*."""
    return [f"CAP_{name}" for number, name in enumerate(CAPABILITIES) if mask >> number & 1]
