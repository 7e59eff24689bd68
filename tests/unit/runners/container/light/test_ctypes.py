"""The light ctypes does what ctypes does."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tare.runners.container.light import ctypes as light

ROOT = Path(__file__).resolve().parents[5]


@pytest.mark.parametrize("name", ["c_int", "c_uint", "c_long", "c_ulong", "c_size_t", "c_char_p"])
def test_its_types_are_as_wide_as_those_of_ctypes(name: str) -> None:
    assert ctypes.sizeof(getattr(light, name)) == ctypes.sizeof(getattr(ctypes, name))


def test_a_function_returns_an_int_and_leaves_its_error_number() -> None:
    library = light.Library()
    library.umount2.argtypes = (light.c_char_p, light.c_int)
    assert library.umount2(b"/absent/for/sure", 0) == -1
    assert light.get_errno() in (errno.ENOENT, errno.EPERM)


def test_long_results_keep_their_upper_half() -> None:
    library = light.Library()
    library.strtol.restype = light.c_long
    library.strtol.argtypes = (light.c_char_p, light.c_char_p, light.c_int)
    assert library.strtol(b"-4294967298", None, 10) == -4294967298


def test_a_value_can_be_written_by_c() -> None:
    library, number = light.Library(), light.c_int(-1)
    reader, writer = os.pipe()
    os.write(writer, (7).to_bytes(4, sys.byteorder))
    library.read.argtypes = (light.c_int, light.c_ulong, light.c_size_t)
    assert library.read(reader, light.addressof(number), 4) == 4
    assert number.value == 7
    os.close(reader)
    os.close(writer)


def test_a_buffer_holds_its_content_at_its_address() -> None:
    made = light.create_string_buffer(b"a\0b", 5)
    assert ctypes.string_at(light.addressof(made), 5) == b"a\0b\0\0"


def test_a_function_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_function"):
        _ = light.Library().no_such_function


def test_ctypes_is_not_imported_on_the_way_to_a_container() -> None:
    start = "import sys; sys.path.insert(0, 'runners'); import container.setup.parent, container.cli.main"
    code = f"{start}; print('ctypes' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "False\n"
