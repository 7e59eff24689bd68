"""As much of ctypes as system calls need, by the same names. Replaces ``ctypes``, which saves 2.2 ms.

``import ctypes`` defines some forty types and looks for libraries. The C module below, ``_ctypes``, is all that is used
here. A test checks that it behaves as ctypes does.
"""

from __future__ import annotations

import _ctypes
from _ctypes import addressof, get_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import Array, c_char, c_char_p, c_int, c_long, c_size_t, c_uint, c_ulong
    from typing import Any
else:

    class c_int(_ctypes._SimpleCData):  # noqa: N801, D101 - ctypes' names
        _type_ = "i"

    class c_uint(_ctypes._SimpleCData):  # noqa: N801, D101
        _type_ = "I"

    class c_long(_ctypes._SimpleCData):  # noqa: N801, D101
        _type_ = "l"

    class c_ulong(_ctypes._SimpleCData):  # noqa: N801, D101
        _type_ = "L"

    class c_char(_ctypes._SimpleCData):  # noqa: N801
        _type_ = "c"

    class c_char_p(_ctypes._SimpleCData):  # noqa: N801, D101
        _type_ = "z"

    c_size_t = c_ulong  # Linux: both are as wide as a pointer


__all__ = [
    "Library",
    "addressof",
    "c_char_p",
    "c_int",
    "c_long",
    "c_size_t",
    "c_uint",
    "c_ulong",
    "create_string_buffer",
    "get_errno",
]


def create_string_buffer(content: bytes, size: int) -> Array[c_char]:
    """A writable array of *size* bytes that begins with *content*."""
    made = (c_char * size)()
    made.raw = content
    return made


class _Function(_ctypes.CFuncPtr):
    """A function of C, called with the interpreter lock held. It returns an int; :func:`get_errno` has its errno."""

    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = c_int


class Library:
    """The program's own libraries, as ``ctypes.PyDLL(None, use_errno=True)``: functions are attributes."""

    def __init__(self) -> None:
        self._handle = _ctypes.dlopen(None, 0)  # type: ignore[arg-type] # None: the program itself

    def __getattr__(self, name: str) -> Any:
        function = _Function((name, self))  # type: ignore[arg-type] # what counts is _handle
        setattr(self, name, function)
        return function
