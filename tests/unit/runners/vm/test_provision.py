"""A disk of an instance's own: what is copied, and what is left where that fails."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from tare.runners.base import RunnerError
from tare.runners.vm.domain import Disk
from tare.runners.vm.machines import place, provision

MIB = 1 << 20


@pytest.fixture
def base(tmp_path: Path) -> Disk:
    """64 MiB of disk, of which 1 MiB in the middle is not a hole, and the last bytes."""
    file = tmp_path / "base.raw"
    with file.open("wb") as stream:
        stream.truncate(64 * MIB)
        stream.seek(32 * MIB)
        stream.write(os.urandom(MIB))
        stream.seek(64 * MIB - 3)
        stream.write(b"end")
    return Disk(path=file, bus="sata", cache="none")


def test_a_copy_has_all_data_and_all_holes(base: Disk, tmp_path: Path) -> None:
    disk = provision.provide("copy", base, tmp_path / "own")
    assert (disk.path, disk.format, disk.bus, disk.cache) == (tmp_path / "own", "raw", "sata", "none")
    assert disk.path.read_bytes() == base.path.read_bytes()
    assert MIB <= provision.allocated_bytes(disk.path) < 3 * MIB


def test_a_disk_that_is_one_hole_is_copied(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.truncate(tmp_path / "empty", MIB)
    disk = provision.provide("copy", Disk(path=tmp_path / "empty"), tmp_path / "own")
    assert disk.path.read_bytes() == bytes(MIB)


def test_a_format_is_known_by_the_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"QFI\xfb\0\0\0\x03")
    assert provision.format_of(tmp_path / "disk") == "qcow2"
    (tmp_path / "disk").write_bytes(b"")
    assert provision.format_of(tmp_path / "disk") == "raw"


def test_an_overlay_needs_a_program(base: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_PLACES", "/nowhere")
    with pytest.raises(RunnerError, match="no program qemu-img") as caught:
        provision.provide("overlay", base, tmp_path / "own")
    assert "qemu-utils" in caught.value.fix


def test_a_file_system_that_shares_no_blocks_is_said(
    base: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int, _what: int, _other: int) -> int:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    with pytest.raises(RunnerError, match="shares no blocks") as caught:
        provision.provide("reflink", base, tmp_path / "own")
    assert "overlay" in caught.value.fix
    assert not (tmp_path / "own").exists()


def test_a_shared_copy_is_asked_of_the_kernel(base: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(fcntl, "ioctl", lambda _fd, what, _other: asked.append(what))
    assert provision.provide("reflink", base, tmp_path / "own").format == "raw"
    assert asked == [0x40049409]  # FICLONE


def test_a_disk_that_gets_full_leaves_nothing_and_says_how_much_is_free(
    base: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_base: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(place, "copy", full)
    with pytest.raises(RunnerError, match=r"No space left on device; \d+ MiB are free") as caught:
        provision.provide("copy", base, tmp_path / "own")
    assert "TARE_CACHE" in caught.value.fix
    assert not (tmp_path / "own").exists()
