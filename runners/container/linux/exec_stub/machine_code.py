"""The instructions of the small program of :mod:`stub`, for the machines that it is written for.

It goes through a table at :data:`DATA_AT` + 16, of rows of eight words: the number of a system call (negative: the
end), five arguments, one unused, and flags. Flags: the low byte says in words what the call is for
(:data:`stub.WHAT`), :data:`REPORT` puts the report's descriptor in the place of the first argument, :data:`LISTENER`
stores the call's result plus one at :data:`DATA_AT` and waits, without a system call, for a number that is not zero
at :data:`DATA_AT` + 8. It looks 2**28 times, no more, since whoever should write it may be dead: that is eight seconds
where the processor pauses for some hundred cycles each time, and far less where it does not. Then it calls execve.
What fails is written to the report, as ``flags << 16 | errno``; where a filter forbids even to exit, it runs into an
instruction that kills it.

Registers at entry: the stack pointer is at argc, argv..., NULL, envp..., NULL (System V ABI). The two bytes of
``argv[0]`` are the report's descriptor as (byte - 1) * 255 + byte - 1: a byte of zero would end the text.
"""

from __future__ import annotations

import _struct as struct  # without the module around it: a file less to read at each start

#: In the file: two headers of programs, then the instructions, in a room that all machines' fit into, then the data.
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

_X86_64 = bytes.fromhex(
    "8b1c24"  # mov ebx, [rsp]               argc
    "4c8b642408"  # mov r12, [rsp+8]         argv[0]
    "450fb62c24"  # movzx r13d, byte [r12]
    "41ffcd"  # dec r13d
    "4569edff000000"  # imul r13d, r13d, 255
    "410fb6442401"  # movzx eax, byte [r12+1]
    "458d6c05ff"  # lea r13d, [r13+rax-1]    the report
    "41beb0016000"  # mov r14d, 0x6001b0     DATA_AT
    "4d8d7e10"  # lea r15, [r14+16]          the table
    # next:
    "498b07"  # mov rax, [r15]
    "4885c0"  # test rax, rax
    "784f"  # js run
    "498b7f08"  # mov rdi, [r15+8]
    "498b7710"  # mov rsi, [r15+16]
    "498b5718"  # mov rdx, [r15+24]
    "4d8b5720"  # mov r10, [r15+32]
    "4d8b4728"  # mov r8, [r15+40]
    "41f6473901"  # test byte [r15+57], 1    REPORT
    "410f45fd"  # cmovne edi, r13d
    "0f05"  # syscall
    "4885c0"  # test rax, rax
    "7841"  # js failed
    "41f6473902"  # test byte [r15+57], 2    LISTENER
    "741e"  # jz done
    "ffc0"  # inc eax
    "418906"  # mov [r14], eax
    "b900000010"  # mov ecx, 0x10000000
    # wait:
    "f390"  # pause
    "41837e0800"  # cmp dword [r14+8], 0
    "750b"  # jne done
    "ffc9"  # dec ecx
    "75f3"  # jne wait
    "b892ffffff"  # mov eax, -110            ETIMEDOUT
    "eb1c"  # jmp failed
    # done:
    "4983c740"  # add r15, 64
    "eba9"  # jmp next
    # run:
    "488b7c2410"  # mov rdi, [rsp+16]        argv[1]: the path
    "488d742418"  # lea rsi, [rsp+24]        argv[2:]
    "488d54dc10"  # lea rdx, [rsp+rbx*8+16]
    "b83b000000"  # mov eax, 59              execve
    "0f05"  # syscall
    # failed:
    "f7d8"  # neg eax
    "410fb64f38"  # movzx ecx, byte [r15+56]
    "c1e110"  # shl ecx, 16
    "09c8"  # or eax, ecx
    "50"  # push rax
    "4489ef"  # mov edi, r13d
    "4889e6"  # mov rsi, rsp
    "ba04000000"  # mov edx, 4
    "b801000000"  # mov eax, 1               write
    "0f05"  # syscall
    "bf7f000000"  # mov edi, 127
    "b8e7000000"  # mov eax, 231             exit_group
    "0f05"  # syscall
    "f4"  # hlt                              a privileged instruction
)

_AARCH64 = (
    0xF94003F3,  # ldr x19, [sp]              argc
    0xF94007F4,  # ldr x20, [sp, #8]          argv[0]
    0x39400295,  # ldrb w21, [x20]
    0x510006B5,  # sub w21, w21, #1
    0x52801FF8,  # mov w24, #255
    0x1B187EB5,  # mul w21, w21, w24
    0x39400698,  # ldrb w24, [x20, #1]
    0x0B1802B5,  # add w21, w21, w24
    0x510006B5,  # sub w21, w21, #1           the report
    0xD2A00C16,  # mov x22, #0x600000
    0xF2803616,  # movk x22, #0x1b0           DATA_AT
    0x910042D7,  # add x23, x22, #16          the table
    # next:
    0xF94002E8,  # ldr x8, [x23]
    0xB7F802C8,  # tbnz x8, #63, run
    0xA94086E0,  # ldp x0, x1, [x23, #8]
    0xA9418EE2,  # ldp x2, x3, [x23, #24]
    0xF94016E4,  # ldr x4, [x23, #40]
    0xB9403AF8,  # ldr w24, [x23, #56]
    0x7218031F,  # tst w24, #0x100            REPORT
    0x9A8012A0,  # csel x0, x21, x0, ne
    0xD4000001,  # svc #0
    0xB7F80280,  # tbnz x0, #63, failed
    0x36480178,  # tbz w24, #9, done          LISTENER
    0x11000400,  # add w0, w0, #1
    0xB90002C0,  # str w0, [x22]
    0x52A20001,  # mov w1, #0x10000000
    # wait:
    0xD503203F,  # yield
    0xB9400AC2,  # ldr w2, [x22, #8]
    0x350000A2,  # cbnz w2, done
    0x71000421,  # subs w1, w1, #1
    0x54FFFF81,  # b.ne wait
    0x92800DA0,  # mov x0, #-110              ETIMEDOUT
    0x14000009,  # b failed
    # done:
    0x910102F7,  # add x23, x23, #64
    0x17FFFFEA,  # b next
    # run:
    0xF9400BE0,  # ldr x0, [sp, #16]          argv[1]: the path
    0x910063E1,  # add x1, sp, #24            argv[2:]
    0x910043E2,  # add x2, sp, #16
    0x8B130C42,  # add x2, x2, x19, lsl #3
    0xD2801BA8,  # mov x8, #221               execve
    0xD4000001,  # svc #0
    # failed:
    0x4B0003E0,  # neg w0, w0
    0x3940E2F8,  # ldrb w24, [x23, #56]
    0x2A184000,  # orr w0, w0, w24, lsl #16
    0xF81F0FE0,  # str x0, [sp, #-16]!
    0x910003E1,  # mov x1, sp
    0x2A1503E0,  # mov w0, w21
    0xD2800082,  # mov x2, #4
    0xD2800808,  # mov x8, #64                write
    0xD4000001,  # svc #0
    0xD2800FE0,  # mov x0, #127
    0xD2800BC8,  # mov x8, #94                exit_group
    0xD4000001,  # svc #0
    0xD4200000,  # brk #0
)


def code(machine: str) -> bytes:
    """The instructions for *machine*, one of :data:`MACHINES`."""
    return _X86_64 if machine == "x86_64" else struct.pack(f"<{len(_AARCH64)}I", *_AARCH64)
