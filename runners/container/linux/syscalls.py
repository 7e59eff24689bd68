"""System calls that Python lacks: thin checked wrappers and the kernel's constants, no policy.

Those about mounts are in :mod:`mount_calls`; those that few programs need are in :mod:`rare_calls`.

C is called through :mod:`light.ctypes`. Each wrapper raises OSError with the path it was given, and with a better text
where the kernel's own misleads. Calls keep the interpreter lock: the child of :func:`clone3`, a copy of only the
calling thread, needs the lock to go on.

Constants: linux/sched.h, linux/prctl.h, linux/capability.h, linux/close_range.h, linux/openat2.h, linux/bpf.h,
linux/keyctl.h, linux/sockios.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from ..light import ctypes

CLONE_NEWTIME = 0x00000080
CLONE_FILES = 0x00000400
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_IN_ROOT = 0x10

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLOSE_RANGE_CLOEXEC = 4

_BPF_PROG_LOAD, _BPF_PROG_ATTACH = 5, 8
_BPF_PROG_TYPE_CGROUP_DEVICE, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI = 15, 6, 2
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_AF_INET, _SOCK_DGRAM = 2, 2

_CAPABILITY_VERSION_3 = 0x20080522
# Calls since Linux 5.1 have the same number on every architecture.
_SYS_CLONE3, _SYS_OPENAT2 = 435, 437
AT_FDCWD = -100

#: The number of an older call differs by architecture; all but x86-64 use the generic table.
_SYS_KEYCTL, _SYS_BPF = (250, 321) if os.uname().machine == "x86_64" else (219, 280)
_SYS_SECCOMP = 317 if os.uname().machine == "x86_64" else 277
_SYS_IOPRIO_SET = 251 if os.uname().machine == "x86_64" else 30
_SYS_SCHED_SETATTR = 314 if os.uname().machine == "x86_64" else 274
SECCOMP_SET_MODE_FILTER = 1

library = _libc = ctypes.Library()

_long, _int, _ulong, _text = ctypes.c_long, ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p
_SIGNATURES: dict[str, tuple[object, ...]] = {
    "sethostname": (_text, ctypes.c_size_t),
    "setdomainname": (_text, ctypes.c_size_t),
    "personality": (_ulong,),
    "prlimit": (_int, _int, _text, _text),
    "prctl": (_int, _ulong, _ulong, _ulong, _ulong),
    "capset": (_text, _text),
    "capget": (_text, _ulong),
    "unshare": (_int,),
    "setns": (_int, _int),
    "socket": (_int, _int, _int),
}
for _name, _types in _SIGNATURES.items():
    getattr(_libc, _name).argtypes = _types
_libc.syscall.restype = _long


def failed(call: str, path: str | None = None) -> OSError:
    """The OSError of the last call; EPERM and ENOSYS are explained, since their own texts say little."""
    number = ctypes.get_errno()
    text = f"{call}: {os.strerror(number)}"
    if number == errno.EPERM:
        text += " (needs root, or CAP_SYS_ADMIN in this user namespace, and no seccomp filter or LSM that forbids it)"
    elif number == errno.ENOSYS:
        text += " (this kernel is too old for it, or a seccomp filter hides it)"
    return OSError(number, text, path)


def sethostname(name: str) -> None:
    """sethostname(2)."""
    encoded = name.encode()
    if _libc.sethostname(encoded, len(encoded)) < 0:
        raise failed(f"sethostname {name}")


def setdomainname(name: str) -> None:
    """setdomainname(2)."""
    encoded = name.encode()
    if _libc.setdomainname(encoded, len(encoded)) < 0:
        raise failed(f"setdomainname {name}")


def personality(persona: int) -> None:
    """personality(2)."""
    if _libc.personality(persona) < 0:
        raise failed("personality")


def prlimit(pid: int, which: int, limits: tuple[int, int]) -> None:
    """prlimit(2) of process *pid*, 0 is the caller; *limits* are soft and hard, -1 is no limit."""
    if _libc.prlimit(pid, which, struct.pack("=qq", *(limit if limit < 1 << 63 else -1 for limit in limits)), None) < 0:
        raise failed("prlimit")


def ioprio_set(priority: int) -> None:
    """ioprio_set(2) of the calling thread."""
    if _libc.syscall(_long(_SYS_IOPRIO_SET), _long(1), _long(0), _long(priority)) < 0:
        raise failed("ioprio_set")


def sched_setattr(attributes: bytes) -> None:
    """sched_setattr(2) of the calling thread; *attributes* are a struct sched_attr."""
    if _libc.syscall(_long(_SYS_SCHED_SETATTR), _long(0), attributes, _long(0)) < 0:
        error = failed("sched_setattr")
        if error.errno == errno.EPERM:
            why = "needs CAP_SYS_NICE; real time in a cpu cgroup of v1 also needs linux.resources.cpu.realtimeRuntime"
            raise OSError(error.errno, f"sched_setattr: {os.strerror(errno.EPERM)} ({why})")
        raise error


def openat2(path: str, flags: int, resolve: int, *, dir_fd: int = AT_FDCWD) -> int:
    """openat2(2), Linux 5.6; close-on-exec. *resolve* are flags RESOLVE_*."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    name = os.fsencode(path)
    for _ in range(64):
        fd: int = _libc.syscall(_long(_SYS_OPENAT2), _long(dir_fd), name, how, ctypes.c_size_t(len(how)))
        if fd >= 0:
            return fd
        # With RESOLVE_IN_ROOT, "..": the kernel could not resolve it safely, since something was renamed or mounted
        # meanwhile.
        if ctypes.get_errno() != errno.EAGAIN:
            break
    raise failed("openat2", path)


def prctl(option: int, argument: int = 0, third: int = 0) -> None:
    """prctl(2) with the unused arguments zero, as several options demand."""
    if _libc.prctl(option, argument, third, 0, 0) < 0:
        raise failed(f"prctl {option}")


def capabilities() -> tuple[int, int]:
    """capget(2) of the caller: the permitted and the inheritable set, as bit masks."""
    header, data = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), ctypes.create_string_buffer(b"", 24)
    if _libc.capget(header, ctypes.addressof(data)) < 0:
        raise failed("capget")
    words = struct.unpack("=6I", bytes(data))
    return words[1] | words[4] << 32, words[2] | words[5] << 32


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of the caller; each set is a bit mask."""
    if _libc.capset(*capability_sets(effective, permitted, inheritable)) < 0:
        raise failed("capset")


def capability_sets(effective: int, permitted: int, inheritable: int) -> tuple[bytes, bytes]:
    """The two arguments of capset(2)."""
    low, high = 0xFFFFFFFF, 32
    sets = (effective, permitted, inheritable)
    data = struct.pack("=6I", *(part & low for part in sets), *(part >> high for part in sets))
    return struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), data


def inherit(mask: int) -> None:
    """Add *mask* to the caller's inheritable set. All that is permitted becomes effective; nothing else changes."""
    permitted, inheritable = capabilities()
    capset(permitted, permitted, inheritable | mask)


def unshare(flags: int) -> None:
    """unshare(2)."""
    if _libc.unshare(flags) < 0:
        raise failed("unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2)."""
    if _libc.setns(fd, kind) < 0:
        raise failed("setns")


def close_range(first: int, last: int, flags: int) -> None:
    """close_range(2), Linux 5.9; the flag CLOSE_RANGE_CLOEXEC needs 5.11."""
    if _libc.close_range(ctypes.c_uint(first), ctypes.c_uint(last), flags) < 0:
        raise failed("close_range")


def clone3(flags: int, exit_signal: int, *, cgroup_fd: int = -1) -> tuple[int, int]:
    """clone3(2): (pid, pidfd) in the parent, (0, -1) in the child, a copy of the calling thread as after fork(2).

    *cgroup_fd* is a v2 cgroup's directory for CLONE_INTO_CGROUP (Linux 5.7). The child must end in exec or ``_exit``,
    and the caller must be single-threaded: no handlers of ``os.register_at_fork`` run.
    """
    pidfd = ctypes.c_int(-1)
    if cgroup_fd >= 0:
        flags |= CLONE_INTO_CGROUP
    arguments = struct.pack(
        "=11Q", flags | CLONE_PIDFD, ctypes.addressof(pidfd), 0, 0, exit_signal, 0, 0, 0, 0, 0, max(cgroup_fd, 0)
    )
    pid = _libc.syscall(_long(_SYS_CLONE3), arguments, ctypes.c_size_t(len(arguments)))
    if pid < 0:
        raise failed("clone3")
    return pid, pidfd.value if pid else -1


def link_up(interface: str) -> None:
    """Set IFF_UP of *interface* in the caller's network namespace (netdevice(7))."""
    # Any socket will do. Not by the module _socket, which would be loaded only for this.
    carrier: int = _libc.socket(_AF_INET, _SOCK_DGRAM | os.O_CLOEXEC, 0)
    if carrier < 0:
        raise failed("socket", interface)
    try:
        request = fcntl.ioctl(carrier, _SIOCGIFFLAGS, struct.pack("16sH14x", interface.encode(), 0))
        (flags,) = struct.unpack_from("16xH", request)
        fcntl.ioctl(carrier, _SIOCSIFFLAGS, struct.pack("16sH14x", interface.encode(), flags | _IFF_UP))
    finally:
        os.close(carrier)


def new_keyring() -> None:
    """keyctl(2): join a new, empty session keyring without a name."""
    if _libc.syscall(_long(_SYS_KEYCTL), _long(_KEYCTL_JOIN_SESSION_KEYRING), None) < 0:
        raise failed("keyctl")


def seccomp(program: bytes, flags: int = 0) -> None:
    """seccomp(2), SECCOMP_SET_MODE_FILTER: *program* is an array of struct sock_filter (linux/filter.h)."""
    code = ctypes.create_string_buffer(program, len(program))
    filter_ = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
    if _libc.syscall(_long(_SYS_SECCOMP), _long(SECCOMP_SET_MODE_FILTER), _ulong(flags), filter_) < 0:
        raise failed("seccomp")


def bpf_load_device_program(instructions: bytes) -> int:
    """bpf(2), BPF_PROG_LOAD of type CGROUP_DEVICE (Linux 4.15); returns a close-on-exec descriptor."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"MIT", 4)
    places = ctypes.addressof(code), ctypes.addressof(licence)
    attributes = struct.pack("=IIQQ", _BPF_PROG_TYPE_CGROUP_DEVICE, len(instructions) // 8, *places)
    return _bpf(_BPF_PROG_LOAD, attributes)


def bpf_attach_device_program(cgroup_fd: int, program_fd: int) -> None:
    """bpf(2), BPF_PROG_ATTACH of a CGROUP_DEVICE program, in addition to those that are attached."""
    _bpf(_BPF_PROG_ATTACH, struct.pack("=IIII", cgroup_fd, program_fd, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI))


def _bpf(command: int, attributes: bytes) -> int:
    result: int = _libc.syscall(_long(_SYS_BPF), _long(command), attributes, ctypes.c_size_t(len(attributes)))
    if result < 0:
        raise failed("bpf")
    return result
