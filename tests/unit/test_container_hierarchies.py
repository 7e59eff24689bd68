"""What is done to cgroup directories, on ordinary ones: rmdir refuses what is not empty there, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from runners.container import hierarchies


def test_directories_that_are_empty_or_gone_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert hierarchies.removed([str(tmp_path / "a"), str(tmp_path / "never")])
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_in_use_stays_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "busy" / "child").mkdir(parents=True)
    assert not hierarchies.removed([str(tmp_path / "busy")])
    assert (tmp_path / "busy" / "child").is_dir()


def test_a_long_file_is_read_whole_and_odd_bytes_come_back(tmp_path: Path) -> None:
    content = b"x" * 200_000 + b"\xff\n"
    (tmp_path / "long").write_bytes(content)
    assert hierarchies.read(str(tmp_path / "long")).encode(errors="surrogateescape") == content


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        hierarchies.read(str(tmp_path))
    assert caught.value.filename == str(tmp_path)
