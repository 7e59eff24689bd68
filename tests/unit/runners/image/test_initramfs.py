"""The initramfs writer: read back by an independent reader, and one header compared byte by byte."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from tare.runners.base import RunnerError
from tare.runners.image import initramfs, rootfs
from tests.cpio import read

#: ``printf hello > a; echo a | cpio -o -H newc`` of GNU cpio 2.13, with inode 1, time and device 0. The fields: magic,
#: inode, mode 100644, uid, gid, links, time, size 5, device of the file and device that it is (two each), length of the
#: name with its NUL, checksum; then name and data, each padded to four bytes.
RECORDED = (
    b"070701 00000001 000081A4 00000000 00000000 00000001 00000000 00000005 "
    b"00000000 00000000 00000000 00000000 00000002 00000000 "
).replace(b" ", b"") + b"a\0hello\0\0\0"


def archive(tree: Path) -> bytes:
    stream = io.BytesIO()
    initramfs.write(stream, tree)
    return stream.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "sh").write_bytes(b"#!")
    (root / "bin" / "sh").chmod(0o755)
    (root / "bin-2").mkdir()
    (root / "link").symlink_to("bin//sh")
    (root / "odd").write_bytes(b"12345")
    (root / "odd").chmod(0o4711)
    return root


def test_a_recorded_entry_is_written_the_same(tmp_path: Path) -> None:
    stream = io.BytesIO()
    writer = initramfs._Writer(stream)
    writer.header("a", stat.S_IFREG | 0o644, size_bytes=5)
    writer.data(b"hello")
    assert stream.getvalue() == RECORDED


def test_everything_comes_back(tree: Path) -> None:
    entries = read(archive(tree))
    assert entries["odd"].data == b"12345"
    assert entries["odd"].mode == stat.S_IFREG | 0o4711
    assert entries["link"].data == b"bin//sh"
    assert stat.S_ISLNK(entries["link"].mode)
    assert stat.S_ISDIR(entries["bin"].mode)
    assert {(entry.owner, entry.mtime) for entry in entries.values()} == {((0, 0), 0)}


def test_a_directory_comes_before_what_is_in_it(tree: Path) -> None:
    names = list(read(archive(tree)))
    assert names.index("bin") < names.index("bin/sh") < names.index("bin-2")


def test_device_nodes_are_added_without_privilege(tree: Path) -> None:
    entries = read(archive(tree))
    assert entries["dev/ttyS1"].device == (4, 65)
    assert entries["dev/console"].device == (5, 1)
    assert entries["dev/null"].mode == stat.S_IFCHR | 0o666
    assert stat.S_ISDIR(entries["dev"].mode)


def test_a_file_at_a_device_s_place_gives_way(tree: Path) -> None:
    (tree / "dev").mkdir()
    (tree / "dev" / "null").write_bytes(b"not a device")
    assert read(archive(tree))["dev/null"].device == (1, 3)


def test_times_do_not_count_and_modes_do(tree: Path) -> None:
    first, digest = archive(tree), rootfs.digest(tree)
    os.utime(tree / "odd", (1, 1))
    assert (archive(tree), rootfs.digest(tree)) == (first, digest)
    (tree / "odd").chmod(0o700)
    assert archive(tree) != first
    assert rootfs.digest(tree) != digest


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "odd").write_bytes(b"12346"),
        lambda root: (root / "odd").rename(root / "even"),
        lambda root: (root / "new").mkdir(),
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("bin/sh")),
    ],
)
def test_the_digest_sees_every_change(tree: Path, change: object) -> None:
    before = rootfs.digest(tree)
    assert callable(change)
    change(tree)
    assert rootfs.digest(tree) != before


def test_it_is_made_once_and_kept_by_digest(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = initramfs.initramfs(cache, tree)
    stamp = first.stat().st_mtime_ns
    assert initramfs.initramfs(cache, tree) == first
    assert first.stat().st_mtime_ns == stamp
    assert list(cache.iterdir()) == [first]
    (tree / "odd").write_bytes(b"")
    assert initramfs.initramfs(cache, tree) != first


def test_a_root_filesystem_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="is not a directory"):
        initramfs.initramfs(tmp_path / "cache", tmp_path / "missing")


def test_too_large_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 1 << 32)  # sparse
    with pytest.raises(RunnerError, match="does not fit"):
        archive(tmp_path)


@pytest.mark.compiler
def test_the_built_in_root_filesystem(tmp_path: Path) -> None:
    root = rootfs.payload_root(tmp_path)
    assert rootfs.payload_root(tmp_path) == root
    assert os.access(root / "payload", os.X_OK)
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert {"proc", "sys", "dev", "run", "etc"} <= {path.name for path in root.iterdir()}
    assert (root / "etc" / "passwd").read_text().startswith("root:x:0:0:")


def test_of_two_trees_the_later_one_s_file_is_taken(tree: Path, tmp_path: Path) -> None:
    above = tmp_path / "above"
    (above / "bin").mkdir(parents=True)
    (above / "bin" / "sh").write_bytes(b"another")
    (above / "new").write_bytes(b"new")
    stream = io.BytesIO()
    initramfs.write(stream, tree, above)
    found = read(stream.getvalue())
    assert (found["bin/sh"].data, found["new"].data, found["odd"].data) == (b"another", b"new", b"12345")
    both = initramfs.initramfs(tmp_path / "cache", tree, above)
    assert both.read_bytes() == stream.getvalue()
    assert both != initramfs.initramfs(tmp_path / "cache", tree)
