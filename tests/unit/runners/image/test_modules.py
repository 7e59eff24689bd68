"""Modules of the guest kernel: which come out of a package, in which order they load, and what the guest is given."""

from __future__ import annotations

import io
import lzma
import os
from pathlib import Path

import pytest

from tare.runners.base import RunnerError
from tare.runners.image import modules


@pytest.fixture
def kernel(tmp_path: Path) -> Path:
    """Modules that say what they need as real ones do, in the middle of other bytes."""
    directory = tmp_path / "kernel"
    directory.mkdir()
    needs = {"ring": "", "virtio": "ring", "modern": "", "virtio_pci": "modern,virtio", "balloon": "virtio,ring"}
    for name, depends in needs.items():
        info = f"\0license=GPL\0depends={depends}\0retpoline=Y\0".encode()
        (directory / f"{name}.ko").write_bytes(b"\x7fELF" + bytes(60) + info + os.urandom(8))
    return directory


def order(directory: Path, *wanted: str) -> list[str]:
    files = modules.order(directory, wanted)
    assert all(file.is_file() for file in files)
    return [file.stem for file in files]


def test_each_module_comes_after_those_that_it_needs_and_once(kernel: Path) -> None:
    assert order(kernel, "virtio_pci", "balloon") == ["modern", "ring", "virtio", "virtio_pci", "balloon"]


def test_they_are_found_in_the_tree_of_a_package_too(kernel: Path) -> None:
    below = kernel / "kernel" / "lib"
    below.mkdir(parents=True)
    (kernel / "virtio.ko").rename(below / "virtio.ko")
    (kernel / "crc-own.ko").write_bytes(b"\0depends=virtio\0")
    (below / "net.ko").write_bytes(b"\0depends=crc-own\0")
    assert order(kernel, "net") == ["ring", "virtio", "crc-own", "net"]


def test_what_is_built_in_is_not_loaded(kernel: Path) -> None:
    (kernel / "virtio_pci.ko").unlink()
    (kernel / "modules.builtin").write_text("kernel/drivers/virtio/virtio-pci.ko\nkernel/drivers/virtio/ring.ko\n")
    assert order(kernel, "virtio_pci", "balloon") == ["virtio", "balloon"]


def test_a_module_that_is_not_there_is_named_with_what_to_do(kernel: Path) -> None:
    (kernel / "ring.ko").unlink()
    with pytest.raises(RunnerError, match="no module ring") as caught:
        modules.order(kernel, ("balloon",))
    assert "option kernel" in caught.value.fix


@pytest.mark.compiler
def test_the_tree_holds_the_loader_and_the_modules_in_order(kernel: Path, tmp_path: Path) -> None:
    found = modules.tree(kernel, ("balloon",), tmp_path / "cache")
    assert (found / "modules" / "order").read_text() == "ring.ko\nvirtio.ko\nballoon.ko\n"
    assert (found / "modules" / "ring.ko").read_bytes() == (kernel / "ring.ko").read_bytes()
    assert os.access(found / modules.LOADER.lstrip("/"), os.X_OK)
    assert modules.tree(kernel, ("balloon",), tmp_path / "cache") == found
    (kernel / "ring.ko").write_bytes(b"another")
    assert modules.tree(kernel, ("balloon",), tmp_path / "cache") != found


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("./lib/modules/6.1.0-56-cloud-amd64/kernel/drivers/virtio/virtio_pci.ko", "virtio_pci"),
        ("./usr/lib/modules/6.12.57/kernel/drivers/virtio/virtio.ko.xz", "virtio"),
        ("./lib/modules/6.1.0/kernel/drivers/net/virtio_net.ko", "virtio_net"),
        ("./lib/modules/6.1.0/kernel/net/core/failover.ko.xz", "failover"),
        ("./lib/modules/6.1.0/kernel/fs/overlayfs/overlay.ko", "overlay"),
        ("./lib/modules/6.1.0/kernel/fs/ext4/ext4.ko", "ext4"),
        ("./lib/modules/6.1.0/kernel/drivers/net/ethernet/intel/e1000/e1000.ko", None),
        ("./lib/modules/6.1.0/kernel/drivers/virtio/", None),
        ("./boot/vmlinuz-6.1.0", None),
    ],
)
def test_modules_of_virtual_devices_are_taken_packed_or_not(path: str, name: str | None) -> None:
    data = lzma.compress(b"module") if path.endswith(".xz") else b"module"
    assert modules.member(path, io.BytesIO(data)) == (None if name is None else (name, b"module"))
