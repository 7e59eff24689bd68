"""System calls that are newer than a profile: ENOSYS, "there is no such call", instead of what the profile does to
others.

A C library tries a new call first and falls back to an old one on ENOSYS, and on nothing else. A profile that was
written before the call was, and whose default is an error or a kill, would break every program on a new kernel. So,
as in runc, a call whose number is higher than that of every call that the profile names gets ENOSYS. Numbers are
given out in order.

Sources: linux/filter.h, linux/seccomp.h, linux/audit.h (AUDIT_ARCH_*).
"""

from __future__ import annotations

import errno
import struct

_LD, _JEQ, _JGT, _JGE, _RET = 0x20, 0x15, 0x25, 0x35, 0x06
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_ENOSYS = 0x00050000 | errno.ENOSYS  # SECCOMP_RET_ERRNO
#: Calls of the x32 ABI have this bit in their number, and the architecture of x86-64.
_X32 = 0x40000000
#: The architectures of the machines that this runtime starts programs on (:mod:`machine_code`).
ARCHITECTURES = {"x86_64": 0xC000003E, "x32": 0xC000003E, "x86": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}


def answered(program: bytes, last: dict[str, int]) -> bytes:
    """A check for newer calls, followed by *program*; *last* maps architectures to the highest number that it knows."""
    made = b""
    for name, token in ARCHITECTURES.items():
        if name in last and name != "x32":
            made += _block(token, last[name], last.get("x32", 0) if name == "x86_64" else 0)
    return made + program


def _block(token: int, last: int, last_x32: int) -> bytes:
    body = [(_LD, 0, 0, _NUMBER), (_JGE, 2, 0, _X32), (_JGT, 0, 1, last), (_RET, 0, 0, _ENOSYS)]
    if last_x32:
        body += [(_JGT, 0, 1, last_x32), (_RET, 0, 0, _ENOSYS)]
    whole = [(_LD, 0, 0, _ARCHITECTURE), (_JEQ, 0, len(body), token), *body]
    return b"".join(struct.pack("=HBBI", *each) for each in whole)
