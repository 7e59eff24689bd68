"""What an ELF file says before it is started: for which machine it is, and whether it needs libraries.

Source: include/uapi/linux/elf.h and elf-em.h in the kernel's source.
"""

from __future__ import annotations

import struct
from pathlib import Path

_PT_INTERP = 3
#: e_machine -> the word of the OCI image specification (Go's GOARCH).
_MACHINES = {62: "amd64", 183: "arm64", 40: "arm", 3: "386", 21: "ppc64le", 22: "s390x", 243: "riscv64"}
#: What a kernel of the first also starts.
_ALSO = {("amd64", "386"), ("arm64", "arm")}
_MOST_HEADER = 64 << 10


def machine(path: Path) -> str:
    """The machine of the ELF file *path*; empty for what is none, a number for a machine that nobody knows here."""
    head = _head(path)
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return ""
    (number,) = struct.unpack_from(_order(head) + "H", head, 18)
    return _MACHINES.get(number, f"machine {number}")


def runs_on(found: str, here: str) -> bool:
    """Whether a file of the machine *found* starts on a host of the machine *here*."""
    return found in ("", here) or (here, found) in _ALSO


def is_static(path: Path) -> bool:
    """Whether *path* is an ELF file of 64 bits that starts without a loader of libraries."""
    head = _head(path)
    if len(head) < 64 or head[:5] != b"\x7fELF\x02":
        return False
    order = _order(head)
    (table,) = struct.unpack_from(order + "Q", head, 32)
    entry_bytes, entries = struct.unpack_from(order + "HH", head, 54)
    places = [table + index * entry_bytes for index in range(entries)]
    kinds = [struct.unpack_from(order + "I", head, at)[0] for at in places if at + 4 <= len(head)]
    return len(kinds) == entries and _PT_INTERP not in kinds


def _order(head: bytes) -> str:
    return ">" if head[5:6] == b"\x02" else "<"


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_HEADER)
    except OSError:
        return b""
