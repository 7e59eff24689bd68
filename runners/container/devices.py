"""Which devices a container may open: the standard ones. With CAP_MKNOD, which docker grants, it could open them all.

v1 has rules in files of the devices hierarchy, which a new cgroup copies from the one above it: they are written once,
to a cgroup above all instances. v2 has a BPF program of type CGROUP_DEVICE: it is loaded once and attached to each.

Sources: cgroup-v1/devices.rst; cgroup-v2.rst "Device controller"; linux/bpf.h (struct bpf_cgroup_dev_ctx).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from . import syscalls
from .cgroups import V1, V2, Cgroup, Layout
from .hierarchies import write

#: (major, minor) of null, zero, full, random, urandom, tty, ptmx; and all pseudo-terminals.
ALLOWED: tuple[tuple[int, int | None], ...] = (
    (1, 3),
    (1, 5),
    (1, 7),
    (1, 8),
    (1, 9),
    (5, 0),
    (5, 2),
    (136, None),
)

_MKNOD, _CHARACTER = 1, 2
# Opcodes of linux/bpf.h: load word, move, and, shift right, jump if not equal, jump if equal, return.
_LDX_W, _MOV_REG, _MOV, _AND, _RSH, _JNE, _JEQ, _EXIT = 0x61, 0xBF, 0xB7, 0x54, 0x74, 0x55, 0x15, 0x95


def enforceable(layout: Layout) -> bool:
    """Whether :func:`rules` can do something here."""
    return layout.mode == "v2" or "devices" in layout.v1


def v1_lines() -> list[str]:
    """What may be done, as lines of ``devices.allow``: making any node, using the standard devices."""
    return ["c *:* m", "b *:* m"] + [f"c {major}:{'*' if minor is None else minor} rwm" for major, minor in ALLOWED]


def _instruction(code: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)


def v2_program() -> bytes:
    """The same as BPF: returns 1 to allow. Context: u32 access << 16 | type, u32 major, u32 minor."""

    def answer(value: int) -> bytes:
        return _instruction(_MOV, 0, value=value) + _instruction(_EXIT)

    program = [
        _instruction(_LDX_W, 2, 1, 0),
        _instruction(_MOV_REG, 3, 2),
        _instruction(_AND, 3, value=0xFFFF),
        _instruction(_RSH, 2, value=16),
        _instruction(_JNE, 2, offset=2, value=_MKNOD),
        answer(1),
        _instruction(_JEQ, 3, offset=2, value=_CHARACTER),
        answer(0),
        _instruction(_LDX_W, 4, 1, 4),
        _instruction(_LDX_W, 5, 1, 8),
    ]
    for major, minor in ALLOWED:
        if minor is None:
            program.append(_instruction(_JNE, 4, offset=2, value=major))
        else:
            program.append(_instruction(_JNE, 4, offset=3, value=major))
            program.append(_instruction(_JNE, 5, offset=2, value=minor))
        program.append(answer(1))
    return b"".join([*program, answer(0)])


class RulesV1:
    """The rules as a cgroup of the devices hierarchy, of which each instance gets a child."""

    def __init__(self, parent: V1, label: str) -> None:
        self._group = V1(f"{parent.relative}/{label}", parent.layout, ("devices",))

    def of(self, name: str) -> V1:
        """The cgroup of instance *name*, to be created, joined and removed."""
        return self._group.child(name)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The rules exist inside this block."""
        self._group.create()
        try:
            (directory,) = self._group.paths()
            write(f"{directory}/devices.deny", "a")
            for line in v1_lines():
                write(f"{directory}/devices.allow", line)
            yield
        finally:
            self._group.remove()


class RulesV2:
    """The rules as a loaded program."""

    def __init__(self) -> None:
        self._program = -1

    def attach(self, group: V2) -> None:
        """Put *group*, which exists, under the rules."""
        fd = os.open(group.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.bpf_attach_device_program(fd, self._program)
        finally:
            os.close(fd)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The program is loaded inside this block; a cgroup keeps what is attached to it until it is removed."""
        self._program = syscalls.bpf_load_device_program(v2_program())
        try:
            yield
        finally:
            os.close(self._program)


def rules(parent: Cgroup, label: str) -> RulesV1 | RulesV2:
    """The rules for instances below *parent*; *label* names a cgroup of theirs beside the instances."""
    return RulesV1(parent, label) if isinstance(parent, V1) else RulesV2()
