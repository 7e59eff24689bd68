"""A disk with one sector that a machine boots: it says a text on the first serial port, and again when it is asked."""

from __future__ import annotations

from pathlib import Path

#: Writes the text after it to COM1; then again, for each byte that comes in there.
SECTOR = bytes.fromhex(
    "31c0 8ed8 be217c baf803 fc ac 84c0 7403 ee ebf8"  # si = text; dx = 0x3f8; lodsb, out until a NUL
    "bafd03 ec a801 74fb baf803 ec ebe3"  # wait for a byte in; take it, and begin again
)
_BYTES = 8 << 20


def bootable(file: Path, text: bytes = b"\ntare ready\n") -> Path:
    """Make *file* a disk whose first sector says *text*."""
    with file.open("wb") as stream:
        stream.write((SECTOR + text + b"\0").ljust(510, b"\0") + b"\x55\xaa")
        stream.truncate(_BYTES)
    return file
