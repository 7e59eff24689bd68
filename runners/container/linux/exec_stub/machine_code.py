"""The instructions of the small program of :mod:`stub`, for the machines that it is written for.

The sources are x86_64.S and aarch64.S in this directory; the bytes are here, since a host may have no assembler.

The program goes through a table at :data:`DATA_AT` + 16, of rows of eight words: the number of a system call (negative:
the end), five arguments, one unused, and flags. Flags: the low byte says in words what the call is for
(:data:`stub.WHAT`), :data:`REPORT` puts the report's descriptor in the place of the first argument, :data:`LISTENER`
stores the call's result plus one at :data:`DATA_AT` and waits, without a system call, for a number that is not zero
at :data:`DATA_AT` + 8. It reads at most 2**28 times, since the process that should write the number may have died: that
takes eight seconds if the processor pauses for some hundred cycles each time, and far less if it does not. Then it
calls execve. What fails is written to the report, as ``flags << 16 | errno``. If a filter forbids even exit, an invalid
instruction kills it.

Registers at entry: the stack pointer is at argc, argv..., NULL, envp..., NULL (System V ABI). The two bytes of
``argv[0]`` are the report's descriptor as (byte - 1) * 255 + byte - 1: a zero byte would end the text.
"""

from __future__ import annotations

#: In the file: two program headers; the instructions, with enough space for those of any machine; the data.
HEADERS = 64 + 2 * 56  # struct Elf64_Ehdr and two Elf64_Phdr
ROOM = 256
#: The file is mapped twice: for the processor to execute, and to read and write the data.
CODE_BASE, DATA_BASE = 0x400000, 0x600000
DATA_AT = DATA_BASE + HEADERS + ROOM

REPORT, LISTENER = 1 << 8, 2 << 8

#: uname's machine -> e_machine of elf.h, numbers of system calls (the kernel's syscall_64.tbl, asm-generic/unistd.h).
MACHINES = {"x86_64": 62, "aarch64": 183}
NUMBERS = {
    "x86_64": {"fcntl": 72, "write": 1, "prctl": 157, "capset": 126, "seccomp": 317, "prlimit64": 302},
    "aarch64": {"fcntl": 25, "write": 64, "prctl": 167, "capset": 91, "seccomp": 277, "prlimit64": 261},
}

#: The two sources in this directory, assembled. A test assembles them again, and prints what belongs here.
_CODE = {
    "x86_64": bytes.fromhex(
        "8b1c244c8b642408450fb62c2441ffcd4569edff000000410fb6442401458d6c"
        "05ff41beb00160004d8d7e10498b074885c0784f498b7f08498b7710498b5718"
        "4d8b57204d8b472841f6473901410f45fd0f054885c0784141f6473902741eff"
        "c0418906b900000010f39041837e0800750bffc975f3b892ffffffeb1c4983c7"
        "40eba9488b7c2410488d742418488d54dc10b83b0000000f05f7d8410fb64f38"
        "c1e11009c8504489ef4889e6ba04000000b8010000000f05bf7f000000b8e700"
        "00000f05f4"
    ),
    "aarch64": bytes.fromhex(
        "f30340f9f40740f995024039b5060051f81f8052b57e181b98064039b502180b"
        "b5060051160ca0d2163680f2d7420091e80240f9c802f8b7e08640a9e28e41a9"
        "e41640f9f83a40b91f031872a012809a010000d48002f8b77801483600040011"
        "c00200b90100a2523f2003d5c20a40b9a20000352104007181ffff54a00d8092"
        "09000014f7020191eaffff17e00b40f9e1630091e2430091420c138ba81b80d2"
        "010000d4e003004bf8e240390040182ae00f1ff8e1030091e003152a820080d2"
        "080880d2010000d4e00f80d2c80b80d2010000d4000020d4"
    ),
}


def code(machine: str) -> bytes:
    """The instructions for *machine*, one of :data:`MACHINES`."""
    return _CODE[machine]
