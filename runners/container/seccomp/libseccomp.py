"""libseccomp(3) through ctypes: makes the BPF program of a filter. It is loaded when a filter is made, not before.

The library is used in the parent, and never in the child of a clone. Sources: seccomp_init(3), seccomp_rule_add(3),
seccomp_attr_set(3), seccomp_export_bpf(3), seccomp.h.
"""

from __future__ import annotations

import os
import struct

TYPE_CHECKING = False

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Iterable
    from typing import Protocol

    class Compare(Protocol):
        """A condition on an argument."""

        @property
        def index(self) -> int: ...  # noqa: D102
        @property
        def operator(self) -> int: ...  # noqa: D102
        @property
        def value(self) -> int: ...  # noqa: D102
        @property
        def value_two(self) -> int: ...  # noqa: D102


_NAME = "libseccomp.so.2"
_CTL_OPTIMIZE = 8  # enum scmp_filter_attr
_BINARY_TREE = 2
_NO_SUCH_CALL = -1  # __NR_SCMP_ERROR; other negative numbers are libseccomp's own, for calls of other architectures
_EEXIST = -17

_library: ctypes.CDLL | None = None


def load() -> str:
    """Load the library unless it is loaded; why that is impossible, or an empty text."""
    global _library  # noqa: PLW0603 - a process has one
    if _library is None:
        import ctypes

        try:
            library = ctypes.CDLL(_NAME)
        except OSError as error:
            return str(error)
        pointer, unsigned, text = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_char_p
        library.seccomp_init.argtypes, library.seccomp_init.restype = (unsigned,), pointer
        library.seccomp_release.argtypes, library.seccomp_release.restype = (pointer,), None
        library.seccomp_arch_resolve_name.argtypes = (text,)
        library.seccomp_arch_resolve_name.restype = unsigned
        library.seccomp_arch_add.argtypes = (pointer, unsigned)
        library.seccomp_attr_set.argtypes = (pointer, ctypes.c_int, unsigned)
        library.seccomp_syscall_resolve_name.argtypes = (text,)
        library.seccomp_syscall_resolve_name_arch.argtypes = (unsigned, text)
        library.seccomp_rule_add_array.argtypes = (pointer, unsigned, ctypes.c_int, ctypes.c_uint, text)
        library.seccomp_export_bpf.argtypes = (pointer, ctypes.c_int)
        _library = library
    return ""


def _loaded() -> ctypes.CDLL:
    trouble = load()
    if _library is None:
        raise OSError(trouble)
    return _library


def path() -> str:
    """The file that the loaded library came from."""
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            if "/libseccomp.so" in line:
                return line[line.index("/") :].rstrip("\n")
    raise FileNotFoundError(2, "libseccomp is not loaded", "/proc/self/maps")


def number(name: str) -> int | None:
    """The number of the call *name* on this architecture, or libseccomp's negative one; None if it knows none."""
    found: int = _loaded().seccomp_syscall_resolve_name(name.encode(errors="replace"))
    return None if found == _NO_SUCH_CALL else found


def highest(names: Iterable[str], architecture: str) -> int:
    """The highest number that the calls *names* have on *architecture*; 0 if it, or all of them, are unknown."""
    library = _loaded()
    token = library.seccomp_arch_resolve_name(architecture.encode())
    if not token:
        return 0
    resolve = library.seccomp_syscall_resolve_name_arch
    numbers: list[int] = [resolve(token, name.encode(errors="replace")) for name in names]
    return max((0, *numbers))


class Filter:
    """A filter that is being made; leaving the block frees it. Every method raises OSError."""

    def __init__(self, default_action: int) -> None:
        self._library = _loaded()
        self._context = self._library.seccomp_init(default_action)
        if not self._context:
            raise OSError(22, "seccomp_init refuses the default action")
        # A binary tree. Without it, numbers are compared one after the other: up to 300 steps for each call, and as
        # many when the kernel itself runs the filter at its installation (seccomp_cache_prepare). libseccomp 2.4 has no
        # trees, and returns EEXIST.
        done = self._library.seccomp_attr_set(self._context, _CTL_OPTIMIZE, _BINARY_TREE)
        if done != _EEXIST:
            self._check("seccomp_attr_set", done)

    def __enter__(self) -> Filter:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.seccomp_release(self._context)

    def _check(self, what: str, result: int) -> None:
        if result < 0:
            raise OSError(-result, f"{what}: {os.strerror(-result)}")

    def add_architecture(self, name: str) -> bool:
        """Filter calls of architecture *name* too; False if the library does not know it."""
        token = self._library.seccomp_arch_resolve_name(name.encode())
        if not token:
            return False
        done = self._library.seccomp_arch_add(self._context, token)
        if done != _EEXIST:
            self._check(f"seccomp_arch_add {name}", done)
        return True

    def add(self, action: int, call: int, conditions: Iterable[Compare]) -> None:
        """Take *action* on the call numbered *call* if all *conditions* hold."""
        # struct scmp_arg_cmp: unsigned argument, enum operator, two 64-bit values.
        packed = [struct.pack("=IIQQ", c.index, c.operator, c.value, c.value_two) for c in conditions]
        done = self._library.seccomp_rule_add_array(self._context, action, call, len(packed), b"".join(packed))
        self._check("seccomp_rule_add", done)

    def export(self) -> bytes:
        """The program: struct sock_filter of linux/filter.h, 8 bytes each."""
        fd = os.memfd_create("tare-seccomp", os.MFD_CLOEXEC)
        try:
            self._check("seccomp_export_bpf", self._library.seccomp_export_bpf(self._context, fd))
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)
