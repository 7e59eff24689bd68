"""A program of some 200 bytes that executes another one: what a container's process is last before its program.

While a copy of the runtime waits in the container, ``/proc/self/exe`` is the host's Python. A program that is named so
(``#!/proc/self/exe`` in an image) would be that file, run with the image's libraries, and could wait and overwrite it
(CVE-2019-5736). So the runtime first becomes this program, out of a sealed file in memory (memfd_create(2)), and it
executes the container's: ``/proc/self/exe`` is then a file that nobody can write and that nobody else uses.

It is called with ``argv`` = (a byte that is the number of a descriptor, path, arguments...). It sets close-on-exec on
that descriptor and calls execve(path, arguments, environment); if that fails, it writes the error number there, as four
bytes, and exits with 127.
"""

from __future__ import annotations

import errno
import os
import struct

#: Added to the descriptor's number in ``argv[0]``: a byte of zero would end the text.
_BASE = 1
_LARGEST = 255 - _BASE
_FAILED = 127
_LOAD_AT = 0x400000
_HEADERS = 64 + 56  # struct Elf64_Ehdr and one Elf64_Phdr
_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 0x10
_F_ADD_SEALS, _ALL_SEALS = 1033, 0xF

# Registers at entry: the stack pointer is at argc, argv..., NULL, envp..., NULL (System V ABI).
_CODE = {
    "x86_64": (
        62,
        bytes.fromhex(
            "8b1c24"  # mov ebx, [rsp]          argc
            "4c8b642408"  # mov r12, [rsp+8]    argv[0]
            "450fb62c24"  # movzx r13d, byte [r12]
            "41ffcd"  # dec r13d                the descriptor
            "b848000000"  # mov eax, 72         fcntl
            "4489ef"  # mov edi, r13d
            "be02000000"  # mov esi, 2          F_SETFD
            "ba01000000"  # mov edx, 1          FD_CLOEXEC
            "0f05"  # syscall
            "85c0"  # test eax, eax
            "7816"  # js failed
            "488b7c2410"  # mov rdi, [rsp+16]   argv[1]: the path
            "488d742418"  # lea rsi, [rsp+24]   argv[2:]
            "488d54dc10"  # lea rdx, [rsp+rbx*8+16]
            "b83b000000"  # mov eax, 59         execve
            "0f05"  # syscall
            "f7d8"  # failed: neg eax
            "50"  # push rax
            "4489ef"  # mov edi, r13d
            "4889e6"  # mov rsi, rsp
            "ba04000000"  # mov edx, 4
            "b801000000"  # mov eax, 1          write
            "0f05"  # syscall
            "bf7f000000"  # mov edi, 127
            "b8e7000000"  # mov eax, 231        exit_group
            "0f05"  # syscall
        ),
    ),
    "aarch64": (
        183,
        b"".join(
            struct.pack("<I", word)
            for word in (
                0xF94003F3,  # ldr x19, [sp]          argc
                0xF94007F4,  # ldr x20, [sp, #8]      argv[0]
                0x39400295,  # ldrb w21, [x20]
                0x510006B5,  # sub w21, w21, #1
                0x2A1503E0,  # mov w0, w21
                0xD2800041,  # mov x1, #2
                0xD2800022,  # mov x2, #1
                0xD2800328,  # mov x8, #25            fcntl
                0xD4000001,  # svc #0
                0xB7F800E0,  # tbnz x0, #63, failed
                0xF9400BE0,  # ldr x0, [sp, #16]
                0x910063E1,  # add x1, sp, #24
                0x910043E2,  # add x2, sp, #16
                0x8B130C42,  # add x2, x2, x19, lsl #3
                0xD2801BA8,  # mov x8, #221           execve
                0xD4000001,  # svc #0
                0x4B0003E0,  # failed: neg w0, w0
                0xF81F0FE0,  # str x0, [sp, #-16]!
                0x910003E1,  # mov x1, sp
                0x2A1503E0,  # mov w0, w21
                0xD2800082,  # mov x2, #4
                0xD2800808,  # mov x8, #64            write
                0xD4000001,  # svc #0
                0xD2800FE0,  # mov x0, #127
                0xD2800BC8,  # mov x8, #94            exit_group
                0xD4000001,  # svc #0
            )
        ),
    ),
}


def _machine() -> str:
    return os.uname().machine


def why_not() -> str:
    """Why there is no such program here; empty where there is."""
    machine = _machine()
    return (
        ""
        if machine in _CODE
        else f"there is no code for {machine} to start a program with, only for {' '.join(_CODE)}"
    )


def image() -> bytes:
    """The program as an ELF file: one segment, readable and executable. Raises OSError on an unknown machine."""
    trouble = why_not()
    if trouble:
        raise OSError(errno.ENOEXEC, trouble)
    machine, code = _CODE[_machine()]
    entry, size = _LOAD_AT + _HEADERS, _HEADERS + len(code)
    # e_ident: ELF, 64 bit, little-endian, version 1; then ET_EXEC and so on.
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, machine, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_AT, _LOAD_AT, size, size, 0x10000)
    return header + segment + code


def make(*, least: int = 3) -> int:
    """A sealed file in memory that holds the program: a descriptor from *least* on, close-on-exec. Raises OSError."""
    import fcntl

    data = image()
    try:
        fd = os.memfd_create("tare-oci", _MFD_CLOEXEC | _MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        fd = os.memfd_create("tare-oci", _MFD_CLOEXEC | _MFD_ALLOW_SEALING)  # before Linux 6.3: always executable
    try:
        os.write(fd, data)
        fcntl.fcntl(fd, _F_ADD_SEALS, _ALL_SEALS)
        if fd >= least:
            return fd
        higher = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return higher


def words(report: int, path: str, argv: tuple[str, ...]) -> list[bytes]:
    """The program's argv: *report* is the descriptor for an error number. Raises OSError if that is too large."""
    if not 0 <= report <= _LARGEST:
        raise OSError(errno.EBADF, f"descriptor {report} cannot be handed on: at most {_LARGEST}")
    return [bytes((report + _BASE,)), os.fsencode(path), *map(os.fsencode, argv)]


def said(data: bytes, path: str) -> str:
    """What the program wrote, in words; what is no error number of it is returned as text."""
    if len(data) != 4:
        return data.decode(errors="replace").strip()
    (number,) = struct.unpack("=I", data)
    return f"cannot execute {path}: {os.strerror(number)}"
