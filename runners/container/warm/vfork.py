"""A child that sets itself up in its parent's memory, as vfork(2) gives it: no page is copied, now or on a write.

A child that is a copy of Python needs a copied page table and some 250 copied pages, which are freed at exec: about 1
ms, half of what the kernel's own work for a container takes. A child made with CLONE_VM | CLONE_VFORK needs none of
that: it runs in the parent's memory until it calls exec, and the parent waits meanwhile. Whatever it changes in memory
stays changed, so the child must leave Python as it found it: it has returned from every Python function *before* exec.

No Python function can do that, since it would not return from exec. So the child runs one context after the other
(makecontext(3)), each on a stack of its own::

    set-up, a Python callback     ->  execveat(2), plain C     ->  only if that failed:
                                                                  say so, a Python callback  ->  _exit(2)

execveat executes an open file if its path is empty. Until the set-up has succeeded, the path is not empty: then the
call fails, and nothing is reported.

This needs glibc (makecontext with 64-bit arguments: x86-64, aarch64), a process of one thread, and a Python that does
not check its stack: 3.14 compares the stack pointer with the thread's own stack, and would refuse. Where
:func:`why_not` gives a reason, a plain clone3 is used instead.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys

from ..linux import syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_CLONE_VM, _CLONE_VFORK = 0x00000100, 0x00004000
#: A Python callback with its C calls needs some 20 KiB; pages that are not touched cost nothing.
_LARGE, _SMALL = 1 << 19, 1 << 15
#: clone(2) takes the flags in an int, of which the last byte is the exit signal.
_CLONE_FLAGS = 0xFFFFFF00
_SETUP_FAILED = 126
#: The number differs by architecture; all but x86-64 use the generic table.
_SYS_EXECVEAT = 322 if os.uname().machine == "x86_64" else 281
_AT_EMPTY_PATH = 0x1000
_NO_NAME = b"x"

_pointer = ctypes.c_void_p


class _Context(ctypes.Structure):
    """ucontext_t: its beginning is the same on all architectures of glibc; the rest is only used by the library."""

    _fields_ = (
        ("flags", ctypes.c_ulong),
        ("link", _pointer),
        ("stack", _pointer),
        ("stack_flags", ctypes.c_int),
        ("stack_bytes", ctypes.c_size_t),
        ("rest", ctypes.c_char * 8192),
    )


def why_not(clone_flags: int = 0) -> str:
    """Why a child cannot run in its parent's memory here; empty when it can."""
    if sys.implementation.name != "cpython" or sys.version_info >= (3, 14):
        return "this Python looks at its stack"
    if os.uname().machine not in ("x86_64", "aarch64"):
        return "makecontext passes pointers on x86-64 and aarch64 alone"
    if not os.confstr_names.get("CS_GNU_LIBC_VERSION") or not os.confstr("CS_GNU_LIBC_VERSION"):
        return "the C library is not glibc"
    if clone_flags & ~_CLONE_FLAGS:
        return "clone(2) has no room for these flags"
    return ""


class VforkChild:
    """Makes such children, one after another; see the module."""

    def __init__(
        self,
        *,
        setup: Callable[[], bool],
        failed: Callable[[int], None],
        program: int,
        argv: Sequence[bytes],
        env: Mapping[str, str],
    ) -> None:
        """*setup* runs in the child and returns whether to exec the file *program*, a descriptor.

        *failed* gets the error number of an exec that failed.

        Neither may raise, exit, or leave anything in memory that the parent should not find.
        """
        self._libc = ctypes.PyDLL(None, use_errno=True)
        self._libc.clone.argtypes = (_pointer, _pointer, ctypes.c_int, _pointer, ctypes.POINTER(ctypes.c_int))
        # Private: a fork of this process must not write to these stacks.
        self._memory = mmap.mmap(-1, 2 * _LARGE + 3 * _SMALL, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # One for each context, although the first is not used any more when the last two run: makecontext writes to the
        # top of the stack.
        stacks = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._stacks = (stacks, stacks + _LARGE, stacks + 2 * _LARGE, stacks + 2 * _LARGE + _SMALL)
        #: clone starts on this stack, and goes to the first context at once.
        self._first_stack = stacks + 2 * _LARGE + 3 * _SMALL - 64
        self._contexts = tuple(_Context() for _ in range(4))
        self._program = program
        #: Empty: the descriptor itself is executed. With a name, it would have to be a directory.
        self._path = ctypes.create_string_buffer(1)
        self._argv = _strings(argv)
        self._env = _strings(os.fsencode(f"{name}={value}") for name, value in env.items())

        def enter() -> None:
            # Only now: if the set-up fails in any way, the program must not run.
            if setup():
                self._path[0] = b"\0"

        def leave() -> None:
            if self._path[0] == b"\0":
                failed(ctypes.get_errno())

        self._enter, self._leave = ctypes.CFUNCTYPE(None)(enter), ctypes.CFUNCTYPE(None, use_errno=True)(leave)

    def start(self, clone_flags: int) -> tuple[int, int]:
        """Make a child in new namespaces: (pid, pidfd), once it has called exec or ended. Raises OSError."""
        self._path[0] = _NO_NAME
        self._chain()
        pidfd = ctypes.c_int(-1)
        flags = clone_flags | _CLONE_VM | _CLONE_VFORK | syscalls.CLONE_PIDFD | signal.SIGCHLD
        # Until this call returns, the child uses the memory.
        pid: int = self._libc.clone(
            ctypes.cast(self._libc.setcontext, _pointer),
            self._first_stack,
            flags,
            ctypes.addressof(self._contexts[0]),
            ctypes.byref(pidfd),
        )
        if pid < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"clone: {os.strerror(number)}")
        return pid, pidfd.value

    def _chain(self) -> None:
        """Make the contexts anew: each can be run once."""
        libc, large = self._libc, _LARGE
        enter, execute, leave, end = self._contexts
        path, argv, env = (ctypes.addressof(each) for each in (self._path, self._argv, self._env))
        self._make(enter, self._stacks[0], large, execute, self._enter)
        self._make(leave, self._stacks[1], large, end, self._leave)
        number, whole = _SYS_EXECVEAT, _AT_EMPTY_PATH
        self._make(execute, self._stacks[2], _SMALL, leave, libc.syscall, number, self._program, path, argv, env, whole)
        self._make(end, self._stacks[3], _SMALL, None, libc._exit, _SETUP_FAILED)

    def _make(
        self, context: _Context, stack: int, size: int, link: _Context | None, function: object, *arguments: int
    ) -> None:
        self._libc.getcontext(ctypes.byref(context))
        context.stack, context.stack_bytes = stack, size
        context.link = ctypes.addressof(link) if link is not None else None
        self._libc.makecontext(
            ctypes.byref(context), function, len(arguments), *(ctypes.c_long(each) for each in arguments)
        )


def _strings(words: Iterable[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    """A vector of texts that ends with a null pointer."""
    listed = [*words, None]
    return (ctypes.c_char_p * len(listed))(*listed)
