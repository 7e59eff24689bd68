"""The shapes of an image: read back by tarfile, and judged by the OCI image specification."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tare.runners.base import ImageConfig, RunnerError
from tare.runners.image import shapes, sources
from tare.runners.image.rootfs import digest
from tare.runners.image.shapes import disk, oci
from tare.runners.image.tree import Tree, plain
from tests.cpio import read

CONFIG = ImageConfig(command=("/bin/serve", "-p", "80"), env=(("A", "b"),), cwd="/srv", user="web", ports=(80,))


@pytest.fixture
def image(tmp_path: Path) -> Tree:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "serve").write_text("#!/bin/sh\n")
    (root / "bin" / "serve").chmod(0o4755)
    (root / "bin" / "again").hardlink_to(root / "bin" / "serve")
    (root / "sh").symlink_to("/bin/busybox")
    (root / ("long" * 50)).write_bytes(b"x" * 1000)
    os.mkfifo(root / "pipe")
    Path(os.fsdecode(os.fsencode(root) + b"/latin-\xe9")).touch()
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(root / "socket"))
    return Tree(source="dir:root", digest=digest(root), directory=root, cache=tmp_path / "cache", config=CONFIG)


def test_a_tar_has_all_that_an_image_has(image: Tree) -> None:
    made = image.shape("tar")
    with tarfile.open(made, encoding="utf-8", errors="surrogateescape") as archive:
        members = {member.name: member for member in archive}
        assert archive.extractfile("long" * 50).read() == b"x" * 1000  # type: ignore[union-attr]
    assert sorted(members) == sorted(["bin", "bin/again", "bin/serve", "latin-\udce9", "long" * 50, "pipe", "sh"])
    assert members["bin/serve"].mode == 0o4755
    assert (members["bin/serve"].islnk(), members["bin/serve"].linkname) == (True, "bin/again")
    assert members["sh"].linkname == "/bin/busybox"
    assert members["pipe"].isfifo()
    assert {(member.uid, member.uname) for member in members.values()} == {(os.geteuid(), "")}


def test_a_shape_is_made_once_and_the_same_content_gives_the_same_bytes(image: Tree, tmp_path: Path) -> None:
    made = image.shape("oci-archive")
    stamp = made.stat().st_mtime_ns
    assert made.stat().st_mode & 0o777 == 0o600  # an image may hold what only some of its users may read
    assert image.shape("oci-archive") == image.shape("docker-archive") == made
    assert made.stat().st_mtime_ns == stamp
    again = Tree(source="x", digest=image.digest, directory=image.directory, cache=tmp_path / "second", config=CONFIG)
    assert again.shape("oci-archive").read_bytes() == made.read_bytes()


def test_what_the_digest_leaves_out_makes_another_file(image: Tree) -> None:
    before = image.shape("tar")
    os.utime(image.directory / "sh", (1, 1), follow_symlinks=False)
    other = Tree(source="x", digest=image.digest, directory=image.directory, cache=image.cache, config=CONFIG)
    assert digest(image.directory) == image.digest
    assert other.shape("tar") != before


def test_an_oci_archive_is_what_the_specification_says(image: Tree) -> None:
    made = image.shape("oci-archive")
    with tarfile.open(made) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isreg()}
        blobs = {name: file.read() for name, file in files.items() if file is not None}

    def blob(descriptor: dict[str, Any]) -> bytes:
        text = blobs["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
        assert len(text) == descriptor["size"]
        assert "sha256:" + hashlib.sha256(text).hexdigest() == descriptor["digest"]
        return text

    assert json.loads(blobs["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(blobs["index.json"])["manifests"]
    assert set(entry["annotations"].values()) == {shapes.reference(made)}
    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    (layer,) = manifest["layers"]
    assert blob(layer) == image.shape("tar").read_bytes()
    assert config["rootfs"] == {"type": "layers", "diff_ids": [layer["digest"]]}
    assert config["architecture"] == oci.architecture()
    assert config["config"] == {
        "Cmd": ["/bin/serve", "-p", "80"], "Env": ["A=b"], "User": "web", "WorkingDir": "/srv",
        "ExposedPorts": {"80/tcp": {}},
    }  # fmt: skip
    (older,) = json.loads(blobs["manifest.json"])
    assert older["Layers"] == ["blobs/sha256/" + layer["digest"].removeprefix("sha256:")]
    assert json.loads(blobs[older["Config"]]) == config
    assert older["RepoTags"] == [shapes.reference(made)]


def test_an_image_that_is_not_read_has_no_shape(tmp_path: Path) -> None:
    for image in (sources.find("host", tmp_path), plain(tmp_path)):
        with pytest.raises(RunnerError, match=r"cannot be made a tar.*not read as a whole") as caught:
            image.shape("tar")
        assert "dir:PATH" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


def test_a_shape_that_nobody_knows_is_refused_with_those_that_are(image: Tree) -> None:
    with pytest.raises(RunnerError, match="no shape 'squashfs'") as caught:
        image.shape("squashfs")
    assert caught.value.fix == "known: tar, initramfs, ext4, machine, oci-archive, docker-archive"


def given_away(image: Tree) -> Tree:
    """*image*, one file of which belongs to somebody else."""
    os.chown(image.directory / "bin" / "serve", 33, 44)
    (image.directory / "bin" / "serve").chmod(0o4755)  # chown(2) takes the bit away
    return image


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_initramfs_keeps_owners(image: Tree) -> None:
    made = given_away(image).shape("initramfs")
    assert made.suffix == ".cpio"
    entries = read(made.read_bytes())
    assert entries["bin/serve"].owner == (33, 44)
    assert {entries[path].owner for path in ("bin", "sh", "dev/console")} == {(0, 0)}
    assert entries["bin/serve"].mode & 0o7777 == 0o4755


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_disk_has_all_files_with_modes_and_owners(image: Tree) -> None:
    (image.directory / "large").write_bytes(os.urandom(9 << 20))
    made = given_away(image).shape("ext4")
    assert subprocess.run(["/usr/sbin/e2fsck", "-fn", made], capture_output=True, check=False).returncode == 0
    done = subprocess.run(
        ["/usr/sbin/debugfs", "-R", "stat /bin/serve", made], capture_output=True, text=True, check=True
    )
    assert "Mode:  04755" in done.stdout
    assert re.search(r"User: +33 +Group: +44 ", done.stdout)
    subprocess.run(["/usr/sbin/debugfs", "-R", f"dump /large {made}.large", made], capture_output=True, check=True)
    assert Path(f"{made}.large").read_bytes() == (image.directory / "large").read_bytes()


def test_a_disk_of_many_small_files_has_room_for_all(image: Tree) -> None:
    for folder in range(40):
        (image.directory / f"{folder}").mkdir()
        for number in range(50):
            (image.directory / f"{folder}" / f"{'x' * 200}{number}").write_bytes(b"x" * (number % 3))
    assert image.shape("ext4").stat().st_size < 32 << 20


def test_a_disk_needs_mke2fs(image: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "PLACES", "/nowhere")
    with pytest.raises(RunnerError, match="no mke2fs") as caught:
        image.shape("ext4")
    assert "e2fsprogs" in caught.value.fix


@pytest.mark.skipif(os.geteuid() != 0, reason="a file capability is set by root")
def test_file_capabilities_are_kept(image: Tree) -> None:
    # struct vfs_ns_cap_data, linux/capability.h: version 2, CAP_NET_RAW permitted and effective
    held = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(image.directory / "bin" / "again", "security.capability", held)
    with tarfile.open(image.shape("tar"), encoding="utf-8", errors="surrogateescape") as archive:
        said = archive.getmember("bin/again").pax_headers["SCHILY.xattr.security.capability"]
    assert said.encode("utf-8", "surrogateescape") == held
