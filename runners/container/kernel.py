"""The system calls that set-up is made of, as one interface: the kernel's, or a test's that only records them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, Protocol, cast

from . import syscalls as k

#: A system call to make, its arguments, and the error numbers that are no error.
Call = tuple[Callable[..., object], tuple[Any, ...], tuple[int, ...]]


class Sys(Protocol):
    """The system calls that steps are made of."""

    def mount(self, source: str, target: str, kind: str, flags: int, data: str = "", /) -> None:
        """mount(2)."""

    def umount2(self, target: str, flags: int, /) -> None:
        """umount2(2)."""

    def pivot_root(self, new: str, old: str, /) -> None:
        """pivot_root(2)."""

    def mkdir(self, path: str, mode: int, /) -> None:
        """mkdir(2)."""

    def mknod(self, path: str, mode: int, device: int, /) -> None:
        """mknod(2)."""

    def symlink(self, target: str, path: str, /) -> None:
        """symlink(2)."""

    def chdir(self, path: str, /) -> None:
        """chdir(2)."""

    def write(self, path: str, text: str, /) -> None:
        """Open an existing file, write once, close."""

    def unshare(self, flags: int, /) -> None:
        """unshare(2)."""

    def sethostname(self, name: str, /) -> None:
        """sethostname(2)."""

    def prctl(self, option: int, argument: int, /) -> None:
        """prctl(2)."""

    def capset(self, effective: int, permitted: int, inheritable: int, /) -> None:
        """capset(2)."""

    def setgroups(self, groups: list[int], /) -> None:
        """setgroups(2)."""

    def setsid(self) -> None:
        """setsid(2)."""

    def umask(self, mask: int, /) -> int:
        """umask(2)."""

    def link_up(self, interface: str, /) -> None:
        """Set IFF_UP of a network interface (netdevice(7))."""

    def new_keyring(self) -> None:
        """keyctl(2), KEYCTL_JOIN_SESSION_KEYRING without a name."""


class Kernel:
    """The :class:`Sys` that acts."""

    mount = staticmethod(k.mount)
    umount2 = staticmethod(k.umount2)
    pivot_root = staticmethod(k.pivot_root)
    unshare = staticmethod(k.unshare)
    sethostname = staticmethod(k.sethostname)
    prctl = staticmethod(k.prctl)
    capset = staticmethod(k.capset)
    mkdir = staticmethod(os.mkdir)
    mknod = staticmethod(os.mknod)
    symlink = staticmethod(os.symlink)
    chdir = staticmethod(os.chdir)
    setgroups = staticmethod(os.setgroups)
    setsid = staticmethod(os.setsid)
    umask = staticmethod(os.umask)
    link_up = staticmethod(k.link_up)
    new_keyring = staticmethod(k.new_keyring)

    @staticmethod
    def write(path: str, text: str) -> None:
        """Open an existing file, write once, close."""
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        finally:
            os.close(fd)


class Applicable(Protocol):
    """What :func:`flatten` needs of a step."""

    def apply(self, sys: Sys) -> None:
        """Make calls on *sys*."""

    @property
    def tolerated(self) -> tuple[int, ...]:
        """Error numbers that are no error."""


class _Tape:
    """A :class:`Sys` that writes down what is called, with the function of :class:`Kernel` that does it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        act = getattr(Kernel, name)
        return lambda *arguments: self.calls.append((act, arguments))


def flatten(steps: Iterable[Applicable]) -> tuple[tuple[Call, ...], ...]:
    """The calls of each step. A copied process that runs them touches, so copies, fewer pages than by the steps."""
    flat = []
    for step in steps:
        tape = _Tape()
        step.apply(cast("Sys", tape))
        flat.append(tuple((act, arguments, step.tolerated) for act, arguments in tape.calls))
    return tuple(flat)
