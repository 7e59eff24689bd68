"""An emulated processor for programs that are made of bytes: it runs them from system call to system call.

The kernel is not there: a call is written down, and answers what the test says, 0 if nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import unicorn
from unicorn import arm64_const, x86_const

_STACK, _STACK_BYTES = 0x7F0000000000, 0x10000
_PAGE = 0x1000
_Uc: Any = unicorn.Uc  # type: ignore[attr-defined]  # it is, without types
#: unicorn's number of the interrupt that svc makes (qemu's EXCP_SWI).
_SUPERVISOR_CALL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """*elf* is e_machine; *calls* names system calls by number; registers are unicorn's."""

    elf: int
    calls: dict[int, str]
    architecture: int
    mode: int
    number: int
    arguments: tuple[int, ...]
    result: int
    stack: int
    counter: int


_X = x86_const
_A = arm64_const
MACHINES = {
    "x86_64": Machine(
        elf=62,
        calls={72: "fcntl", 1: "write", 157: "prctl", 126: "capset", 317: "seccomp", 59: "execve", 231: "exit_group"},
        architecture=unicorn.UC_ARCH_X86,
        mode=unicorn.UC_MODE_64,
        number=_X.UC_X86_REG_RAX,
        arguments=(_X.UC_X86_REG_RDI, _X.UC_X86_REG_RSI, _X.UC_X86_REG_RDX, _X.UC_X86_REG_R10, _X.UC_X86_REG_R8),
        result=_X.UC_X86_REG_RAX,
        stack=_X.UC_X86_REG_RSP,
        counter=_X.UC_X86_REG_RIP,
    ),
    "aarch64": Machine(
        elf=183,
        calls={25: "fcntl", 64: "write", 167: "prctl", 91: "capset", 277: "seccomp", 221: "execve", 94: "exit_group"},
        architecture=unicorn.UC_ARCH_ARM64,
        mode=unicorn.UC_MODE_ARM,
        number=_A.UC_ARM64_REG_X8,
        arguments=tuple(getattr(_A, f"UC_ARM64_REG_X{number}") for number in range(5)),
        result=_A.UC_ARM64_REG_X0,
        stack=_A.UC_ARM64_REG_SP,
        counter=_A.UC_ARM64_REG_PC,
    ),
}


class Processor:
    """One run of an ELF *image* with *argv* and the environment A=b. :attr:`calls` are (name, five arguments).

    A successful execve and, with *exits*, exit_group end it.
    """

    def __init__(self, machine: str, image: bytes, argv: list[bytes], *, exits: bool = True) -> None:
        self.machine = MACHINES[machine]
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.answers: dict[str, int] = {}
        self._exits = exits
        self._ended = False
        self._engine: Any = _Uc(self.machine.architecture, self.machine.mode)
        for header in range(2):
            _, flags, offset, address, _, size, _, _ = struct.unpack_from("<IIQQQQQQ", image, 64 + 56 * header)
            rights = (flags & 1) << 2 | (flags & 2) | (flags & 4) >> 2  # PF_X, PF_W, PF_R
            self._engine.mem_map(address, -(-size // _PAGE) * _PAGE, unicorn.UC_PROT_ALL)
            self._engine.mem_write(address, image[offset : offset + size])
            self._engine.mem_protect(address, -(-size // _PAGE) * _PAGE, rights)
        (self._at,) = struct.unpack_from("<Q", image, 24)
        self._engine.mem_map(_STACK, _STACK_BYTES)
        self._push(argv)
        if machine == "x86_64":
            self._engine.hook_add(unicorn.UC_HOOK_INSN, self._call, None, 1, 0, _X.UC_X86_INS_SYSCALL)
        else:
            self._engine.hook_add(unicorn.UC_HOOK_INTR, self._call)

    def _push(self, argv: list[bytes]) -> None:
        texts, pointers = _STACK + _STACK_BYTES // 2, [len(argv)]
        for text in (*argv, None, b"A=b", None):
            pointers.append(0 if text is None else texts)
            if text is not None:
                self._engine.mem_write(texts, text + b"\0")
                texts += len(text) + 1
        at = _STACK + _STACK_BYTES // 4
        self._engine.mem_write(at, struct.pack(f"<{len(pointers)}Q", *pointers))
        self._engine.reg_write(self.machine.stack, at)

    def _call(self, engine: Any, interrupt: object = None, *_: object) -> None:
        if interrupt not in (None, _SUPERVISOR_CALL):
            engine.emu_stop()  # an instruction that kills
            return
        number = engine.reg_read(self.machine.number)
        name = self.machine.calls.get(number, str(number))
        self.calls.append((name, tuple(engine.reg_read(each) for each in self.machine.arguments)))
        answer = self.answers.get(name, 0)
        if (name == "execve" and answer >= 0) or (name == "exit_group" and self._exits):
            self._ended = True
            engine.emu_stop()
            return
        if len(self.calls) > 50:
            raise AssertionError("it runs on where it should have ended")
        engine.reg_write(self.machine.result, answer & (1 << 64) - 1)

    def run(self, *, most: int = 0) -> None:
        """Run, *most* instructions if it is not 0. Raises RuntimeError where the program would be killed."""
        self._engine.emu_start(self._at, 0, count=most)
        self._at = self._engine.reg_read(self.machine.counter)
        if not self._ended and not most:
            raise RuntimeError(f"killed by the instruction at {self._at:#x}")

    def resume(self) -> None:
        """Go on where :meth:`run` stopped."""
        self.run()

    def read(self, at: int, size: int) -> bytes:
        """*size* bytes of its memory."""
        return bytes(self._engine.mem_read(at, size))

    def write(self, at: int, data: bytes) -> None:
        """Change its memory."""
        self._engine.mem_write(at, data)

    def text(self, at: int) -> bytes:
        """The text at *at*, up to its zero."""
        return self.read(at, 64).partition(b"\0")[0]

    def texts(self, at: int) -> list[bytes]:
        """The texts of a vector that ends with a null pointer."""
        found = []
        while pointer := int.from_bytes(self.read(at, 8), "little"):
            found.append(self.text(pointer))
            at += 8
        return found
