"""The file that holds all modules of the container runtime: made once, believed only while the sources are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tare.runners.container.light import one_file

PACKED = Path(one_file.__file__)
ASK = "import sys; sys.path.insert(0, sys.argv[1]); import one_file; one_file.install('pkg', sys.argv[1] + '/pkg'); "


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "one_file.py").write_text(PACKED.read_text())
    package = tmp_path / "pkg"
    package.mkdir()
    (package / "__init__.py").write_text('"""A package."""\n')
    (package / "word.py").write_text("from . import other\nWORD = 'one'\n")
    (package / "other.py").write_text('"""Long."""\nNUMBER = 1\n')
    return package


def ask(package: Path, code: str = "from pkg import word; print(word.WORD, word.other.NUMBER)") -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", ASK + code, str(package.parent)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def the_pack(package: Path) -> Path:
    (found,) = (package / "__pycache__").iterdir()
    return found


def test_the_first_start_makes_it_and_the_next_believes_it(package: Path) -> None:
    assert ask(package) == "one 1"
    made = the_pack(package).stat()
    # What the stamp cannot see shows whether the pack was read: another text of the same size and time.
    source = package / "word.py"
    before = source.stat()
    source.write_text(source.read_text().replace("one", "two"))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ask(package) == "one 1"
    assert the_pack(package).stat().st_mtime_ns == made.st_mtime_ns


def test_a_changed_source_counts(package: Path) -> None:
    ask(package)
    (package / "word.py").write_text("from . import other\nWORD = 'three'\n")
    assert ask(package) == "three 1"
    assert ask(package) == "three 1"


def test_a_new_module_counts(package: Path) -> None:
    ask(package)
    (package / "later.py").write_text("WHEN = 'now'\n")
    assert ask(package, "from pkg import later; print(later.WHEN)") == "now"


@pytest.fixture
def room(package: Path) -> Path:
    room = package / "room"
    room.mkdir()
    (room / "__init__.py").write_text('"""A room."""\n')
    (room / "inner.py").write_text("from ..other import NUMBER\nfrom . import beside\n")
    (room / "beside.py").write_text("NUMBER = 2\n")
    return room


def test_a_room_is_in_the_pack_too(package: Path, room: Path) -> None:
    code = (
        "from pkg.room import inner; import pkg.room as r; print(inner.NUMBER, inner.beside.NUMBER, inner.__package__, "
    )
    code += "type(r.__spec__.loader).__name__, type(inner.__spec__.loader).__name__, r.__path__ == [r.__file__[:-12]])"
    for _ in range(2):
        assert ask(package, code) == "1 2 pkg.room _Finder _Finder True"


def test_what_changes_in_a_room_or_is_added_to_it_counts(package: Path, room: Path) -> None:
    code = "from pkg.room import beside; print(beside.NUMBER)"
    assert ask(package, code) == "2"
    (room / "beside.py").write_text("NUMBER = 345\n")
    assert ask(package, code) == "345"
    (room / "later.py").write_text("from .beside import NUMBER\n")
    assert ask(package, "from pkg.room import later; print(later.NUMBER)") == "345"


def test_a_module_knows_its_file_and_its_lines(package: Path) -> None:
    (package / "other.py").write_text("NUMBER = 1\ndef fail():\n    raise ValueError('here')\n")
    code = "import pkg.other as o\ntry:\n    o.fail()\nexcept ValueError as e:\n    "
    code += "print(o.__file__, e.__traceback__.tb_next.tb_lineno, o.__package__, o.__name__)"
    for _ in range(2):
        assert ask(package, f"exec({code!r})") == f"{package}/other.py 3 pkg pkg.other"


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_damaged_pack_is_made_again(package: Path, part: float) -> None:
    ask(package)
    whole = the_pack(package).read_bytes()
    the_pack(package).write_bytes(whole[: int(len(whole) * part)])
    assert ask(package) == "one 1"
    assert the_pack(package).read_bytes() == whole


def test_nonsense_is_no_pack(package: Path) -> None:
    ask(package)
    whole = the_pack(package).read_bytes()
    for nonsense in (b"\xff" * 40, b"\x08" + bytes(50), whole[:8] + b"i" + whole[9:]):
        the_pack(package).write_bytes(nonsense)
        assert ask(package) == "one 1"


def test_where_it_cannot_be_written_modules_are_found_all_the_same(package: Path) -> None:
    (package / "__pycache__").write_text("in the way")
    assert ask(package) == "one 1"
    assert (package / "__pycache__").read_text() == "in the way"


def test_who_may_not_write_imports_as_python_does(package: Path) -> None:
    """Root may write everywhere, so the answer of access(2) is given here."""
    code = "from pkg import word; print(type(word.__spec__.loader).__name__)"
    refused = ASK.replace("import one_file;", "import one_file; one_file.os.access = lambda *_: False;")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", refused + code, str(package.parent)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "SourceFileLoader"
    assert not (package / "__pycache__").exists()
    assert ask(package, code) == "_Finder"


def test_a_module_that_is_not_there_is_missing(package: Path) -> None:
    code = "try:\n    import pkg.nothing\nexcept ModuleNotFoundError as e:\n    print(e.name)"
    assert ask(package, f"exec({code!r})") == "pkg.nothing"
