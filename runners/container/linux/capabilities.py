"""Capabilities: their names in a configuration, and the kernel's sets of them, as bit masks."""

from __future__ import annotations

from ..light.dataclasses import record, replace
from ..reader import Reader
from .files import read

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
    """The object ``process.capabilities``. Raises BundleError.

    A capability that the kernel does not know or would refuse must not stop a container (config.md, "capabilities"): it
    is left out, with a warning.
    """
    made = Capabilities(
        **{name: mask_of(sets, name) for name in ("bounding", "effective", "permitted", "inheritable", "ambient")}
    )
    sets.done()
    # capabilities(7): an effective capability must be permitted, an ambient one must be inheritable, too. capset(2): an
    # inheritable one must be in the bounding set.
    inheritable = made.inheritable & made.bounding
    bounds = {
        "inheritable": ("bounding", made.bounding),
        "effective": ("permitted", made.permitted),
        "ambient": ("permitted and inheritable", made.permitted & inheritable),
    }
    for name, (needed, bound) in bounds.items():
        if lost := getattr(made, name) & ~bound:
            sets.warn(name, f"{' '.join(names(lost))} cannot be granted: only what is {needed} can be")
    return replace(made, **{name: getattr(made, name) & bound for name, (_, bound) in bounds.items()})


def mask_of(sets: Reader, key: str) -> int:
    """The bit mask of the names in the list at *key*; those that are not known get a warning."""
    mask = 0
    for name in sets.texts(key):
        short = name.removeprefix("CAP_")
        if short == name or short not in CAPABILITIES:
            sets.warn(key, f"the capability {name!r} is not known here and is ignored")
        else:
            mask |= 1 << CAPABILITIES.index(short)
    return mask


def grantable(wanted: Capabilities) -> tuple[Capabilities, str]:
    """The capabilities of *wanted* that the caller has and so can grant, and the names of the others, or "".

    That is for the caller's own user namespace. In one that is made or entered, it has all that the kernel knows.
    """
    from . import syscalls

    own, _ = syscalls.capabilities()
    lacking = (wanted.effective | wanted.permitted | wanted.inheritable | wanted.ambient) & ~own
    if not lacking:
        return wanted, ""
    kept = {name: getattr(wanted, name) & own for name in ("effective", "permitted", "inheritable", "ambient")}
    return replace(wanted, **kept), " ".join(names(lacking))


def names(mask: int) -> list[str]:
    """The names of the capabilities in *mask*."""
    return [f"CAP_{name}" for number, name in enumerate(CAPABILITIES) if mask >> number & 1]


def confined() -> bool:
    """Whether this process is in a user namespace, where root is not the host's: rootless podman starts it in one."""
    # The map of the first namespace is one line, which maps every id to itself.
    return read("/proc/self/uid_map").split() != ["0", "0", str((1 << 32) - 1)]


def last_capability() -> int:
    """The highest number that this kernel knows."""
    return int(read("/proc/sys/kernel/cap_last_cap"))
