"""Reads an x86 kernel image: its release, the compressed kernel in it, and whether that boots by PVH.

Sources: Documentation/arch/x86/boot.rst (the setup header) and include/xen/interface/elfnote.h in the kernel's source.
If a firmware gets the packed image, the guest unpacks it during the start that is timed. QEMU can start the unpacked
ELF file directly if it has the PVH entry note.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib

from tare.runners.base import RunnerError

#: XEN_ELFNOTE_PHYS32_ENTRY: the 32-bit physical address at which a PVH loader enters.
_PVH_NOTE = 18
_PT_NOTE = 4
_LZ4_LEGACY = 0x184C2102
_LZ4_BLOCK_BYTES = 8 << 20

#: First bytes of the payload -> compression; boot.rst, "payload_offset", with LZ4's whole magic.
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x7fELF", "none"),
)


class Unreadable(Exception):  # noqa: N818 - a finding about a file
    """The image may boot, but the kernel in it cannot be unpacked; the message says why."""


def check(image: bytes, origin: str) -> None:
    """Raise RunnerError unless *image* is a bzImage of boot protocol 2.08 (kernel 2.6.26) or later."""
    if len(image) < 0x250 or image[0x1FE:0x200] != b"\x55\xaa" or image[0x202:0x206] != b"HdrS":
        raise RunnerError(
            f"{origin} is not an x86 kernel image", "no boot signature and setup header", "give a bzImage"
        )
    (protocol,) = struct.unpack_from("<H", image, 0x206)
    if protocol < 0x0208:
        raise RunnerError(
            f"{origin} is a kernel that is too old", f"boot protocol {protocol >> 8}.{protocol & 255:02}, not 2.08"
        )


def release(image: bytes) -> str:
    """What ``uname -r`` would print in a guest that boots *image*; empty if the image does not hold it."""
    (offset,) = struct.unpack_from("<H", image, 0x20E)
    if not offset:
        return ""
    text = image[offset + 0x200 :].split(b"\0", 1)[0].decode(errors="replace")
    return text.split(" ", 1)[0]


def unpack(image: bytes) -> bytes:
    """The kernel in the bzImage *image*, an ELF file. Raises :class:`Unreadable`."""
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if not payload or len(payload) != length:
        msg = f"the setup header promises {length} bytes of payload, the file holds {len(payload)}"
        raise Unreadable(msg)
    kernel = _decompress(payload)
    if not kernel.startswith(b"\x7fELF"):
        msg = "the payload is not an ELF file"
        raise Unreadable(msg)
    return kernel


def _decompress(payload: bytes) -> bytes:
    method = next((name for magic, name in _MAGIC if payload.startswith(magic)), None)
    if method is None:
        msg = f"its payload begins with {payload[:4].hex()}, a compression that tare does not know"
        raise Unreadable(msg)
    if method == "none":
        return payload
    try:
        kernel = _lz4(payload) if method == "lz4" else _stream(method, payload)
    except ImportError as error:
        msg = f"it is packed with {method}, which needs the Python package {error.name}"
        raise Unreadable(msg) from error
    except (OSError, EOFError, ValueError, RuntimeError, lzma.LZMAError, zlib.error) as error:
        msg = f"its {method} payload is damaged: {error}"
        raise Unreadable(msg) from error
    # The kernel's build appends the unpacked size (scripts/Makefile.lib, size_append); gzip ends with it anyway.
    (promised,) = struct.unpack_from("<I", payload, len(payload) - 4)
    if len(kernel) & 0xFFFFFFFF != promised:
        msg = f"its {method} payload unpacks to {len(kernel)} bytes, not {promised}"
        raise Unreadable(msg)
    return kernel


def _stream(method: str, payload: bytes) -> bytes:
    """One compressed stream with bytes after it that are no part of it."""
    if method == "gzip":
        return zlib.decompressobj(wbits=31).decompress(payload)
    if method == "bzip2":
        return bz2.BZ2Decompressor().decompress(payload)
    if method == "zstd":
        return _zstd(payload)
    return lzma.LZMADecompressor(lzma.FORMAT_XZ if method == "xz" else lzma.FORMAT_ALONE).decompress(payload)


def _zstd(payload: bytes) -> bytes:
    import zstandard  # Ubuntu's kernels need it, Debian's do not

    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(payload)
    except zstandard.ZstdError as error:  # derived from Exception alone
        raise ValueError(str(error)) from error


def _lz4(payload: bytes) -> bytes:
    """LZ4's legacy frame: magic, then blocks of up to 8 MiB, each after its packed size, until the file ends.

    The package lz4 reads only the newer frame, so the blocks are cut out here. The last four bytes are the size.
    """
    import lz4.block

    kernel = bytearray()
    at = 4
    while at < len(payload) - 4:
        (size,) = struct.unpack_from("<I", payload, at)
        at += 4
        if size == _LZ4_LEGACY:  # frames may follow one another
            continue
        if size > len(payload) - 4 - at:
            msg = f"a block of {size} bytes at {at} goes beyond the end"
            raise ValueError(msg)
        kernel += lz4.block.decompress(payload[at : at + size], uncompressed_size=_LZ4_BLOCK_BYTES)
        at += size
    return bytes(kernel)


def boots_by_pvh(kernel: bytes) -> bool:
    """Whether the 64-bit ELF file *kernel* has the note that QEMU's ``-kernel`` needs to start it without unpacking."""
    if len(kernel) < 64 or kernel[:6] != b"\x7fELF\x02\x01":
        return False
    (table,) = struct.unpack_from("<Q", kernel, 32)
    entry_bytes, entries = struct.unpack_from("<HH", kernel, 54)
    for index in range(entries):
        at = table + index * entry_bytes
        if at + 40 > len(kernel):
            return False
        kind, _, offset, _, _, size = struct.unpack_from("<IIQQQQ", kernel, at)
        if kind == _PT_NOTE and _has_pvh_note(kernel[offset : offset + size]):
            return True
    return False


def _has_pvh_note(notes: bytes) -> bool:
    at = 0
    while at + 12 <= len(notes):
        name_bytes, data_bytes, kind = struct.unpack_from("<III", notes, at)
        name = notes[at + 12 : at + 12 + name_bytes].rstrip(b"\0")
        if name == b"Xen" and kind == _PVH_NOTE:
            return True
        at += 12 + (name_bytes + 3 & ~3) + (data_bytes + 3 & ~3)
    return False
